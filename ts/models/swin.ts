import * as tf from '@tensorflow/tfjs-core';
import { checkpoint } from '../autodiff/checkpoint';
import { SimmimError } from '../errors';
import { rngSites, type Context } from '../nn/context';
import { Init } from '../nn/init';
import { DropPath, LayerNorm, Linear, Mlp, PatchEmbed, dropPathRates } from '../nn/layers';
import { parametersOf, type Parameter } from '../nn/module';
import { maskTokens } from '../ops/mask_tokens';
import { windowAttention } from '../ops/window_attention';
import { checkHeads, checkInputs, pair, patchGrid, type Encoder, type Pair } from './encoder';

/**
 * Swin Transformer (Liu et al., ICCV 2021) with a mask token, as in microsoft/SimMIM `models/swin_transformer.py`
 * and `models/simmim.py`. Field names give the official parameter names.
 */
export interface SwinConfig {
  /** Pixels, one side or [height, width]. */
  imageSize: number | Pair;
  patchSize: number;
  inChannels: number;
  /** Channels of the first stage; every later stage has twice as many. */
  embedDim: number;
  /** Blocks of each stage. */
  depths: readonly number[];
  /** Attention heads of each stage. */
  heads: readonly number[];
  /** Side of the attention window in tokens; shrunk to a stage's map where that is smaller. */
  windowSize: number;
  /** Hidden channels of a block's MLP over its channels. */
  mlpRatio: number;
  qkvBias: boolean;
  /** Factor of the attention scores; null: 1 / sqrt(channels of a head). */
  qkScale: number | null;
  /** Adds a learnt embedding of each patch position. */
  absolutePosition: boolean;
  /** LayerNorm after the patch embedding. */
  patchNorm: boolean;
  /** Drop path rate of the last block (linear rule from 0). */
  dropPath: number;
  layerNormEps: number;
  /** Recompute each block in the backward pass instead of keeping its activations. */
  checkpointing: boolean;
  /** Seed of the initial parameters. */
  seed: number;
}

/** How one block cuts its map. */
export interface WindowPlan {
  window: [number, number];
  shift: [number, number];
}

/**
 * The official rule: where the shorter side of the map is not larger than the window, the window shrinks
 * to that side and nothing is shifted; else every second block is shifted by half a window.
 */
export function planWindow([height, width]: Pair, windowSize: number, shifted: boolean): WindowPlan {
  const shorter = Math.min(height, width);
  if (shorter <= windowSize) return { window: [shorter, shorter], shift: [0, 0] };
  const shift = shifted ? Math.floor(windowSize / 2) : 0;
  return { window: [windowSize, windowSize], shift: [shift, shift] };
}

/** What a block must know of its place. */
export interface BlockPlace {
  resolution: Pair;
  channels: number;
  heads: number;
  windowSize: number;
  /** Odd blocks of a stage shift their windows. */
  shifted: boolean;
  dropPath: DropPath;
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

  /** Everything in front of the output projection: [B, H, W, C] -> [B, H, W, C]. */
  mix(x: tf.Tensor, ctx: Context): tf.Tensor {
    const { window, shift } = this.plan;
    return windowAttention(this.qkv.apply(x, ctx), this.relative_position_bias_table.value, this.scale, { heads: this.heads, window, shift });
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
  apply(x: tf.Tensor, ctx: Context): tf.Tensor {
    const mixed = this.attn.mix(this.norm1.apply(x, ctx), ctx);
    const y = this.drop[0].addLinear(x, (e) => this.attn.proj.apply(mixed, ctx, e), ctx);
    const normed = this.norm2.apply(y, ctx);
    return this.drop[1].addLinear(y, (e) => this.mlp.apply(normed, ctx, e.residual), ctx);
  }
}

/** 2x2 neighbours side by side: [B, H, W, C] -> [B, H/2, W/2, 4C] in the order (even row, even column), (odd, even), (even, odd), (odd, odd). */
export function gatherNeighbours(x: tf.Tensor): tf.Tensor {
  const [batch = 0, height = 0, width = 0, channels = 0] = x.shape;
  const split = tf.reshape(x, [batch, height / 2, 2, width / 2, 2, channels]);
  return tf.reshape(tf.transpose(split, [0, 1, 3, 4, 2, 5]), [batch, height / 2, width / 2, 4 * channels]);
}

/** Halves the map and doubles the channels: norm(4C), then 4C -> 2C. */
class PatchMerging {
  readonly reduction: Linear;
  readonly norm: LayerNorm;

