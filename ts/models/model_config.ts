import { SimmimError } from '../errors';
import { IMAGENET, type ImageStatistics } from '../image_statistics';
import type { RawTensor } from '../formats/raw_tensor';
import type { Encoder, Pair } from './encoder';
import { familyOf, isBeit, type Family } from './name_maps';
import { withOptions } from './options';
import type { StateDict } from './pretrained';
import { SwinTransformer, swinPresets, type SwinConfig } from './swin';
import { planWindow, stageGeometry } from './swin_pyramid';
import { SwinTransformerV2, swinV2Presets, type SwinV2Config } from './swin_v2';
import { VisionTransformer, vitPresets, type VitConfig } from './vit';

/** An encoder's whole configuration, and how many classes its head has (0: none). */
export type ModelConfig =
  | { family: 'vit'; encoder: VitConfig; classes: number }
  | { family: 'swin'; encoder: SwinConfig; classes: number }
  | { family: 'swinv2'; encoder: SwinV2Config; classes: number };

/** What weights do not show and a caller may know. */
export interface KnownSizes {
  imageSize?: number | Pair;
  windowSize?: number;
  heads?: number;
}

export type Json = Record<string, unknown>;

const OP = 'model_config';
// Sizes beyond these are taken for damage: tables grow with their squares.
const MAX_IMAGE = 1 << 15;
const MAX_WINDOW = 256;
const refuse = (why: string): never => {
  throw new SimmimError('unsupported', OP, why);
};

/** A complete configuration from some options; the values are checked as `createEncoder` checks them. */
export function modelConfig(family: Family, options: object, classes: number): ModelConfig {
  const { imageSize, windowSize } = options as { imageSize?: unknown; windowSize?: unknown };
  for (const side of [imageSize].flat()) if (typeof side === 'number' && side > MAX_IMAGE) refuse(`an image of ${side} pixels; at most ${MAX_IMAGE} along a side`);
  if (typeof windowSize === 'number' && windowSize > MAX_WINDOW) refuse(`a window of ${windowSize} tokens; at most ${MAX_WINDOW} along a side`);
  if (family === 'vit') return { family, classes, encoder: withOptions(family, vitPresets.vit_base as VitConfig, options) };
  if (family === 'swin') return { family, classes, encoder: withOptions(family, swinPresets.swin_base as SwinConfig, options) };
  return { family, classes, encoder: withOptions(family, swinV2Presets.swinv2_base as SwinV2Config, options) };
}

/** The encoder of a configuration, with initial parameters. */
export function encoderFromConfig(config: ModelConfig): Encoder {
  if (config.family === 'vit') return new VisionTransformer('vit', config.encoder);
  if (config.family === 'swin') return new SwinTransformer('swin', config.encoder);
  return new SwinTransformerV2('swinv2', config.encoder);
}

/** Patch grids of weights and of the model that takes them: what `loadPretrained` resizes tables of positions by. */
export function gridsOf(encoder: Encoder, { encoder: { imageSize, patchSize } }: ModelConfig): { sourceGrid: Pair; targetGrid: Pair } {
  const [height, width] = typeof imageSize === 'number' ? [imageSize, imageSize] : imageSize;
  return { sourceGrid: [height / patchSize, width / patchSize], targetGrid: [encoder.imageSize[0] / encoder.patchSize, encoder.imageSize[1] / encoder.patchSize] };
}

/** Whether a head-less model keeps its final norm, and other facts that only the tensors tell. */
function has(state: StateDict, name: string): boolean {
  return state.has(name) || state.has(`encoder.${name}`);
}
const find = (state: StateDict, name: string): RawTensor | undefined => state.get(`encoder.${name}`) ?? state.get(name);

