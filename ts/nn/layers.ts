import * as tf from '@tensorflow/tfjs-core';
import { dropPath } from '../ops/drop_path';
import { layerNorm } from '../ops/layer_norm';
import { inStorage } from '../ops/in_storage';
import { leavesRowsOut, linear, type LinearOptions } from '../ops/linear';
import { mlp, type MlpOptions } from '../ops/mlp';
import { patchEmbed } from '../ops/patch_embed';
import { scaleRows } from '../ops/scale_rows';
import type { Context, Policy } from './context';
import type { Init } from './init';
import type { Parameter } from './module';

/** What the linear map or MLP at the end of a residual branch does beside its products. */
export type BranchEnd = Pick<LinearOptions, 'residual' | 'rows' | 'fill'>;

/** What `Linear.apply` may fuse behind the product, and the rows that it may leave out (`LinearOptions`). */
export type LinearEpilogue = LinearOptions;

/** Tokens of which many are one and the same, such as the mask token: what is done to each alone has to be done to that one only once. */
export interface AlikeTokens {
  /** [...], 0 where a token is `row`, else 1. */
  others: tf.Tensor;
  /** [1, C], differentiable, in f32, so that gradients from several places add up there without copies. */
  row: tf.Tensor;
}

/** The options `rows` and `fill` of a linear map or MLP with which tokens that come out alike, or uncounted, cost it nothing. */
export function leftOut(alike: AlikeTokens | null, ...counted: (tf.Tensor | null)[]): { rows: tf.Tensor | null; fill: tf.Tensor | null } {
  return { rows: product(alike && alike.others, ...counted), fill: alike && inStorage(tf.reshape(alike.row, [alike.row.size]), 'f32') };
}

/** The product of those given, or null. */
function product(...factors: (tf.Tensor | null)[]): tf.Tensor | null {
  return factors.reduce((a, b) => (a && b ? tf.mul(a, b) : (a ?? b)), null);
}

/** y = x W^T + b for x [..., in]; weight [out, in], drawn with `init.weight`, bias zeros. */
export class Linear {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  /** `scale` multiplies the drawn weight (ViT's depth-dependent start). */
  constructor(inputs: number, outputs: number, init: Init, options: { bias?: boolean; scale?: number } = {}) {
    this.weight = init.weight([outputs, inputs], options.scale ?? 1);
    this.bias = options.bias === false ? null : init.constant([outputs], 0);
  }

  /** [..., in] -> act(x W^T + b) + residual, [..., out]. */
  apply(x: tf.Tensor, ctx: Policy, epilogue: LinearEpilogue = {}): tf.Tensor {
    return linear(x, this.weight.compute(ctx), this.bias?.value ?? null, epilogue);
  }

  /** The same with a bias [out] put together elsewhere (queries, keys and values), for tokens some of which are `alike`, or not `kept`. */
  applyWithBias(x: tf.Tensor, bias: tf.Tensor | null, ctx: Policy, alike: AlikeTokens | null = null, kept: tf.Tensor | null = null): tf.Tensor {
    const weight = this.weight.compute(ctx);
    return linear(x, weight, bias, leftOut(alike && { ...alike, row: linear(alike.row, weight, bias) }, kept));
  }
}

/** [1, 3C] -> [1, C], the value behind query and key, as a product takes it. */
export function valueOf(qkv: tf.Tensor, ctx: Policy): tf.Tensor {
  const channels = qkv.size / 3;
  return inStorage(tf.slice(inStorage(qkv, 'f32'), [0, 2 * channels], [1, channels]), ctx.precision);
}

/** A Linear that always has a bias. */
class BiasedLinear extends Linear {
  declare readonly bias: Parameter;

  constructor(inputs: number, outputs: number, init: Init, scale = 1) {
    super(inputs, outputs, init, { bias: true, scale });
  }
}

/** A convolution's weight [out, in, k, k] and bias with PyTorch's default start (or ViT's, through `init`). */
export class Conv {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(inputs: number, outputs: number, kernel: number, init: Init, law: 'fan_in' | 'trunc_normal' = 'fan_in') {
    const shape = [outputs, inputs, kernel, kernel];
    const fanIn = inputs * kernel * kernel;
    this.weight = law === 'fan_in' ? init.fanIn(shape, fanIn) : init.weight(shape);
    this.bias = law === 'fan_in' ? init.fanIn([outputs], fanIn) : init.constant([outputs], 0);
  }

  /** A 1x1 convolution of channels-last x: [B, h, w, in] -> [B, h, w, out]. */
  pointwise(x: tf.Tensor, ctx: Policy, epilogue: LinearEpilogue = {}): tf.Tensor {
    const [outputs = 0, inputs = 0] = this.weight.shape;
    return linear(x, tf.reshape(this.weight.compute(ctx), [outputs, inputs]), this.bias.value, epilogue);
  }
}

/** Normalisation over the last axis. Start: weight `gamma` (SwinV2 blocks start at 0), bias 0. */
export class LayerNorm {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(
    channels: number,
    private readonly eps: number,
    init: Init,
    gamma = 1,
  ) {
    this.weight = init.constant([channels], gamma);
    this.bias = init.constant([channels], 0);
  }