  constructor(channels: number, eps: number, init: Init) {
    this.reduction = new Linear(4 * channels, 2 * channels, init, { bias: false });
    this.norm = new LayerNorm(4 * channels, eps, init);
  }

  apply(x: tf.Tensor, ctx: Context): tf.Tensor {
    return this.reduction.apply(this.norm.apply(gatherNeighbours(x), ctx), ctx);
  }
}

/** Blocks at one resolution, then (except at the end) a patch merging. */
interface Stage {
  readonly blocks: SwinBlock[];
  readonly downsample: PatchMerging | null;
}

/** The Swin encoder of SimMIM. */
export class SwinTransformer implements Pyramid {
  readonly absolute_pos_embed: Parameter | null;
  readonly mask_token: Parameter;
  readonly patch_embed: PatchEmbed;
  readonly layers: Stage[];
  readonly norm: LayerNorm;

  readonly channels: number;
  readonly stride: number;
  readonly patchSize: number;
  readonly inChannels: number;
  readonly imageSize: [number, number];

  constructor(
    readonly name: string,
    readonly config: SwinConfig,
  ) {
    const init = new Init(config.seed);
    const { embedDim, layerNormEps } = config;
    this.imageSize = pair(config.imageSize);
    this.patchSize = config.patchSize;
    this.inChannels = config.inChannels;
    const stages = stageGeometry(name, config);
    const [h, w] = (stages[0] as StageGeometry).resolution;
    this.absolute_pos_embed = config.absolutePosition ? init.weight([1, h * w, embedDim]) : null;
    this.mask_token = init.weight([1, 1, embedDim]);
    this.patch_embed = new PatchEmbed(config.inChannels, embedDim, config.patchSize, init, { normEps: config.patchNorm ? layerNormEps : null });
    const rates = dropPathRates(config.dropPath, config.depths.reduce((a, b) => a + b, 0));
    let index = 0;
    this.layers = stages.map((stage, i) => ({
      blocks: Array.from({ length: stage.depth }, (_, j) => {
        const [first, second] = blockDrops(rates, index++);
        return new SwinBlock({ ...stage, windowSize: config.windowSize, shifted: j % 2 === 1, dropPath: first }, config, init, second);
      }),
      downsample: i + 1 < stages.length ? new PatchMerging(stage.channels, layerNormEps, init) : null,
    }));
    const last = stages[stages.length - 1] as StageGeometry;
    this.channels = last.channels;
    this.stride = config.patchSize * 2 ** (stages.length - 1);
    this.norm = new LayerNorm(this.channels, layerNormEps, init);
  }

  forward(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context): tf.Tensor {
    const maps = runPyramid(this, images, mask, ctx);
    const z = this.norm.apply(maps[maps.length - 1] as tf.Tensor, ctx);
    ctx.observe?.('norm', z);
    return z;
  }

