import * as tf from '@tensorflow/tfjs-core';
import { checkpoint } from '../autodiff/checkpoint';
import { SimmimError } from '../errors';
import { rngSites, type Context } from '../nn/context';
import { Init } from '../nn/init';
import { type AlikeTokens, DropPath, LayerNorm, Linear, PatchEmbed, dropPathRates } from '../nn/layers';
import { parametersOf, type Parameter } from '../nn/module';
import { inStorage, storageOf } from '../ops/in_storage';
import { leavesRowsOut } from '../ops/linear';
import { maskTokens } from '../ops/mask_tokens';
import { checkHeads, checkInputs, hiddenCells, NOTHING_KNOWN, knownBy, pair, patchGrid, tensorsOf, type Encoder, type KnownTokens, type Pair } from './encoder';

/** What both versions of Swin are configured by. */
export interface PyramidConfig {
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

/** x [B, H, W] moved `by` places down and to the right, what leaves at one edge coming in at the other: torch.roll. */
function roll(x: tf.Tensor, by: Pair): tf.Tensor {
  return by.reduce((y, places, i) => {
    const size = y.shape[i + 1] as number;
    const first = ((-places % size) + size) % size;
    return first === 0 ? y : tf.concat(tf.split(y, [first, size - first], i + 1).reverse(), i + 1);
  }, x);
}

/**
 * Attention sees nothing but a window: one that holds a single kind of tokens gives each of them that token's value.
 * others [B, H, W] -> [B, H, W], 1 in every window (which wraps around when shifted) that holds another token. Null for windows that
 * reach over the map's edge.
 */
export function othersInWindow(others: tf.Tensor, { window: [h, w], shift }: WindowPlan): tf.Tensor | null {
  const [batch = 0, height = 0, width = 0] = others.shape;
  if (height % h !== 0 || width % w !== 0) return null;
  const turned = roll(others, [-shift[0], -shift[1]]);
  const windows = tf.max(tf.reshape(turned, [batch, height / h, h, width / w, w]), [2, 4], true);
  return roll(tf.reshape(tf.tile(windows, [1, 1, h, 1, w]), [batch, height, width]), shift);
}

/** 2x2 neighbours side by side: [B, H, W, C] -> [B, H/2, W/2, 4C] in the order (even row, even column), (odd, even), (even, odd), (odd, odd). */
function gatherNeighbours(x: tf.Tensor): tf.Tensor {
  const [batch = 0, height = 0, width = 0, channels = 0] = x.shape;
  const split = tf.reshape(x, [batch, height / 2, 2, width / 2, 2, channels]);
  return tf.reshape(tf.transpose(split, [0, 1, 3, 4, 2, 5]), [batch, height / 2, width / 2, 4 * channels]);
}

/** Halves the map and doubles the channels, 4C -> 2C, with a norm of the 4C in front (version 1) or of the 2C behind (version 2). */
class PatchMerging {
  readonly reduction: Linear;
  readonly norm: LayerNorm;

  constructor(channels: number, private readonly normFirst: boolean, eps: number, init: Init) {
    this.reduction = new Linear(4 * channels, 2 * channels, init, { bias: false });
    this.norm = new LayerNorm(normFirst ? 4 * channels : 2 * channels, eps, init);
  }

  apply(x: tf.Tensor, ctx: Context): tf.Tensor {
    const neighbours = gatherNeighbours(x);
    return this.normFirst ? this.reduction.apply(this.norm.apply(neighbours, ctx), ctx) : this.norm.apply(this.reduction.apply(neighbours, ctx), ctx);
  }
}

interface Block {
  /** [B, H, W, C] -> [B, H, W, C]. */
  apply(x: tf.Tensor, ctx: Context, known?: KnownTokens): tf.Tensor;
  /** Of tokens that enter alike those that leave alike, or null where that is none by rule. */
  stillAlike(alike: AlikeTokens, ctx: Context): AlikeTokens | null;
}

/** Blocks at one resolution, then (except at the end) a patch merging. */
interface Stage {
  readonly blocks: Block[];
  readonly downsample: PatchMerging | null;
}

/** What the versions differ in. */
interface PyramidParts {
  /** Block number `index` of stage number `stage`; `secondDrop` is the drop path of its MLP. */
  block(place: BlockPlace, init: Init, at: { stage: number; index: number; secondDrop: DropPath }): Block;
  /** Whether patch merging normalises first. */
  normFirst: boolean;
}

/** A Swin encoder of either version: patches, mask token, stages, norm. */
export abstract class SwinPyramid<Config extends PyramidConfig> implements Encoder {
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
    readonly config: Config,
    parts: PyramidParts,
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
    let count = 0;
    this.layers = stages.map((geometry, stage) => ({
      blocks: Array.from({ length: geometry.depth }, (_, index) => {
        const [dropPath, secondDrop] = blockDrops(rates, count++);
        return parts.block({ ...geometry, windowSize: config.windowSize, shifted: index % 2 === 1, dropPath }, init, { stage, index, secondDrop });
      }),
      downsample: stage + 1 < stages.length ? new PatchMerging(geometry.channels, parts.normFirst, layerNormEps, init) : null,
    }));
    const last = stages[stages.length - 1] as StageGeometry;
    this.channels = last.channels;
    this.stride = config.patchSize * 2 ** (stages.length - 1);
    this.norm = new LayerNorm(this.channels, layerNormEps, init);
  }

