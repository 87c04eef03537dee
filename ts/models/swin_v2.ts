import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { Context } from '../nn/context';
import type { Init } from '../nn/init';
import { type AlikeTokens, type BranchEnd, type DropPath, LayerNorm, leftOut, Linear, Mlp, valueOf } from '../nn/layers';
import { Constant, type Parameter } from '../nn/module';
import { biasMlp, continuousBias, logSpacedCoordinates, type BiasMlp } from '../nn/rel_bias';
import { inStorage } from '../ops/in_storage';
import { windowAttention } from '../ops/window_attention';
import { type KnownTokens, NOTHING_KNOWN } from './encoder';
import { type BlockPlace, othersInWindow, planWindow, type PyramidConfig, SwinPyramid, type WindowPlan } from './swin_pyramid';

/**
 * Swin Transformer V2 (Liu et al., CVPR 2022) with a mask token, as in microsoft/Swin-Transformer
 * `models/swin_transformer_v2.py` and `models/simmim.py`. It differs from version 1 in: cosine attention
 * with a learnt clamped scale; a continuous, log-spaced position bias; normalisation after each branch;
 * normalisation after the reduction in patch merging; no key bias.
 */
export interface SwinV2Config extends PyramidConfig {
  /** Window of each stage at pre-training, which the offsets are measured in; 0: the window in use. */
  pretrainedWindowSizes: readonly number[];
  /** A LayerNorm on the main branch after every so many blocks of a stage (6 in the paper's H and G); 0: none. */
  extraNormPeriod: number;
}

const MAX_LOGIT_SCALE = Math.log(100);

/** softmax(cos(q, k) * scale + bias) v within windows. */
class CosineWindowAttention {
  readonly logit_scale: Parameter;
  readonly q_bias: Parameter | null;
  readonly v_bias: Parameter | null;
  readonly cpb_mlp: BiasMlp;
  readonly qkv: Linear;
  readonly proj: Linear;
  private readonly coordinates: Constant;
  private readonly plan: WindowPlan;
  private readonly heads: number;

  constructor(place: BlockPlace, pretrainedWindow: number, qkvBias: boolean, init: Init) {
    const { channels, heads } = place;
    this.plan = planWindow(place.resolution, place.windowSize, place.shifted);
    this.heads = heads;
    this.logit_scale = init.constant([heads, 1, 1], Math.log(10));
    this.q_bias = qkvBias ? init.constant([channels], 0) : null;
    this.v_bias = qkvBias ? init.constant([channels], 0) : null;
    this.cpb_mlp = biasMlp(heads, init);
    this.qkv = new Linear(channels, 3 * channels, init, { bias: false });
    this.proj = new Linear(channels, channels, init);
    const offsets = logSpacedCoordinates(this.plan.window, pretrainedWindow);
    this.coordinates = new Constant(() => tf.tensor2d(offsets, [offsets.length / 2, 2]));
  }

  /** [B, H, W, C] -> [B, H, W, C], output projection included, which makes some tokens `end` without it; of samples that are not `kept` anything. */
  apply(x: tf.Tensor, alike: AlikeTokens | null, end: BranchEnd, kept: tf.Tensor | null, ctx: Context): tf.Tensor {
    const { window, shift } = this.plan;
    const table = continuousBias(this.cpb_mlp, this.coordinates.value);
    const scale = tf.exp(tf.minimum(tf.reshape(this.logit_scale.value, [this.heads]), MAX_LOGIT_SCALE));
    const entering = alike && { ...alike, row: inStorage(alike.row, ctx.precision) };
    const qkv = this.qkv.applyWithBias(x, jointBias(this.q_bias, this.v_bias), ctx, entering, kept);
    return this.proj.apply(windowAttention(qkv, table, scale, { heads: this.heads, window, shift, cosine: true }), ctx, end);
  }

  /** [1, C] -> [1, C]: the same of a window full of x. */
  alone(x: tf.Tensor, ctx: Context): tf.Tensor {
    return this.proj.apply(valueOf(this.qkv.applyWithBias(x, jointBias(this.q_bias, this.v_bias), ctx), ctx), ctx);
  }

  /** Where a token [B, H, W] meets one that is not 0: [B, H, W], or null (`othersInWindow`). */
  reached(others: tf.Tensor): tf.Tensor | null {
    return othersInWindow(others, this.plan);
  }
}

/** [q_bias, 0, v_bias]: queries and values have a bias, keys (to which softmax is blind) have none. */
export function jointBias(q: Parameter | null, v: Parameter | null): tf.Tensor | null {
  if (!q || !v) return null;
  return tf.concat([q.value, tf.zerosLike(q.value), v.value]);
}

/** x + norm1(attention(x)), then x + norm2(mlp(x)); both norms start at zero, so a block starts as the identity. */
class SwinV2Block {
  readonly norm1: LayerNorm;
  readonly attn: CosineWindowAttention;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;
  /** The extra norm of the largest models. */
  readonly norm3: LayerNorm | null;
  private readonly drop: [DropPath, DropPath];