/** The architecture as far as tensors (official names) show it. */
function optionsOfState(state: StateDict, family: Family): Json {
  const size = (name: string, axis: number): number => find(state, name)?.shape[axis] ?? refuse(`the weights have no '${name}'`);
  const common = { embedDim: size('patch_embed.proj.weight', 0), inChannels: size('patch_embed.proj.weight', 1), patchSize: size('patch_embed.proj.weight', 2) };
  if (family === 'vit') {
    const keyBias = has(state, 'blocks.0.attn.qkv.bias');
    return {
      ...common, depth: countParts(state, 'blocks.'), mlpRatio: size('blocks.0.mlp.fc1.weight', 0) / common.embedDim, keyBias, qkvBias: keyBias || has(state, 'blocks.0.attn.q_bias'),
      layerScale: has(state, 'blocks.0.gamma_1') ? 0.1 : null, absolutePosition: has(state, 'pos_embed'), finalNorm: has(state, 'norm.weight'),
      relativeBias: has(state, 'rel_pos_bias.relative_position_bias_table') ? 'shared' : has(state, 'blocks.0.attn.relative_position_bias_table') ? 'per_block' : 'none',
    };
  }
  const stages = countParts(state, 'layers.');
  const depths = Array.from({ length: stages }, (_, i) => countParts(state, `layers.${i}.blocks.`));
  const table = family === 'swin' ? 'relative_position_bias_table' : 'logit_scale';
  const heads = depths.map((_, i) => size(`layers.${i}.blocks.0.attn.${table}`, family === 'swin' ? 1 : 0));
  return {
    ...common, depths, heads, mlpRatio: size('layers.0.blocks.0.mlp.fc1.weight', 0) / common.embedDim, patchNorm: has(state, 'patch_embed.norm.weight'), absolutePosition: has(state, 'absolute_pos_embed'),
    qkvBias: has(state, 'layers.0.blocks.0.attn.qkv.bias') || has(state, 'layers.0.blocks.0.attn.q_bias'),
    ...(family === 'swinv2' ? { extraNormPeriod: extraNormPeriod(state, depths) } : {}),
  };
}

/** How many numbers 0, 1, ... follow `prefix` in the names. */
function countParts(state: StateDict, prefix: string): number {
  const numbers = new Set<string>();
  for (const source of state.keys()) {
    const name = source.replace(/^encoder\./, '');
    if (name.startsWith(prefix)) numbers.add(name.slice(prefix.length, name.indexOf('.', prefix.length)));
  }
  let count = 0;
  while (numbers.has(String(count))) count++;
  return count;
}

function extraNormPeriod(state: StateDict, depths: readonly number[]): number {
  const deepest = Math.max(...depths);
  const stage = depths.indexOf(deepest);
  for (let j = 0; j < deepest; j++) if (has(state, `layers.${stage}.blocks.${j}.norm3.weight`)) return j + 1;
  return 0;
}

const classesOf = (state: StateDict): number => state.get('head.weight')?.shape[0] ?? 0;

/**
 * The configuration that weights in official names belong to, from their shapes, from the official buffers where
 * the file has them (window and image size), and from `known`. Throws `unsupported`, naming what is left open.
 */
export function inferConfig(state: StateDict, known: KnownSizes = {}): ModelConfig {
  const family = familyOf(state.keys());
  const options = optionsOfState(state, family);
  const patch = options.patchSize as number;
  const square = (cells: number): number => {
    const side = Math.round(Math.sqrt(cells));
    return side * side === cells ? side : refuse(`${cells} positions are not a square: say imageSize`);
  };
  if (family === 'vit') {
    const table = find(state, 'rel_pos_bias.relative_position_bias_table') ?? find(state, 'blocks.0.attn.relative_position_bias_table');
    const positions = find(state, 'pos_embed');
    const side = table ? (square((table.shape[0] as number) - 3) + 1) / 2 : positions ? square((positions.shape[1] as number) - 1) : null;
    const imageSize = known.imageSize ?? (side !== null ? side * patch : refuse('neither a position table nor an embedding shows the image size: say imageSize'));
    const heads = known.heads ?? table?.shape[1] ?? refuse('nothing in the weights shows the number of heads: say heads');
    return modelConfig(family, { ...options, imageSize, heads }, classesOf(state));
  }
  const buffers = swinBuffers(state, options);
  const windowSize = known.windowSize ?? buffers.windowSize ?? refuse('nothing in the weights shows the window: say windowSize');
  const positions = find(state, 'absolute_pos_embed');
  const imageSize = known.imageSize ?? (positions ? square(positions.shape[1] as number) * patch : buffers.imageSize) ?? refuse('nothing in the weights shows the image size: say imageSize');
  return modelConfig(family, { ...options, windowSize, imageSize }, classesOf(state));
}