  forward(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context, hiddenOnly = false): tf.Tensor {
    const maps = this.run(images, mask, ctx, hiddenOnly);
    const z = this.norm.apply(maps[maps.length - 1] as tf.Tensor, ctx);
    ctx.observe?.('norm', z);
    return z;
  }

  features(images: tf.Tensor, ctx: Context): tf.Tensor[] {
    return this.run(images, null, ctx, false);
  }

  /** Patches, mask token and positions, then all stages: each one's output in front of its patch merging, [B, h, w, C_i]. */
  private run(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context, hiddenOnly: boolean): tf.Tensor[] {
    checkInputs(this, images, mask);
    const patches = this.patch_embed.apply(images, ctx);
    ctx.observe?.('patch_embed', patches);
    let x = embedTokens(patches, mask, this.mask_token, this.absolute_pos_embed);
    ctx.observe?.('tokens', x);
    const given = leavesRowsOut() ? mask : null;
    const alike = given && !this.absolute_pos_embed ? hiddenTokens(given, x, this.mask_token) : null;
    const counted = given && hiddenOnly ? hiddenCells(given, this.imageSize[0] / this.stride, this.imageSize[1] / this.stride) : null;
    return this.layers.map(({ blocks, downsample }, i) => {
      const map = runBlocks(x, blocks, `layers.${i}.blocks`, this.config.checkpointing, ctx, { ...NOTHING_KNOWN, alike: i === 0 ? alike : null, counted: downsample ? null : counted });
      if (downsample) {
        x = tf.tidy(() => downsample.apply(map, ctx));
        ctx.observe?.(`layers.${i}.downsample`, x);
      }
      return map;
    });
  }
}

/** Mask token in place of hidden tokens, then the absolute positions: [B, h, w, C] -> [B, h, w, C]. */
function embedTokens(x: tf.Tensor, mask: tf.Tensor | null, token: Parameter, positions: Parameter | null): tf.Tensor {
  if (!mask && !positions) return x;
  const [batch = 0, h = 0, w = 0, channels = 0] = x.shape;
  const tokens = maskTokens(tf.reshape(x, [batch, h * w, channels]), {
    ...(mask ? { token: tf.reshape(token.value, [channels]), mask: tf.reshape(mask, [batch, h * w]) } : {}),
    positions: positions && tf.reshape(positions.value, [h * w, channels]),
  });
  return tf.reshape(tokens, [batch, h, w, channels]);
}

/** Which tokens of a map [B, h, w, C] without positions are the mask token, with the values that the map stores. */
function hiddenTokens(mask: tf.Tensor, x: tf.Tensor, token: Parameter): AlikeTokens {
  const [batch = 0, h = 0, w = 0, channels = 0] = x.shape;
  return { others: tf.ceil(tf.sub(1, tf.reshape(mask, [batch, h, w]))), row: inStorage(inStorage(tf.reshape(token.value, [1, channels]), storageOf(x)), 'f32') };
}

/**
 * Runs blocks one after another, each in its own memory scope, recomputed in the backward pass if `recompute`. `known`: of the
 * tokens that enter the first block and leave the last one. Of the usual mask's 61 % in windows of 6, 37 % are alike behind the first block and 8 %
 * behind the second, after which it is not worth asking.
 * Outside training a block's output is freed as soon as the next block has used it.
 */
export function runBlocks(x: tf.Tensor, blocks: readonly Block[], name: string, recompute: boolean, ctx: Context, known: KnownTokens = NOTHING_KNOWN): tf.Tensor {
  const inference = !ctx.training && !ctx.observe && !tf.engine().isTapeOn();
  let y = x;
  let next: AlikeTokens | null = null;
  blocks.forEach((block, j) => {
    const before = y;
    const alike = [known.alike, next][j] ?? null;
    next = j < 2 && alike ? block.stillAlike(alike, ctx) : null;
    const own: KnownTokens = { alike, next, counted: j === blocks.length - 1 ? known.counted : null };
    const run = (input: tf.Tensor, ...tensors: tf.Tensor[]): tf.Tensor => tf.tidy(() => block.apply(input, ctx, knownBy(own, tensors)));
    const variables = recompute && ctx.training ? parametersOf(block).map((p) => p.value) : null;
    y = (variables ? checkpoint(run, variables) : run)(before, ...tensorsOf(own));
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
export function stageGeometry(op: string, config: Pick<PyramidConfig, 'imageSize' | 'patchSize' | 'embedDim' | 'depths' | 'heads'>): StageGeometry[] {
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
