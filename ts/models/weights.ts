import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { IMAGENET, type ImageStatistics } from '../image_statistics';
import { withFile } from '../formats/byte_source';
import { PickleDict, type PickleValue } from '../formats/pickle';
import type { RawTensor } from '../formats/raw_tensor';
import { encodeSafetensors, readSafetensors } from '../formats/safetensors';
import { parseTorchFile, readTorchTensors, toPlain, torchTensors, TorchTensor } from '../formats/torch_pth';
import { writeWhole } from '../formats/whole_file';
import { differingMap, fromHuggingFaceConfig, fromOfficialConfig, fromRecipeModel, fromTimmConfig, inferConfig, modelConfig, needsTimmHead, toHuggingFaceConfig, toTimmConfig, type Json, type KnownSizes, type ModelConfig } from './model_config';
import { familyIn, fromHuggingFace, fromTimm, layoutOf, toHuggingFace, toTimm, withoutWrappers, type Converted, type Family, type Layout } from './name_maps';

/** Weights in official names, wherever they came from. */
export interface Weights {
  /** The layout they were read from. */
  layout: Layout;
  family: Family;
  /** Tensors by official name (`encoder.*` and `decoder.*` of pre-training, or a classifier's), buffers removed. */
  state: Map<string, RawTensor>;
  /** The model they belong to; null when the file and its shapes do not tell (`inferConfig` says what is missing). */
  config: ModelConfig | null;
  /** Mean and std of each channel (values in 0..1) that its images are normalised by; null where the source does not say. */
  statistics: ImageStatistics | null;
  /** Entries that were left out, and why. */
  dropped: { name: string; why: string }[];
  /** Where these weights give other outputs here than in the library they come from. */
  notes: string[];
}

const OP = 'weights';
const BUFFER = /(^|\.)(relative_position_index|relative_coords_table|attn_mask)$/;
const MAX_JSON = 16 * 1024 * 1024;

/**
 * Reads weights from a `.pth` or `.safetensors` file, from a Hugging Face or timm folder, or from a checkpoint
 * folder of a run of ours (`file` names its weights), told apart by their content. `known` supplies sizes that the file does not show. Throws `not_found`, `io`, `corrupt`, or
 * `unsupported` for other architectures.
 */
export function readWeights(path: string, known: KnownSizes = {}, file = 'model.safetensors'): Weights {
  if (!existsSync(path)) throw new SimmimError('not_found', OP, `'${path}' does not exist`);
  if (statSync(path).isDirectory()) return readFolder(path, known, file);
  const { state, config } = readStateFile(path);
  return assemble(state, config, known);
}

/** What one file of weights holds. */
export interface StateFile {
  state: Map<string, RawTensor>;
  /** What the file says about its model. */
  config: { kind: 'simmim' | 'yacs' | 'json' | 'recipe'; json: Json } | null;
}

function readFolder(folder: string, known: KnownSizes, file: string): Weights {
  const path = (name: string): string => join(folder, name);
  const json = existsSync(path('config.json')) ? readJson(path('config.json')) : null;
  const { recipe, classifier } = existsSync(path('state.json')) ? (readJson(path('state.json')) as { recipe?: { model?: Json; data?: Json }; classifier?: Json }) : {};
  if (classifier) return assemble(readSafetensors(path(file)).tensors, { kind: 'simmim', json: classifier }, known);
  if (recipe?.model) return { ...assemble(readSafetensors(path('model.safetensors')).tensors, { kind: 'recipe', json: recipe.model }, known), statistics: channelStatistics(recipe.data?.statistics) };
  const single = ['model.safetensors', 'pytorch_model.bin', 'model.pth'].find((name) => existsSync(path(name)));
  const { state, config } = single ? readStateFile(path(single)) : { state: readShards(folder), config: null };
  if (!json) return assemble(state, config, known);
  const written = config?.kind === 'simmim' ? config.json : {}; // by us, which the metadata tells
  if (written.classes === 0) for (const name of ['head.fc.weight', 'head.fc.bias']) state.delete(name);
  const described = existsSync(path('preprocessor_config.json')) ? readJson(path('preprocessor_config.json')) : ((json.pretrained_cfg ?? {}) as Json);
  const statistics = channelStatistics({ mean: described.image_mean ?? described.mean, std: described.image_std ?? described.std });
  return { ...assemble(state, { kind: 'json', json }, known, (written.encoder as Json | undefined)?.keyBias === false), statistics };
}