/** Window and image size from bias tables and from the buffers of official checkpoints. */
function swinBuffers(state: StateDict, options: Json): { windowSize?: number; imageSize?: number } {
  const stages = (options.depths as number[]).length;
  const found: { windowSize?: number; imageSize?: number } = {};
  for (let i = 0; i < stages; i++) {
    const table = find(state, `layers.${i}.blocks.0.attn.relative_position_bias_table`);
    const coordinates = find(state, `layers.${i}.blocks.0.attn.relative_coords_table`);
    const side = table ? Math.sqrt(table.shape[0] as number) : coordinates?.shape[1];
    if (side !== undefined) found.windowSize = Math.max(found.windowSize ?? 0, (side + 1) / 2);
    // attn_mask [windows, N, N] of a shifted block covers the stage's whole map.
    const mask = find(state, `layers.${i}.blocks.1.attn_mask`);
    if (mask) found.imageSize ??= Math.sqrt((mask.shape[0] as number) * (mask.shape[1] as number)) * (options.patchSize as number) * 2 ** i;
  }
  return found;
}

/** The configuration of a run of ours, from its recipe's `model` (a preset's name and what differs from it; null: nothing). */
export function fromRecipeModel(model: Json, state: StateDict): ModelConfig {
  const { encoder: name, ...options } = Object.fromEntries(Object.entries(model).filter(([, value]) => value !== null));
  const family = familyOf(state.keys());
  const preset = { vit: vitPresets, swin: swinPresets, swinv2: swinV2Presets }[family][String(name)];
  if (!preset) return refuse(`the recipe's encoder is '${String(name)}', the weights are a ${family}'s`);
  return modelConfig(family, { ...preset, ...options }, classesOf(state));
}

// ---- the official configuration (yacs)

/** MODEL and DATA of an official checkpoint's `config`. */
export function fromOfficialConfig(config: Json, state: StateDict): ModelConfig {
  const family = familyOf(state.keys());
  const model = config.MODEL as Json | undefined;
  const data = config.DATA as Json | undefined;
  const part = (model?.[family.toUpperCase()] ?? {}) as Json;
  const given = (where: Json | undefined, name: string): unknown => where?.[name] ?? refuse(`the official config has no ${name} for a ${family}`);
  const known: Json = { ...optionsOfState(state, family), imageSize: given(data, 'IMG_SIZE') };
  if (family === 'vit') return modelConfig(family, { ...known, heads: given(part, 'NUM_HEADS') }, classesOf(state));
  if (family === 'swinv2') known.pretrainedWindowSizes = windowsOf(part.PRETRAINED_WINDOW_SIZES, known);
  else known.qkScale = part.QK_SCALE ?? null;
  return modelConfig(family, { ...known, windowSize: given(part, 'WINDOW_SIZE') }, classesOf(state));
}

/** One pre-trained window a stage; a surplus of zeros (the official default has four) is cut; all zeros mean none. */
function windowsOf(value: unknown, options: Json): number[] {
  const windows = Array.isArray(value) ? (value as number[]).slice(0, (options.depths as number[]).length) : [];
  return windows.every((window) => window === 0) ? [] : windows;
}

// ---- Hugging Face

