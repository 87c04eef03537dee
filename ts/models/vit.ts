import * as tf from '@tensorflow/tfjs-core';
import { checkpoint } from '../autodiff/checkpoint';
import type { Context } from '../nn/context';
import { Init } from '../nn/init';
import { LayerNorm, Linear, Mlp, PatchEmbed, dropPathRates, scaledRows, type AlikeTokens, type DropPath, type LinearEpilogue } from '../nn/layers';
import { parametersOf, type Parameter } from '../nn/module';
import { VitPositionBias } from '../nn/rel_bias';
import { attention } from '../ops/attention';
import { inStorage } from '../ops/in_storage';
import { leavesRowsOut, linear } from '../ops/linear';
import { maskTokens } from '../ops/mask_tokens';
import { checkHeads, checkInputs, knownBy, NOTHING_KNOWN, pair, patchGrid, tensorsOf, type Encoder, type KnownTokens, type Pair } from './encoder';
import { blockDrops } from './swin_pyramid';
import { jointBias } from './swin_v2';

/**
 * Vision Transformer as in microsoft/SimMIM `models/vision_transformer.py` (BEiT's): class token, no absolute
 * position unless asked, relative position bias, LayerScale, biases for queries and values but not keys.
 */
export interface VitConfig {
  /** Pixels, one side or [height, width]. */
  imageSize: number | Pair;
  patchSize: number;
  inChannels: number;
  embedDim: number;
  depth: number;
  heads: number;
  mlpRatio: number;
  qkvBias: boolean;
  /** One joint bias with a key part (`attn.qkv.bias`), as timm's and Hugging Face's ViT have, instead of `q_bias` and `v_bias`. */
  keyBias: boolean;
  /** Initial LayerScale; null: none. */
  layerScale: number | null;
  /** Adds a learnt embedding of each position (class token included). */
  absolutePosition: boolean;
  /** One table for all blocks (pre-training), one for each block (fine-tuning), or none. */
  relativeBias: 'shared' | 'per_block' | 'none';
  /** LayerNorm at the end (pre-training); fine-tuning with mean pooling has its norm behind the pooling instead. */
  finalNorm: boolean;
  /** Drop path rate of the last block (linear rule from 0). */
  dropPath: number;
  layerNormEps: number;
  /** Recompute each block in the backward pass instead of keeping its activations. */
  checkpointing: boolean;
  /** Seed of the initial parameters. */
  seed: number;
}

/** softmax(q k^T / sqrt(d) + bias) v over all tokens. */
class Attention {
  readonly q_bias: Parameter | null;
  readonly v_bias: Parameter | null;
  readonly relative_position_bias_table: Parameter | null;
  readonly qkv: Linear;
  readonly proj: Linear;
  private readonly ownBias: VitPositionBias | null;
  private readonly heads: number;
  private readonly scale: number;

  constructor(config: VitConfig, grid: Pair, init: Init, scale: number) {
    const { embedDim, heads } = config;
    const joint = config.qkvBias && config.keyBias;
    this.heads = heads;
    this.scale = 1 / Math.sqrt(embedDim / heads);
    this.q_bias = config.qkvBias && !joint ? init.constant([embedDim], 0) : null;
    this.v_bias = config.qkvBias && !joint ? init.constant([embedDim], 0) : null;
    this.ownBias = config.relativeBias === 'per_block' ? new VitPositionBias(grid, heads, init) : null;
    this.relative_position_bias_table = this.ownBias?.relative_position_bias_table ?? null;
    this.qkv = new Linear(embedDim, 3 * embedDim, init, { bias: joint });
    this.proj = new Linear(embedDim, embedDim, init, { scale });
  }

  /** Everything in front of the output projection: [B, L, C] -> [B, L, C], of samples that are not `kept` anything. */
  mix(x: tf.Tensor, sharedBias: tf.Tensor | null, alike: AlikeTokens | null, kept: tf.Tensor | null, ctx: Context): tf.Tensor {
    const qkv = this.qkv.applyWithBias(x, this.qkv.bias?.value ?? jointBias(this.q_bias, this.v_bias), ctx, alike, kept);
    return attention(qkv, this.ownBias?.apply() ?? sharedBias, { heads: this.heads, scale: this.scale });
  }
}

/** x + gamma_1 attention(norm1(x)), then x + gamma_2 mlp(norm2(x)). */
class VitBlock {
  readonly gamma_1: Parameter | null;
  readonly gamma_2: Parameter | null;
  readonly norm1: LayerNorm;
  readonly attn: Attention;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;