  features(images: tf.Tensor, ctx: Context): tf.Tensor[] {
    return runPyramid(this, images, null, ctx);
  }
}

/** What both versions of Swin are made of. */
export interface Pyramid extends Encoder {
  readonly patch_embed: PatchEmbed;
  readonly mask_token: Parameter;
  readonly absolute_pos_embed: Parameter | null;
  readonly layers: readonly {
    readonly blocks: readonly { apply(x: tf.Tensor, ctx: Context): tf.Tensor }[];
    readonly downsample: { apply(x: tf.Tensor, ctx: Context): tf.Tensor } | null;
  }[];
  readonly config: { readonly checkpointing: boolean };
}

/** Patches, mask token and positions, then all stages: each one's output in front of its patch merging, [B, h, w, C_i]. */
export function runPyramid(encoder: Pyramid, images: tf.Tensor, mask: tf.Tensor | null, ctx: Context): tf.Tensor[] {
  checkInputs(encoder, images, mask);
  const patches = encoder.patch_embed.apply(images, ctx);
  ctx.observe?.('patch_embed', patches);
  let x = embedTokens(patches, mask, encoder.mask_token, encoder.absolute_pos_embed);
  ctx.observe?.('tokens', x);
  return encoder.layers.map(({ blocks, downsample }, i) => {
    const map = runBlocks(x, blocks, `layers.${i}.blocks`, encoder.config.checkpointing, ctx);
    if (downsample) {
      x = tf.tidy(() => downsample.apply(map, ctx));
      ctx.observe?.(`layers.${i}.downsample`, x);
    }
    return map;
  });
}

/** Mask token in place of hidden tokens, then the absolute positions: [B, h, w, C] -> [B, h, w, C]. */
export function embedTokens(x: tf.Tensor, mask: tf.Tensor | null, token: Parameter, positions: Parameter | null): tf.Tensor {
  if (!mask && !positions) return x;
  const [batch = 0, h = 0, w = 0, channels = 0] = x.shape;
  const tokens = maskTokens(tf.reshape(x, [batch, h * w, channels]), {
    ...(mask ? { token: tf.reshape(token.value, [channels]), mask: tf.reshape(mask, [batch, h * w]) } : {}),
    positions: positions && tf.reshape(positions.value, [h * w, channels]),
  });
  return tf.reshape(tokens, [batch, h, w, channels]);
}

/**
 * Runs blocks one after another, each in its own memory scope, recomputed in the backward pass if `recompute`.
 * Outside training a block's output is freed as soon as the next block has used it.
 */
export function runBlocks(x: tf.Tensor, blocks: readonly { apply(x: tf.Tensor, ctx: Context): tf.Tensor }[], name: string, recompute: boolean, ctx: Context): tf.Tensor {
  const inference = !ctx.training && !ctx.observe && !tf.engine().isTapeOn();
  let y = x;
  blocks.forEach((block, j) => {
    const before = y;
    const run = (input: tf.Tensor): tf.Tensor => tf.tidy(() => block.apply(input, ctx));
    const variables = recompute && ctx.training ? parametersOf(block).map((p) => p.value) : null;
    y = variables ? checkpoint(run, variables)(before) : run(before);
    if (inference && before !== x) before.dispose();
    ctx.observe?.(`${name}.${j}`, y);
  });
  return y;
}

/** The two residual branches of block number `index` of an encoder. */
export function blockDrops(rates: readonly number[], index: number, site: number = rngSites.dropPath): [DropPath, DropPath] {
  const rate = rates[index] ?? 0;
  return [new DropPath(rate, site + 2 * index), new DropPath(rate, site + 2 * index + 1)];
}

/** Size of one stage. */
export interface StageGeometry {
  resolution: [number, number];
  channels: number;
  heads: number;
  depth: number;
}

/** The map, channels, heads and depth of every stage; throws where a map cannot be halved or heads do not divide. */
export function stageGeometry(op: string, config: Pick<SwinConfig, 'imageSize' | 'patchSize' | 'embedDim' | 'depths' | 'heads'>): StageGeometry[] {
  const { depths, heads } = config;
  if (depths.length === 0 || depths.length !== heads.length) {
    throw new SimmimError('invalid_argument', op, `depths has ${depths.length} stages and heads has ${heads.length}; both need one entry for each stage`);
  }
  let [h, w] = patchGrid(op, pair(config.imageSize), config.patchSize);
  return depths.map((depth, i) => {
    const channels = config.embedDim * 2 ** i;
    const stageHeads = heads[i] as number;
    checkHeads(op, channels, stageHeads, `stage ${i}`);
    const stage: StageGeometry = { resolution: [h, w], channels, heads: stageHeads, depth };
    if (i + 1 < depths.length) {
      if (h % 2 !== 0 || w % 2 !== 0) {
        const divisor = config.patchSize * 2 ** (depths.length - 1);
        throw new SimmimError('invalid_argument', op, `stage ${i} has a ${h}x${w} map, which patch merging cannot halve: height and width of imageSize must be multiples of ${divisor}`);
      }
      [h, w] = [h / 2, w / 2];
    }
    return stage;
  });
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