/** The configuration in a Hugging Face `config.json`, with `state` in official names. */
export function fromHuggingFaceConfig(config: Json, state: StateDict): ModelConfig {
  const family = config.model_type as Family;
  if (config.hidden_act !== undefined && config.hidden_act !== 'gelu') refuse(`hidden_act is '${String(config.hidden_act)}'; the encoders have gelu`);
  const options: Json = { ...optionsOfState(state, family), imageSize: config.image_size, layerNormEps: config.layer_norm_eps ?? (family === 'vit' ? 1e-12 : 1e-5) };
  if (family === 'vit') return modelConfig(family, { ...options, heads: config.num_attention_heads ?? 12 }, classesOf(state));
  const eps = options.layerNormEps;
  if (eps !== 1e-5) refuse(`layer_norm_eps is ${String(eps)}: Hugging Face's ${family} uses it in some norms and 1e-5 in others, which this encoder cannot`);
  if (family === 'swinv2') options.pretrainedWindowSizes = windowsOf(config.pretrained_window_sizes, options);
  return modelConfig(family, { ...options, windowSize: config.window_size ?? 7, dropPath: config.drop_path_rate ?? 0.1 }, classesOf(state));
}

const TORCH_DTYPES: Readonly<Record<string, string>> = { F32: 'float32', F64: 'float64', F16: 'float16', BF16: 'bfloat16' };

/** The `config.json` of Hugging Face for a model whose official-named weights are `state`. Throws `unsupported` for what its classes cannot do. */
export function toHuggingFaceConfig(config: ModelConfig, state: StateDict): Json {
  const { family, encoder, classes } = config;
  const task = state.has('decoder.0.weight') ? 'ForMaskedImageModeling' : 'ForImageClassification';
  const common: Json = {
    architectures: [{ swin: 'Swin', swinv2: 'Swinv2', vit: 'ViT' }[family] + task],
    attention_probs_dropout_prob: 0, dtype: TORCH_DTYPES[find(state, 'patch_embed.proj.weight')?.dtype ?? 'F32'] ?? 'float32', hidden_act: 'gelu', hidden_dropout_prob: 0, image_size: encoder.imageSize, initializer_range: 0.02,
    layer_norm_eps: encoder.layerNormEps, model_type: family, num_channels: encoder.inChannels, patch_size: encoder.patchSize, qkv_bias: encoder.qkvBias,
  };
  if (classes > 0) {
    const labels = Array.from({ length: classes }, (_, i) => `LABEL_${i}`);
    common.id2label = Object.fromEntries(labels.map((label, i) => [String(i), label]));
    common.label2id = Object.fromEntries(labels.map((label, i) => [label, i]));
  }
  if (config.family === 'vit') {
    const { embedDim, depth, heads, mlpRatio, patchSize } = config.encoder;
    if (!config.encoder.absolutePosition) refuse("Hugging Face's vit always has an absolute position embedding, which these weights lack; write the timm or the official layout");
    return { ...common, encoder_stride: patchSize, hidden_size: embedDim, intermediate_size: Math.floor(embedDim * mlpRatio), num_attention_heads: heads, num_hidden_layers: depth };
  }
  const { embedDim, depths, heads, mlpRatio, windowSize, absolutePosition, patchNorm, patchSize, dropPath } = config.encoder;
  if (!patchNorm) refuse(`Hugging Face's ${family} always normalises after the patch embedding, these weights do not`);
  if (encoder.layerNormEps !== 1e-5) refuse(`Hugging Face's ${family} uses 1e-5 in the norms of patch embedding and merging, these weights ${encoder.layerNormEps}`);
  checkMaps(config, 'Hugging Face');
  if (config.family === 'swin') checkTables(config.encoder, state);
  return {
    ...common, depths, drop_path_rate: dropPath, embed_dim: embedDim, encoder_stride: patchSize * 2 ** (depths.length - 1), mlp_ratio: mlpRatio, num_heads: heads, use_absolute_embeddings: absolutePosition, window_size: windowSize,
    ...(config.family === 'swinv2' ? { pretrained_window_sizes: depths.map((_, i) => config.encoder.pretrainedWindowSizes[i] ?? 0) } : {}),
  };
}