  /** Block number `index` starts with the weights of both branches' ends divided by sqrt(2 (index + 1)) (official `fix_init_weight`). */
  constructor(
    config: VitConfig,
    grid: Pair,
    index: number,
    init: Init,
    private readonly drop: [DropPath, DropPath],
  ) {
    const { embedDim, layerScale, layerNormEps } = config;
    const scale = 1 / Math.sqrt(2 * (index + 1));
    this.gamma_1 = layerScale === null ? null : init.constant([embedDim], layerScale);
    this.gamma_2 = layerScale === null ? null : init.constant([embedDim], layerScale);
    this.norm1 = new LayerNorm(embedDim, layerNormEps, init);
    this.attn = new Attention(config, grid, init, scale);
    this.norm2 = new LayerNorm(embedDim, layerNormEps, init);
    this.mlp = new Mlp(embedDim, Math.floor(embedDim * config.mlpRatio), init, scale);
  }

  /** [B, L, C] -> [B, L, C]; `sharedBias` [heads, L, L] or null. */
  apply(x: tf.Tensor, sharedBias: tf.Tensor | null, ctx: Context, { alike, counted }: KnownTokens): tf.Tensor {
    const [drop1, drop2] = this.drop;
    const mixed = this.attn.mix(this.norm1.apply(x, ctx), sharedBias, alike && { ...alike, row: this.norm1.apply(alike.row, ctx) }, drop1.kept(x, ctx), ctx);
    const y = drop1.addLinear(x, (e) => scaledLinear(this.attn.proj, this.gamma_1, mixed, ctx, e), ctx, { rows: counted });
    const normed = this.norm2.apply(y, ctx);
    return drop2.addLinear(y, (e) => this.mlp.apply(normed, ctx, e, this.gamma_2), ctx, { rows: counted });
  }
}

/** Numbers of the patches [B, h, w] as those of all tokens [B, L + 1], with that of the class token. */
function withClassToken(patches: tf.Tensor, first: number): tf.Tensor {
  const [batch = 0, h = 0, w = 0] = patches.shape;
  return tf.concat([tf.fill([batch, 1], first), tf.reshape(patches, [batch, h * w])], 1);
}

/** One block that keeps only its inputs and runs again in the backward pass. */
function recomputed(block: VitBlock, x: tf.Tensor, bias: tf.Tensor | null, ctx: Context, known: KnownTokens): tf.Tensor {
  const run = checkpoint((input: tf.Tensor, ...more: tf.Tensor[]) => {
    const [shared, tensors] = bias ? [more[0] as tf.Tensor, more.slice(1)] : [null, more];
    return block.apply(input, shared, ctx, knownBy(known, tensors));
  }, parametersOf(block).map((p) => p.value));
  return run(x, ...(bias ? [bias] : []), ...tensorsOf(known));
}

/** gamma * (x W^T + b) + residual. */
function scaledLinear(layer: Linear, gamma: Parameter | null, x: tf.Tensor, ctx: Context, epilogue: LinearEpilogue): tf.Tensor {
  if (!gamma || !layer.bias) return layer.apply(x, ctx, epilogue);
  const { weight, bias } = scaledRows(layer.weight, layer.bias, gamma, ctx);
  return linear(x, weight, bias, epilogue);
}

/** The ViT encoder of SimMIM. */
export class VisionTransformer implements Encoder {
  readonly cls_token: Parameter;
  readonly pos_embed: Parameter | null;
  readonly mask_token: Parameter;
  readonly patch_embed: PatchEmbed;
  readonly rel_pos_bias: VitPositionBias | null;
  readonly blocks: VitBlock[];
  readonly norm: LayerNorm | null;

  readonly channels: number;
  readonly stride: number;
  readonly patchSize: number;
  readonly inChannels: number;
  readonly imageSize: [number, number];
  private readonly grid: [number, number];

  constructor(
    readonly name: string,
    readonly config: VitConfig,
  ) {
    const { embedDim } = config;
    const init = new Init(config.seed, 0.02);
    this.imageSize = pair(config.imageSize);
    this.grid = patchGrid(name, this.imageSize, config.patchSize);
    checkHeads(name, embedDim, config.heads, 'each block');
    this.channels = embedDim;
    this.stride = config.patchSize;
    this.patchSize = config.patchSize;
    this.inChannels = config.inChannels;
    this.cls_token = init.weight([1, 1, embedDim]);
    this.pos_embed = config.absolutePosition ? init.weight([1, this.grid[0] * this.grid[1] + 1, embedDim]) : null;
    this.mask_token = init.weight([1, 1, embedDim]);
    this.patch_embed = new PatchEmbed(config.inChannels, embedDim, config.patchSize, init, { law: 'trunc_normal' });
    this.rel_pos_bias = config.relativeBias === 'shared' ? new VitPositionBias(this.grid, config.heads, init) : null;
    const rates = dropPathRates(config.dropPath, config.depth);
    this.blocks = Array.from({ length: config.depth }, (_, i) => new VitBlock(config, this.grid, i, init, blockDrops(rates, i)));
    this.norm = config.finalNorm ? new LayerNorm(embedDim, config.layerNormEps, init) : null;
  }