/** The statistics in a configuration; null unless it has one mean and one positive std for each channel. */
function channelStatistics(value: unknown): ImageStatistics | null {
  const { mean, std } = (value ?? {}) as { mean?: unknown; std?: unknown };
  const numbers = (list: unknown, least: number): list is number[] => Array.isArray(list) && list.length > 0 && list.every((n) => typeof n === 'number' && n > least && n < Infinity);
  return numbers(mean, -Infinity) && numbers(std, 0) && mean.length === std.length ? { mean, std } : null;
}

/** A checkpoint in several files, listed in `model.safetensors.index.json`. */
function readShards(folder: string): Map<string, RawTensor> {
  const index = join(folder, 'model.safetensors.index.json');
  if (!existsSync(index)) throw new SimmimError('not_found', OP, `'${folder}' has none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, model.pth`);
  const files = Object.values((readJson(index).weight_map ?? {}) as Json);
  const state = new Map<string, RawTensor>();
  for (const file of new Set(files)) {
    if (typeof file !== 'string' || /[/\\]/.test(file)) throw new SimmimError('corrupt', OP, `${index} names ${JSON.stringify(file)}, which is not a file beside it`);
    for (const [name, tensor] of readSafetensors(join(folder, file)).tensors) state.set(name, tensor);
  }
  return state;
}