/** Hugging Face's Swin has tables of the full window in every stage, the official code of the shrunk window. */
function checkTables({ depths, windowSize }: SwinConfig, state: StateDict): void {
  depths.forEach((_, i) => {
    const rows = find(state, `layers.${i}.blocks.0.attn.relative_position_bias_table`)?.shape[0];
    if (rows !== (2 * windowSize - 1) ** 2) refuse(`stage ${i} has ${rows} bias rows because its map is smaller than the window ${windowSize}; Hugging Face's swin needs ${(2 * windowSize - 1) ** 2} in every stage`);
  });
}

// ---- timm

/** The configuration in a timm `config.json`, with `state` in official names: `model_args` where it has them, else the tensors, the picture size and the architecture's name. */
export function fromTimmConfig(config: Json, state: StateDict): ModelConfig {
  const family = familyOf(state.keys());
  const args = (config.model_args ?? {}) as Json;
  const named = sizesOfName(String(config.architecture));
  const options: Json = { ...optionsOfState(state, family), dropPath: args.drop_path_rate ?? 0 };
  const imageSize = args.img_size ?? inputSize(config) ?? named.imageSize ?? refuse('config.json shows no image size: neither model_args.img_size nor pretrained_cfg.input_size');
  if (family === 'vit') return modelConfig(family, { ...options, layerNormEps: 1e-6, imageSize, heads: args.num_heads ?? (options.embedDim as number) / 64 }, classesOf(state));
  const windowSize = args.window_size ?? swinBuffers(state, options).windowSize ?? named.windowSize ?? refuse('config.json shows no window: model_args.window_size is missing');
  if (family === 'swinv2') options.pretrainedWindowSizes = windowsOf(args.pretrained_window_sizes ?? named.pretrainedWindows, options);
  return modelConfig(family, { ...options, layerNormEps: 1e-5, imageSize, windowSize }, classesOf(state));
}

/** What timm's names say: `swinv2_base_window12to16_192to256` has window 16 (pre-trained with 12, 12, 12, 6) at 256 px. */
function sizesOfName(architecture: string): { imageSize?: number; windowSize?: number; pretrainedWindows?: number[] } {
  const window = /window(?:(\d+)to)?(\d+)/.exec(architecture);
  const image = /_(?:\d+to)?(\d{2,4})(?:\.|$)/.exec(architecture);
  const before = window?.[1] === undefined ? null : Number(window[1]);
  return { ...(image ? { imageSize: Number(image[1]) } : {}), ...(window ? { windowSize: Number(window[2]) } : {}), ...(before !== null ? { pretrainedWindows: [before, before, before, before / 2] } : {}) };
}

function inputSize(config: Json): number | undefined {
  const size = ((config.pretrained_cfg ?? {}) as Json).input_size;
  return Array.isArray(size) ? (size[1] as number) : undefined;
}

/**
 * timm's loader takes a Swin without `head.fc` for a file in the older layout, and moves every patch merging to the
 * wrong stage: such models are written with a head of one class, all zeros.
 */
export function needsTimmHead(config: ModelConfig): boolean {
  return config.family !== 'vit' && config.classes === 0;
}

/**
 * Where another library computes otherwise than the official code and ours, in a sentence; null where it does not.
 * A map that is no square and whose shorter side fits into one window: the official code takes a square window and
 * shifts neither side, timm treats each side alone, Hugging Face's SwinV2 goes by the height. A map that windows do
 * not tile: the official code refuses it, ours keeps the padding out of the attention, timm and Hugging Face let it in.
 */