  constructor(place: BlockPlace, config: SwinV2Config, init: Init, options: { pretrainedWindow: number; extraNorm: boolean; secondDrop: DropPath }) {
    const { channels } = place;
    this.norm1 = new LayerNorm(channels, config.layerNormEps, init, 0);
    this.attn = new CosineWindowAttention(place, options.pretrainedWindow, config.qkvBias, init);
    this.norm2 = new LayerNorm(channels, config.layerNormEps, init, 0);
    this.mlp = new Mlp(channels, Math.floor(channels * config.mlpRatio), init);
    this.norm3 = options.extraNorm ? new LayerNorm(channels, config.layerNormEps, init) : null;
    this.drop = [place.dropPath, options.secondDrop];
  }

  /** [B, H, W, C] -> [B, H, W, C]. */
  apply(x: tf.Tensor, ctx: Context, { alike, next, counted }: KnownTokens = NOTHING_KNOWN): tf.Tensor {
    const [drop1, drop2] = this.drop;
    const [kept1, kept2] = [drop1.kept(x, ctx), drop2.kept(x, ctx)];
    const alone = alike && next && this.alone(alike.row, ctx);
    const end = leftOut(alone && { ...next, row: alone.attended }, counted, kept1);
    const y = drop1.addNormed(x, this.attn.apply(x, alike, end, kept1, ctx), this.norm1, ctx);
    const z = drop2.addNormed(y, this.mlp.apply(y, ctx, leftOut(alone && { ...next, row: alone.mlp }, counted, kept2)), this.norm2, ctx);
    return this.norm3 ? this.norm3.apply(z, ctx) : z;
  }

  stillAlike({ others, row }: AlikeTokens, ctx: Context): AlikeTokens | null {
    const reached = this.drop.some((drop) => drop.active(ctx)) ? null : this.attn.reached(others);
    if (!reached) return null;
    const { middle, mlp } = this.alone(row, ctx);
    const z = this.norm2.apply(mlp, ctx, middle);
    return { others: reached, row: this.norm3 ? inStorage(this.norm3.apply(z, ctx), 'f32') : z };
  }

  /** [1, C] each, f32, of a window full of `row`: both branches in front of their norms, and what is between them. */
  private alone(row: tf.Tensor, ctx: Context): { attended: tf.Tensor; middle: tf.Tensor; mlp: tf.Tensor } {
    const attended = inStorage(this.attn.alone(inStorage(row, ctx.precision), ctx), 'f32');
    const middle = this.norm1.apply(attended, ctx, row);
    return { attended, middle, mlp: inStorage(this.mlp.apply(inStorage(middle, ctx.precision), ctx), 'f32') };
  }
}

/** The SwinV2 encoder of SimMIM. */
export class SwinTransformerV2 extends SwinPyramid<SwinV2Config> {
  constructor(name: string, config: SwinV2Config) {
    checkPretrainedWindows(name, config);
    const period = config.extraNormPeriod;
    super(name, config, {
      block: (place, init, { stage, index, secondDrop }) =>
        new SwinV2Block(place, config, init, { pretrainedWindow: config.pretrainedWindowSizes[stage] ?? 0, extraNorm: period > 0 && (index + 1) % period === 0, secondDrop }),
      normFirst: false,
    });
  }
}

/** Throws when some stages, but not all, have a pre-trained window; surplus entries must be 0, as in the official default. */
function checkPretrainedWindows(op: string, config: SwinV2Config): void {
  const sizes = config.pretrainedWindowSizes;
  const stages = config.depths.length;
  if (sizes.length < stages && sizes.length > 0) {
    throw new SimmimError('invalid_argument', op, `pretrainedWindowSizes has ${sizes.length} entries, expected ${stages}, one for each stage of depths`);
  }
  if (sizes.slice(stages).some((size) => size !== 0)) {
    throw new SimmimError('invalid_argument', op, `pretrainedWindowSizes [${sizes.join(', ')}] names windows beyond the ${stages} stages of depths`);
  }
}

const base: SwinV2Config = {
  imageSize: 192,
  patchSize: 4,
  inChannels: 3,
  embedDim: 128,
  depths: [2, 2, 18, 2],
  heads: [4, 8, 16, 32],
  windowSize: 12,
  mlpRatio: 4,
  qkvBias: true,
  absolutePosition: false,
  patchNorm: true,
  dropPath: 0,
  layerNormEps: 1e-5,
  checkpointing: false,
  seed: 0,
  pretrainedWindowSizes: [],
  extraNormPeriod: 0,
};

/**
 * Sizes of the official models. H and G follow the paper (C 352 and 512, G's depths 2, 2, 42, 4, which give its
 * 3 billion parameters; extra norm every 6 blocks); their heads have 32 channels as in all other sizes,
 * which the paper does not print.
 */
export const swinV2Presets: Readonly<Record<string, SwinV2Config>> = {
  swinv2_tiny: { ...base, embedDim: 96, depths: [2, 2, 6, 2], heads: [3, 6, 12, 24] },
  swinv2_small: { ...base, embedDim: 96, heads: [3, 6, 12, 24] },
  swinv2_base: base,
  swinv2_large: { ...base, embedDim: 192, heads: [6, 12, 24, 48] },
  swinv2_huge: { ...base, embedDim: 352, heads: [11, 22, 44, 88], extraNormPeriod: 6 },
  swinv2_giant: { ...base, embedDim: 512, depths: [2, 2, 42, 4], heads: [16, 32, 64, 128], extraNormPeriod: 6 },
};