  forward(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context, hiddenOnly = false): tf.Tensor {
    const tokens = this.tokens(images, mask, ctx, hiddenOnly);
    return this.patchMap(this.norm ? tokens : inStorage(tokens, ctx.precision)); // without a norm they are the f32 stream itself
  }

  features(images: tf.Tensor, ctx: Context): tf.Tensor[] {
    const maps: tf.Tensor[] = [];
    const observe = (name: string, value: tf.Tensor): void => {
      if (name.startsWith('blocks.')) maps.push(this.patchMap(value));
      ctx.observe?.(name, value);
    };
    this.tokens(images, null, { ...ctx, observe });
    return maps;
  }

  /** All tokens after the final norm, the class token first: [B, L + 1, C]. */
  tokens(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context, hiddenOnly = false): tf.Tensor {
    checkInputs(this, images, mask);
    let x = this.embed(images, mask, ctx);
    const bias = this.rel_pos_bias?.apply() ?? null;
    if (bias) ctx.observe?.('rel_pos_bias', bias);
    const recompute = this.config.checkpointing && ctx.training;
    const inference = !ctx.training && !ctx.observe && !tf.engine().isTapeOn();
    const given = leavesRowsOut() ? mask : null;
    const hidden = given && !this.pos_embed ? this.hiddenTokens(given) : null;
    const asked = given && hiddenOnly ? withClassToken(tf.ceil(given), 0) : null;
    this.blocks.forEach((block, i) => {
      const before = x;
      const known = { ...NOTHING_KNOWN, alike: i === 0 ? hidden : null, counted: i === this.blocks.length - 1 ? asked : null };
      x = recompute ? recomputed(block, x, bias, ctx, known) : tf.tidy(() => block.apply(x, bias, ctx, known));
      if (inference) before.dispose();
      ctx.observe?.(`blocks.${i}`, x);
    });
    if (!this.norm) return x;
    const y = this.norm.apply(x, ctx);
    ctx.observe?.('norm', y);
    return y;
  }

  /** Patches, the mask token in place of hidden ones, the class token in front, positions: [B, L + 1, C]. */
  private embed(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context): tf.Tensor {
    const batch = images.shape[0] as number;
    const length = this.grid[0] * this.grid[1];
    const patches = tf.reshape(this.patch_embed.apply(images, ctx), [batch, length, this.channels]);
    ctx.observe?.('patch_embed', patches);
    const tokens = maskTokens(patches, {
      ...(mask ? { token: tf.reshape(this.mask_token.value, [this.channels]), mask: tf.reshape(mask, [batch, length]) } : {}),
      classToken: tf.reshape(this.cls_token.value, [this.channels]),
      positions: this.pos_embed && tf.reshape(this.pos_embed.value, [length + 1, this.channels]),
      // Under bf16 the residual stream stays f32, as in PyTorch's autocast: a branch behind LayerScale adds less than a bf16 stream rounds.
      storage: 'f32',
    });
    ctx.observe?.('tokens', tokens);
    return tokens;
  }

  /** Which of the tokens [B, L + 1, C] are the mask token, where they have no positions. */
  private hiddenTokens(mask: tf.Tensor): AlikeTokens {
    return { others: withClassToken(tf.ceil(tf.sub(1, mask)), 1), row: tf.reshape(this.mask_token.value, [1, this.channels]) };
  }

  /** [B, L + 1, C] without the class token as a map [B, h, w, C]. */
  private patchMap(tokens: tf.Tensor): tf.Tensor {
    const batch = tokens.shape[0] as number;
    const [h, w] = this.grid;
    return tf.reshape(tf.slice(tokens, [0, 1, 0], [batch, h * w, this.channels]), [batch, h, w, this.channels]);
  }
}

const base: VitConfig = {
  imageSize: 224,
  patchSize: 16,
  inChannels: 3,
  embedDim: 768,
  depth: 12,
  heads: 12,
  mlpRatio: 4,
  qkvBias: true,
  keyBias: false,
  layerScale: 0.1,
  absolutePosition: false,
  relativeBias: 'shared',
  finalNorm: true,
  dropPath: 0,
  layerNormEps: 1e-6,
  checkpointing: false,
  seed: 0,
};

/** Sizes of the usual models, with the options of SimMIM's pre-training. */
export const vitPresets: Readonly<Record<string, VitConfig>> = {
  vit_small: { ...base, embedDim: 384, heads: 6 },
  vit_base: base,
  vit_large: { ...base, embedDim: 1024, depth: 24, heads: 16 },
};