function readJson(file: string): Json {
  if (statSync(file).size > MAX_JSON) throw new SimmimError('corrupt', OP, `${file} is larger than ${MAX_JSON} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new SimmimError('corrupt', OP, `${file} is not JSON: ${(error as Error).message}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new SimmimError('corrupt', OP, `${file} is not a JSON object`);
  return json as Json;
}

/** The tensors of one file, `.safetensors` or `.pth`, and what it says of their model. */
export function readStateFile(file: string): StateFile {
  const start = withFile(file, (source) => source.read(0, Math.min(9, source.size)));
  const torch = (start[0] === 0x50 && start[1] === 0x4b) || (start[0] === 0x80 && start[8] !== 0x7b); // a safetensors header starts with '{' at byte 8
  if (torch) return readTorchState(file);
  const { tensors, metadata } = readSafetensors(file);
  if (metadata.simmim === undefined) return { state: tensors, config: null };
  try {
    return { state: tensors, config: { kind: 'simmim', json: JSON.parse(metadata.simmim) as Json } };
  } catch (error) {
    throw new SimmimError('corrupt', OP, `${file}: its metadata 'simmim' is not JSON: ${(error as Error).message}`);
  }
}

/** The state dict of a `.pth`: under `model`, `state_dict` or `module`, or the file itself. */
function readTorchState(file: string): StateFile {
  return withFile(file, (source) => {
    const { root } = parseTorchFile(source);
    const items = root instanceof PickleDict ? root.items : new Map<PickleValue, PickleValue>();
    const key = ['model', 'state_dict', 'module'].find((name) => items.get(name) instanceof PickleDict);
    const dict = key === undefined ? root : (items.get(key) as PickleValue);
    const tensors = dict instanceof PickleDict ? new Map([...dict.items].filter((entry): entry is [string, TorchTensor] => typeof entry[0] === 'string' && entry[1] instanceof TorchTensor)) : torchTensors(dict);
    if (tensors.size === 0) throw new SimmimError('unsupported', OP, `${file} has no state dict: neither it nor its 'model', 'state_dict' or 'module' holds tensors by name`);
    const config = items.get('config');
    return { state: readTorchTensors(tensors, source.size), config: config instanceof PickleDict ? { kind: 'yacs', json: toPlain(config) as Json } : null };
  });
}

function assemble(found: ReadonlyMap<string, RawTensor>, source: StateFile['config'], known: KnownSizes, noKeyBias = false): Weights {
  const stored = withoutWrappers(found);
  const kind = source?.kind === 'json' ? (typeof source.json.model_type === 'string' ? 'huggingface' : 'timm') : null;
  const layout: Layout = kind ?? layoutOf(stored.keys());
  const family = familyIn(layout, stored.keys());
  if (kind === 'huggingface' && source?.json.model_type !== family) throw new SimmimError('unsupported', OP, `config.json says model_type '${String(source?.json.model_type)}', the tensors are a ${family}'s; swin, swinv2 and vit are read`);
  const { tensors, dropped } = toOfficial(stored, layout, family);
  // Written by us from a ViT without key bias: the zeros in its place are no parameters.
  if (noKeyBias && layout === 'huggingface') splitJointBiases(tensors);
  const config = configOf(tensors, stored, source, layout, known);
  if (config) checkKnown(config, known);
  const statistics = source?.kind === 'simmim' ? channelStatistics(source.json.statistics) : null;
  const difference = config && layout !== 'official' ? differingMap(config, layout === 'timm' ? 'timm' : 'Hugging Face') : null;
  return { layout, family, state: tensors, config, statistics, dropped, notes: difference ? [difference] : [] };
}

/** What the caller says must not contradict what the source says: weights are not resized on the way. */
function checkKnown({ family, encoder }: ModelConfig, known: KnownSizes): void {
  const found: Json = { ...encoder };
  for (const [name, value] of Object.entries(known)) {
    if (name === 'heads' && family !== 'vit') continue;
    const [said, got] = [value, found[name]].map((size) => JSON.stringify(name === 'imageSize' && typeof size === 'number' ? [size, size] : size));
    if (value !== undefined && said !== got) throw new SimmimError('invalid_argument', OP, `${name} is given as ${said}, but the weights are those of ${name} ${got ?? 'none'}; load them into a model of the other size to resize them`);
  }
}

function toOfficial(stored: Map<string, RawTensor>, layout: Layout, family: Family): Converted {
  if (layout === 'huggingface') return fromHuggingFace(stored, family);
  if (layout === 'timm') return fromTimm(stored, family);
  const converted: Converted = { tensors: new Map(), dropped: [] };
  for (const [name, tensor] of stored) {
    if (BUFFER.test(name)) converted.dropped.push({ name, why: 'recomputed from the geometry' });
    else converted.tensors.set(name, tensor);
  }
  return converted;
}

function splitJointBiases(tensors: Map<string, RawTensor>): void {
  for (const [name, { dtype, shape, data }] of [...tensors]) {
    if (!name.endsWith('.attn.qkv.bias')) continue;
    const third = data.length / 3;
    if (data.subarray(third, 2 * third).some((byte) => byte !== 0)) continue;
    const part = (i: number): RawTensor => ({ dtype, shape: [(shape[0] as number) / 3], data: data.slice(i * third, (i + 1) * third) });
    tensors.delete(name);
    tensors.set(name.replace('qkv.bias', 'q_bias'), part(0)).set(name.replace('qkv.bias', 'v_bias'), part(2));
  }
}

function configOf(state: Map<string, RawTensor>, stored: Map<string, RawTensor>, source: StateFile['config'], layout: Layout, known: KnownSizes): ModelConfig | null {
  if (source?.kind === 'simmim') {
    const { family, encoder, classes } = source.json as { family: Family; encoder: object; classes: number };
    if (!['swin', 'swinv2', 'vit'].includes(family) || typeof encoder !== 'object' || encoder === null || !Number.isInteger(classes)) throw new SimmimError('corrupt', OP, "the metadata 'simmim' lacks family, encoder or classes");
    return modelConfig(family, encoder, classes);
  }
  if (source?.kind === 'json') return layout === 'huggingface' ? fromHuggingFaceConfig(source.json, state) : fromTimmConfig(source.json, state);
  if (source?.kind === 'recipe') return fromRecipeModel(source.json, state);
  try {
    // Buffers, which are not kept, show window and image size.
    return source ? fromOfficialConfig(source.json, state) : inferConfig(layout === 'official' ? stored : state, known);
  } catch (error) {
    if (error instanceof SimmimError && error.code === 'unsupported') return null;
    throw error;
  }
}

/** What {@link writeWeights} wrote and what the layout could not take. */
export interface WriteReport {
  files: string[];
  written: number;
  dropped: { name: string; why: string }[];
  /** Settings that the layout's configuration cannot express. */
  notes: string[];
}

/**
 * Writes weights in official names as a folder with `model.safetensors` and, for Hugging Face and timm, their
 * `config.json`, so that `AutoModel.from_pretrained(FOLDER)` and `timm.create_model('local-dir:FOLDER')` load them;
 * the official layout has the configuration in the file's metadata. `statistics` (default ImageNet's) are what
 * the images are normalised by. Files appear whole or not at all.
 */
export function writeWeights(folder: string, layout: Layout, state: ReadonlyMap<string, RawTensor>, config: ModelConfig, statistics: ImageStatistics | null = null): WriteReport {
  const metadata: Record<string, string> = { format: 'pt', simmim: JSON.stringify(statistics ? { ...config, statistics } : config) };
  const report: WriteReport = { files: [], written: 0, dropped: [], notes: [] };
  let tensors: ReadonlyMap<string, RawTensor> = state;
  const json: [string, Json][] = [];
  if (layout !== 'official') {
    const converted = layout === 'huggingface' ? toHuggingFace(state, config.family) : toTimm(state, config.family);
    tensors = converted.tensors;
    report.dropped = converted.dropped;
    if (layout === 'huggingface' && config.family === 'swinv2') report.notes.push('transformers (5.18) adds the mask of shifted windows twice in SwinV2: its outputs differ where a logit scale is near its limit of 100');
    const [height, width] = [config.encoder.imageSize].flat();
    if (layout === 'huggingface' && width !== undefined && height !== width && state.has('decoder.0.weight')) report.notes.push("transformers' masked image modelling runs on square pictures only; the encoder is not affected");
    if (layout === 'huggingface') json.push(['config.json', toHuggingFaceConfig(config, state)], ['preprocessor_config.json', preprocessor(config, statistics ?? IMAGENET)]);
    else {
      const timm = toTimmConfig(config, state, statistics ?? IMAGENET);
      json.push(['config.json', timm.json]);
      report.notes.push(...timm.notes);
      if (needsTimmHead(config)) addTimmHead(converted.tensors);
    }
  }
  writeWhole(join(folder, 'model.safetensors'), OP, encodeSafetensors([...tensors].sort(([a], [b]) => (a < b ? -1 : 1)), metadata));
  for (const [name, content] of json) writeWhole(join(folder, name), OP, jsonText(content));
  report.files = ['model.safetensors', ...json.map(([name]) => name)].map((name) => join(folder, name));
  report.written = tensors.size;
  return report;
}

/** A head of one class that is all zeros, where there is none (see `needsTimmHead`). */
function addTimmHead(tensors: Map<string, RawTensor>): void {
  const channels = tensors.get('norm.weight')?.shape[0] ?? 0;
  tensors.set('head.fc.weight', { dtype: 'F32', shape: [1, channels], data: new Uint8Array(4 * channels) });
  tensors.set('head.fc.bias', { dtype: 'F32', shape: [1], data: new Uint8Array(4) });
}

/** transformers checks types: a float setting must be written as one, which JSON.stringify does not do for 4. */
function jsonText(content: Json): string {
  return `${JSON.stringify(content, null, 2).replace(/("(?:mlp_ratio|drop_path_rate)": \d+)(,?\n)/g, '$1.0$2')}\n`;
}

function preprocessor(config: ModelConfig, { mean, std }: ImageStatistics): Json {
  const { imageSize } = config.encoder;
  const [height, width] = typeof imageSize === 'number' ? [imageSize, imageSize] : imageSize;
  return { do_normalize: true, do_rescale: true, do_resize: true, image_mean: mean, image_processor_type: 'ViTImageProcessor', image_std: std, resample: 3, rescale_factor: 1 / 255, size: { height, width } };
}