  /** [..., C] -> residual + norm(x), [..., C], stored as the policy says or as the residual is. */
  apply(x: tf.Tensor, ctx: Policy, residual: tf.Tensor | null = null): tf.Tensor {
    return layerNorm(x, this.weight.value, this.bias.value, this.eps, { residual, storage: ctx.precision });
  }
}

/** gamma [out] times the rows of a linear map: LayerScale acts on the weights, which are smaller than the activations it would need kept. */
export function scaledRows(weight: Parameter, bias: Parameter, gamma: Parameter, ctx: Policy): { weight: tf.Tensor; bias: tf.Tensor } {
  return { weight: scaleRows(weight.value, gamma.value, ctx.precision), bias: tf.mul(bias.value, gamma.value) };
}

/** fc2(gelu(fc1(x))) with exact erf GELU. */
export class Mlp {
  readonly fc1: BiasedLinear;
  readonly fc2: BiasedLinear;

  /** `scale` multiplies fc2's drawn weight. */
  constructor(channels: number, hidden: number, init: Init, scale = 1) {
    this.fc1 = new BiasedLinear(channels, hidden, init);
    this.fc2 = new BiasedLinear(hidden, channels, init, scale);
  }

  /**
   * residual + gamma * fc2(gelu(fc1(x))), [..., C] -> [..., C], with LayerScale's gamma [C] (default: none).
   */
  apply(x: tf.Tensor, ctx: Policy, options: MlpOptions = {}, gamma: Parameter | null = null): tf.Tensor {
    const { fc1, fc2 } = this;
    const end = gamma ? scaledRows(fc2.weight, fc2.bias, gamma, ctx) : { weight: fc2.weight.compute(ctx), bias: fc2.bias.value };
    return mlp(x, fc1.weight.compute(ctx), fc1.bias.value, end.weight, end.bias, options);
  }
}

/** Non-overlapping patches through one linear map: images [B, Cin, H, W] -> [B, H/p, W/p, C], normalised if asked. */
export class PatchEmbed {
  readonly proj: Conv;
  readonly norm: LayerNorm | null;

  constructor(inChannels: number, channels: number, patchSize: number, init: Init, options: { normEps?: number | null; law?: 'fan_in' | 'trunc_normal' } = {}) {
    this.proj = new Conv(inChannels, channels, patchSize, init, options.law ?? 'fan_in');
    this.norm = options.normEps == null ? null : new LayerNorm(channels, options.normEps, init);
  }

  apply(images: tf.Tensor, ctx: Policy): tf.Tensor {
    const x = patchEmbed(images, this.proj.weight.compute(ctx), this.proj.bias.value);
    return this.norm ? this.norm.apply(x, ctx) : x;
  }
}

/**
 * Stochastic depth (Huang et al. 2016) of one residual branch: while training, the branch of each sample
 * is dropped with probability `rate` and else divided by 1 - rate.
 */
export class DropPath {
  constructor(
    readonly rate: number,
    private readonly site: number,
  ) {}

  /**
   * residual + drop(branch); `branch` ends in a linear map or MLP, into which the sum is fused where rows can be left out and when
   * nothing is dropped. `known`: what is left out of the branch besides; its `fill` is not for blocks that drop.
   */
  addLinear(residual: tf.Tensor, branch: (epilogue: BranchEnd) => tf.Tensor, ctx: Context, { rows = null, fill = null }: BranchEnd): tf.Tensor {
    const factors = this.factors(residual, ctx);
    if (factors) return branch({ residual, rows: product(rows, factors) });
    return this.active(ctx) ? this.drop(branch({ rows }), residual, ctx) : branch({ residual, rows, fill });
  }

  /** residual + drop(norm(branch)); the sum is fused into the norm when nothing is dropped. */
  addNormed(residual: tf.Tensor, branch: tf.Tensor, norm: LayerNorm, ctx: Context): tf.Tensor {
    return this.active(ctx) ? this.drop(norm.apply(branch, ctx), residual, ctx) : norm.apply(branch, ctx, residual);
  }

  /** [...], what the branch of each token [..., C] counts, 0 where its sample's is dropped; null when none is or where the backend saves nothing by it. */
  factors(tokens: tf.Tensor, ctx: Context): tf.Tensor | null {
    if (!this.active(ctx) || !leavesRowsOut()) return null;
    const shape = tokens.shape.slice(0, -1);
    return this.drop(tf.fill(shape, 1), tf.fill(shape, 0), ctx);
  }

  /** The same with 1 in place of other factors. */
  kept(tokens: tf.Tensor, ctx: Context): tf.Tensor | null {
    const factors = this.factors(tokens, ctx);
    return factors && tf.minimum(factors, 1);
  }

  active(ctx: Context): boolean {
    return ctx.training && this.rate > 0;
  }

  private drop(branch: tf.Tensor, residual: tf.Tensor, ctx: Context): tf.Tensor {
    return dropPath(branch, residual, { rate: this.rate, site: this.site, clock: ctx.clock, training: true });
  }
}

/** Drop rates of `blocks` consecutive blocks: evenly spaced from 0 to `last` (the linear rule). */
export function dropPathRates(last: number, blocks: number): number[] {
  return Array.from({ length: blocks }, (_, i) => (blocks > 1 ? (last * i) / (blocks - 1) : 0));
}
