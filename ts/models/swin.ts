import type * as tf from '@tensorflow/tfjs-core';
import type { Context } from '../nn/context';
import type { Init } from '../nn/init';
import { type AlikeTokens, type DropPath, LayerNorm, leftOut, Linear, Mlp, valueOf } from '../nn/layers';
import type { Parameter } from '../nn/module';
import { windowAttention } from '../ops/window_attention';
import { type KnownTokens, NOTHING_KNOWN } from './encoder';
import { type BlockPlace, othersInWindow, planWindow, type PyramidConfig, SwinPyramid, type WindowPlan } from './swin_pyramid';

/**
 * Swin Transformer (Liu et al., ICCV 2021) with a mask token, as in microsoft/SimMIM `models/swin_transformer.py`
 * and `models/simmim.py`. Field names give the official parameter names.
 */
export interface SwinConfig extends PyramidConfig {
  /** Factor of the attention scores; null: 1 / sqrt(channels of a head). */
  qkScale: number | null;
}

/** softmax(q k^T * scale + bias) v within windows; the bias comes from a learnt table. */
class WindowAttention {
  readonly relative_position_bias_table: Parameter;
  readonly qkv: Linear;
  readonly proj: Linear;
  private readonly plan: WindowPlan;
  private readonly heads: number;
  private readonly scale: number;

  constructor(place: BlockPlace, config: SwinConfig, init: Init) {
    const { channels, heads } = place;
    this.plan = planWindow(place.resolution, place.windowSize, place.shifted);
    const [h, w] = this.plan.window;
    this.heads = heads;
    this.scale = config.qkScale ?? 1 / Math.sqrt(channels / heads);
    this.relative_position_bias_table = init.weight([(2 * h - 1) * (2 * w - 1), heads]);
    this.qkv = new Linear(channels, 3 * channels, init, { bias: config.qkvBias });
    this.proj = new Linear(channels, channels, init);
  }

  /** Everything in front of the output projection: [B, H, W, C] -> [B, H, W, C], of samples that are not `kept` anything. */
  mix(x: tf.Tensor, alike: AlikeTokens | null, kept: tf.Tensor | null, ctx: Context): tf.Tensor {
    const { window, shift } = this.plan;
    return windowAttention(this.qkv.applyWithBias(x, this.qkv.bias?.value ?? null, ctx, alike, kept), this.relative_position_bias_table.value, this.scale, { heads: this.heads, window, shift });
  }

  /** [1, C] -> [1, C]: what `mix` makes of a window full of x. */
  value(x: tf.Tensor, ctx: Context): tf.Tensor {
    return valueOf(this.qkv.applyWithBias(x, this.qkv.bias?.value ?? null, ctx), ctx);
  }

  /** Where a token [B, H, W] meets one that is not 0: [B, H, W], or null (`othersInWindow`). */
  reached(others: tf.Tensor): tf.Tensor | null {
    return othersInWindow(others, this.plan);
  }
}

/** x + attention(norm1(x)), then x + mlp(norm2(x)). */
export class SwinBlock {
  readonly norm1: LayerNorm;
  readonly attn: WindowAttention;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;
  private readonly drop: [DropPath, DropPath];

  constructor(place: BlockPlace, config: SwinConfig, init: Init, secondDrop: DropPath) {
    this.norm1 = new LayerNorm(place.channels, config.layerNormEps, init);
    this.attn = new WindowAttention(place, config, init);
    this.norm2 = new LayerNorm(place.channels, config.layerNormEps, init);
    this.mlp = new Mlp(place.channels, Math.floor(place.channels * config.mlpRatio), init);
    this.drop = [place.dropPath, secondDrop];
  }

  /** [B, H, W, C] -> [B, H, W, C]. */
  apply(x: tf.Tensor, ctx: Context, { alike, next, counted }: KnownTokens = NOTHING_KNOWN): tf.Tensor {
    const [drop1, drop2] = this.drop;
    const mixed = this.attn.mix(this.norm1.apply(x, ctx), alike && { ...alike, row: this.norm1.apply(alike.row, ctx) }, drop1.kept(x, ctx), ctx);
    const attended = alike && next && { ...next, row: this.attendAlone(alike.row, ctx) };
    const y = drop1.addLinear(x, (e) => this.attn.proj.apply(mixed, ctx, e), ctx, leftOut(attended, counted));
    const normed = this.norm2.apply(y, ctx);
    return drop2.addLinear(y, (e) => this.mlp.apply(normed, ctx, e), ctx, leftOut(next, counted));
  }

  stillAlike({ others, row }: AlikeTokens, ctx: Context): AlikeTokens | null {
    const reached = this.drop.some((drop) => drop.active(ctx)) ? null : this.attn.reached(others);
    if (!reached) return null;
    const attended = this.attendAlone(row, ctx);
    return { others: reached, row: this.mlp.apply(this.norm2.apply(attended, ctx), ctx, { residual: attended }) };
  }

  /** [1, C] -> [1, C]: x + attention(norm1(x)) of a window full of it. */
  private attendAlone(row: tf.Tensor, ctx: Context): tf.Tensor {
    return this.attn.proj.apply(this.attn.value(this.norm1.apply(row, ctx), ctx), ctx, { residual: row });
  }
}

/** The Swin encoder of SimMIM. */
export class SwinTransformer extends SwinPyramid<SwinConfig> {
  constructor(name: string, config: SwinConfig) {
    super(name, config, { block: (place, init, { secondDrop }) => new SwinBlock(place, config, init, secondDrop), normFirst: true });
  }
}

const base: SwinConfig = {
  imageSize: 192,
  patchSize: 4,
  inChannels: 3,
  embedDim: 128,
  depths: [2, 2, 18, 2],
  heads: [4, 8, 16, 32],
  windowSize: 6,
  mlpRatio: 4,
  qkvBias: true,
  qkScale: null,
  absolutePosition: false,
  patchNorm: true,
  dropPath: 0,
  layerNormEps: 1e-5,
  checkpointing: false,
  seed: 0,
};

/** Sizes of the official models, at the resolution and window of SimMIM's pre-training. */
export const swinPresets: Readonly<Record<string, SwinConfig>> = {
  swin_tiny: { ...base, embedDim: 96, depths: [2, 2, 6, 2], heads: [3, 6, 12, 24] },
  swin_small: { ...base, embedDim: 96, depths: [2, 2, 18, 2], heads: [3, 6, 12, 24] },
  swin_base: base,
  swin_large: { ...base, embedDim: 192, heads: [6, 12, 24, 48], windowSize: 12 },
};