export function differingMap(config: ModelConfig, other: 'timm' | 'Hugging Face'): string | null {
  if (config.family === 'vit') return null;
  const { encoder } = config;
  for (const [i, { resolution }] of stageGeometry(OP, encoder).entries()) {
    const [height, width] = resolution;
    const uneven = other === 'timm' ? height !== width : config.family === 'swinv2' && width < height;
    if (uneven && Math.min(height, width) <= encoder.windowSize) return `stage ${i} has a ${height}x${width} map, no square and not larger than the window ${encoder.windowSize} on one side: ${other} cuts such maps otherwise than the official code`;
    const [window] = planWindow(resolution, encoder.windowSize, false).window;
    if (height % window !== 0 || width % window !== 0) return `stage ${i} has a ${height}x${width} map, which windows of ${window} do not tile: ${other} lets the padding take part in the attention`;
  }
  return null;
}

function checkMaps(config: ModelConfig, other: 'timm' | 'Hugging Face'): void {
  const difference = differingMap(config, other);
  if (difference) refuse(difference);
}

/** The `config.json` that `timm.create_model('local-dir:FOLDER')` builds the model from, and what it cannot say. */
export function toTimmConfig(config: ModelConfig, state: StateDict, { mean, std }: ImageStatistics = IMAGENET): { json: Json; notes: string[] } {
  const { encoder } = config;
  const classes = needsTimmHead(config) ? 1 : config.classes;
  const [height, width] = typeof encoder.imageSize === 'number' ? [encoder.imageSize, encoder.imageSize] : encoder.imageSize;
  const args: Json = { img_size: height === width ? height : [height, width], patch_size: encoder.patchSize, in_chans: encoder.inChannels, embed_dim: encoder.embedDim, num_heads: encoder.heads, mlp_ratio: encoder.mlpRatio, qkv_bias: encoder.qkvBias, drop_path_rate: encoder.dropPath, num_classes: classes };
  let architecture: string;
  let eps = 1e-5;
  if (config.family === 'vit') {
    const beit = isBeit(state.keys());
    const { depth, layerScale, absolutePosition, relativeBias, finalNorm } = config.encoder;
    architecture = beit ? 'beit_base_patch16_224' : 'vit_base_patch16_224';
    eps = 1e-6;
    Object.assign(args, { depth, init_values: layerScale, global_pool: finalNorm ? (beit && classes === 0 ? '' : 'token') : 'avg' });
    if (beit) Object.assign(args, { use_abs_pos_emb: absolutePosition, use_rel_pos_bias: relativeBias === 'per_block', use_shared_rel_pos_bias: relativeBias === 'shared' });
    else if (!absolutePosition) args.pos_embed = 'none';
  } else {
    architecture = config.family === 'swin' ? 'swin_base_patch4_window7_224' : 'swinv2_base_window8_256';
    if (!config.encoder.patchNorm) refuse(`timm's ${config.family} always normalises after the patch embedding, these weights do not`);
    checkMaps(config, 'timm');
    if (config.family === 'swin' && config.encoder.qkScale !== null) refuse("timm's swin has no qkScale");
    Object.assign(args, { depths: config.encoder.depths, window_size: config.encoder.windowSize });
    if (config.family === 'swinv2') args.pretrained_window_sizes = config.encoder.depths.map((_, i) => config.encoder.pretrainedWindowSizes[i] ?? 0);
  }
  const notes = needsTimmHead(config) ? ["timm's loader needs a head to know its own layout: one of a single class, all zeros, is written"] : [];
  if (encoder.layerNormEps !== eps) notes.push(`layerNormEps is ${encoder.layerNormEps}, which timm's config cannot say: timm uses ${eps}`);
  if (config.family === 'vit' && config.encoder.relativeBias !== 'none' && height !== width) notes.push("timm's loader resizes tables of rectangles even where they fit, and fails: use load_state_dict");
  const last = config.family === 'vit' ? encoder.embedDim : encoder.embedDim * 2 ** (config.encoder.depths.length - 1);
  const pretrained = { input_size: [encoder.inChannels, height, width], fixed_input_size: true, interpolation: 'bicubic', mean, std, num_classes: classes, classifier: config.family === 'vit' ? 'head' : 'head.fc' };
  return { json: { architecture, num_classes: classes, num_features: last, model_args: args, pretrained_cfg: pretrained }, notes };
}
