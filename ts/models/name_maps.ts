import { SimmimError } from '../errors';
import { DTYPE_BYTES, type RawTensor } from '../formats/raw_tensor';
import type { StateDict } from './pretrained';

/** The three architectures. */
export type Family = 'swin' | 'swinv2' | 'vit';
/** Whose names and file layout. */
export type Layout = 'official' | 'huggingface' | 'timm';

/** Converted tensors and what was left out on the way, with the reason. */
export interface Converted {
  tensors: Map<string, RawTensor>;
  dropped: { name: string; why: string }[];
}

const OP = 'convert';
const BUFFER = /(^|\.)(relative_position_index|relative_coords_table|attn_mask)$/;

/** [official, other] templates: {i}, {j} are numbers, {p} is weight or bias. Without `encoder.` and the other side's model prefix. */
type Pairs = readonly (readonly [string, string])[];

const SWIN_BLOCK: Pairs = [
  ['norm1.{p}', 'layernorm_before.{p}'],
  ['norm2.{p}', 'layernorm_after.{p}'],
  ['attn.proj.{p}', 'attention.output.dense.{p}'],
  ['mlp.fc1.{p}', 'intermediate.dense.{p}'],
  ['mlp.fc2.{p}', 'output.dense.{p}'],
];
const V1_BLOCK: Pairs = [['attn.relative_position_bias_table', 'attention.self.relative_position_bias_table']];
const V2_BLOCK: Pairs = [
  ['attn.logit_scale', 'attention.self.logit_scale'],
  ['attn.cpb_mlp.{k}.{p}', 'attention.self.continuous_position_bias_mlp.{k}.{p}'],
  ['attn.q_bias', 'attention.self.query.bias'],
  ['attn.v_bias', 'attention.self.value.bias'],
];
const within = (official: string, other: string, pairs: Pairs): Pairs => pairs.map(([a, b]) => [`${official}.${a}`, `${other}.${b}`] as const);

const SWIN_STEM: Pairs = [
  ['mask_token', 'embeddings.mask_token'],
  ['absolute_pos_embed', 'embeddings.position_embeddings'],
  ['patch_embed.proj.{p}', 'embeddings.patch_embeddings.projection.{p}'],
  ['patch_embed.norm.{p}', 'embeddings.norm.{p}'],
  ['layers.{i}.downsample.reduction.weight', 'encoder.layers.{i}.downsample.reduction.weight'],
  ['layers.{i}.downsample.norm.{p}', 'encoder.layers.{i}.downsample.norm.{p}'],
  ['norm.{p}', 'layernorm.{p}'],
];
const inSwinBlocks = (pairs: Pairs): Pairs => within('layers.{i}.blocks.{j}', 'encoder.layers.{i}.blocks.{j}', pairs);

const HUGGING_FACE: Readonly<Record<Family, Pairs>> = {
  swin: [...SWIN_STEM, ...inSwinBlocks([...SWIN_BLOCK, ...V1_BLOCK])],
  swinv2: [...SWIN_STEM, ...inSwinBlocks([...SWIN_BLOCK, ...V2_BLOCK])],
  vit: [
    ['cls_token', 'embeddings.cls_token'],
    ['mask_token', 'embeddings.mask_token'],
    ['pos_embed', 'embeddings.position_embeddings'],
    ['patch_embed.proj.{p}', 'embeddings.patch_embeddings.projection.{p}'],
    ['norm.{p}', 'layernorm.{p}'],
    ...within('blocks.{i}', 'encoder.layer.{i}', SWIN_BLOCK),
  ],
};
/** Where query, key and value lie apart: the block's path on both sides and the part that names them. */
const SPLIT: Readonly<Record<Family, readonly [string, string]>> = {
  swin: ['layers.{i}.blocks.{j}.attn.qkv.{p}', 'encoder.layers.{i}.blocks.{j}.attention.self.{q}.{p}'],
  swinv2: ['layers.{i}.blocks.{j}.attn.qkv.{p}', 'encoder.layers.{i}.blocks.{j}.attention.self.{q}.{p}'],
  vit: ['blocks.{i}.attn.qkv.{p}', 'encoder.layer.{i}.attention.attention.{q}.{p}'],
};
const PARTS = ['query', 'key', 'value'] as const;

/** A function that rewrites names of template `from` as template `to`; null for other names. */
function rewriter(from: string, to: string): (name: string) => string | null {
  const fields = [...from.matchAll(/\{(\w)\}/g)].map((match) => match[1] as string);
  const groups: Record<string, string> = { p: '(weight|bias)', q: '(query|key|value)' };
  const expression = new RegExp(`^${from.replace(/\./g, '\\.').replace(/\{(\w)\}/g, (_, field: string) => groups[field] ?? '(\\d+)')}$`);
  return (name) => {
    const match = expression.exec(name);
    return match && to.replace(/\{(\w)\}/g, (hole, field: string) => (fields.includes(field) ? (match[fields.indexOf(field) + 1] as string) : hole));
  };
}

function renamer(pairs: Pairs): (name: string) => string | null {
  const rules = pairs.map(([from, to]) => rewriter(from, to));
  return (name) => {
    for (const rule of rules) {
      const renamed = rule(name);
      if (renamed !== null) return renamed;
    }
    return null;
  };
}

const reversed = (pairs: Pairs): Pairs => pairs.map(([a, b]) => [b, a] as const);

function unsupported(what: string): SimmimError {
  return new SimmimError('unsupported', OP, what);
}

/** The architecture that official names belong to. Throws `unsupported` where they are none of the three. */
export function familyOf(names: Iterable<string>): Family {
  const all = [...names];
  if (all.some((name) => name.includes('logit_scale'))) return 'swinv2';
  if (all.some((name) => /(^|\.)layers\.\d+\.blocks\.\d+\.attn\.qkv\.weight$/.test(name))) return 'swin';
  if (all.some((name) => /(^|\.)blocks\.\d+\.attn\.qkv\.weight$/.test(name))) return 'vit';
  throw unsupported(`names such as '${all.slice(0, 3).join("', '")}' are not those of a Swin, SwinV2 or ViT`);
}

/** What training code wraps models in: DistributedDataParallel, torch.compile, Lightning, detection code. */
const WRAPPERS = ['module.', '_orig_mod.', 'model.', 'backbone.'];

/** The same tensors without the wrappers' prefixes that all of their names share. */
export function withoutWrappers(state: StateDict): Map<string, RawTensor> {
  const names = [...state.keys()];
  let cut = 0;
  for (;;) {
    const prefix = WRAPPERS.find((p) => names.length > 0 && names.every((name) => name.startsWith(p, cut)));
    if (!prefix) return new Map([...state].map(([name, tensor]) => [name.slice(cut), tensor]));
    cut += prefix.length;
  }
}

/** Splits off the names' `encoder.`; `head` and `decoder` parts stay as they are. Buffers are dropped. */
function bareNames(state: StateDict, converted: Converted): Map<string, RawTensor> {
  const bare = new Map<string, RawTensor>();
  for (const [name, tensor] of state) {
    if (BUFFER.test(name)) converted.dropped.push({ name, why: 'recomputed from the geometry' });
    else bare.set(name.replace(/^encoder\./, ''), tensor);
  }
  return bare;
}

/** Three tensors of equal rows out of one, bytes untouched. */
function splitRows(tensor: RawTensor, name: string): RawTensor[] {
  const [rows = 0, ...rest] = tensor.shape;
  if (rows % 3 !== 0) throw unsupported(`'${name}' has ${rows} rows, which are not query, key and value`);
  const part = tensor.data.byteLength / 3;
  return PARTS.map((_, i) => ({ dtype: tensor.dtype, shape: [rows / 3, ...rest], data: tensor.data.slice(i * part, (i + 1) * part) }));
}

/** The reverse of {@link splitRows}. */
function joinRows(parts: readonly RawTensor[], name: string): RawTensor {
  const [first] = parts as [RawTensor];
  if (parts.some((t) => t.dtype !== first.dtype || String(t.shape) !== String(first.shape))) throw unsupported(`query, key and value of '${name}' differ in shape or dtype`);
  const data = new Uint8Array(parts.reduce((sum, t) => sum + t.data.byteLength, 0));
  parts.forEach((t, i) => data.set(t.data, i * t.data.byteLength));
  return { dtype: first.dtype, shape: [3 * (first.shape[0] as number), ...first.shape.slice(1)], data };
}

function zerosLike({ dtype, shape }: RawTensor): RawTensor {
  return { dtype, shape: [...shape], data: new Uint8Array(shape.reduce((a, b) => a * b, 1) * DTYPE_BYTES[dtype]) };
}

// ---- Hugging Face

/**
 * Official names to those of transformers' `<Family>ForMaskedImageModeling` (when `decoder.0` is there) or
 * `<Family>ForImageClassification`. Bytes are unchanged; qkv is cut in three. Throws `unsupported` for what the
 * Hugging Face classes cannot hold (LayerScale, a ViT's relative bias or mean pooling, other heads than the linear one).
 */
export function toHuggingFace(state: StateDict, family: Family): Converted {
  const converted: Converted = { tensors: new Map(), dropped: [] };
  const bare = bareNames(state, converted);
  const classifies = bare.has('head.weight');
  const rename = renamer(HUGGING_FACE[family]);
  const split = rewriter(...SPLIT[family]);
  for (const [name, tensor] of bare) {
    const parts = split(name);
    if (name === 'mask_token' && !bare.has('decoder.0.weight')) converted.dropped.push({ name, why: 'a classifier hides nothing' });
    else if (/^decoder\.0\.(weight|bias)$/.test(name) && !bare.has('decoder.2.weight')) converted.tensors.set(name, tensor);
    else if (/^head\.(weight|bias)$/.test(name)) converted.tensors.set(name.replace('head', 'classifier'), tensor);
    else if (parts) splitRows(tensor, name).forEach((part, i) => converted.tensors.set(`${family}.${parts.replace('{q}', PARTS[i] as string)}`, part));
    else if (family === 'vit' && /\.[qv]_bias$/.test(name)) setVitBias(name, tensor, converted.tensors);
    else {
      const renamed = rename(name);
      if (!renamed) throw unsupported(`Hugging Face's ${family} has no place for '${name}' ${whyNot(name)}`);
      converted.tensors.set(`${family}.${renamed}`, tensor);
    }
  }
  if (!classifies && !bare.has('decoder.0.weight')) throw unsupported('the weights have neither a decoder nor a classification head, so no Hugging Face class holds them');
  return converted;
}

/** A ViT's q_bias and v_bias, with the zero key bias that they mean. */
function setVitBias(name: string, tensor: RawTensor, tensors: Map<string, RawTensor>): void {
  const match = /^blocks\.(\d+)\.attn\.([qv])_bias$/.exec(name);
  if (!match) throw unsupported(`'${name}' is not a ViT's`);
  const attention = `vit.encoder.layer.${match[1]}.attention.attention`;
  tensors.set(`${attention}.${match[2] === 'q' ? 'query' : 'value'}.bias`, tensor);
  if (match[2] === 'q') tensors.set(`${attention}.key.bias`, zerosLike(tensor));
}

function whyNot(name: string): string {
  if (/gamma_[12]$/.test(name)) return '(LayerScale); write the timm or the official layout';
  if (/relative_position_bias_table$/.test(name)) return '(relative position bias); write the timm or the official layout';
  if (/^fc_norm/.test(name)) return '(mean pooling; its class token classifies); write the timm or the official layout';
  if (/^decoder/.test(name)) return '(its decoder is one 1x1 convolution)';
  if (/norm3/.test(name)) return '(the extra norm of SwinV2-H and -G)';
  return '';
}

/** Hugging Face names to official ones: `encoder.*`, `decoder.0.*` for masked image modelling, else `*`, `head.*`. Throws for unknown names. */
export function fromHuggingFace(state: StateDict, family: Family): Converted {
  const converted: Converted = { tensors: new Map(), dropped: [] };
  const prefix = [...state.keys()].some((name) => name.startsWith('decoder.')) ? 'encoder.' : '';
  const rename = renamer(reversed(HUGGING_FACE[family]));
  const [official, other] = SPLIT[family];
  const join = rewriter(other, official);
  for (const [name, tensor] of state) {
    const inner = name.startsWith(`${family}.`) ? name.slice(family.length + 1) : name;
    if (BUFFER.test(name) || name.startsWith(`${family}.pooler.`)) converted.dropped.push({ name, why: 'recomputed, or no part of the model' });
    else if (/^decoder\.0\./.test(name)) converted.tensors.set(name, tensor);
    else if (/^classifier\./.test(name)) converted.tensors.set(name.replace('classifier', 'head'), tensor);
    else {
      const direct = rename(inner);
      const joint = direct === null ? join(inner) : null;
      if (direct !== null) converted.tensors.set(prefix + direct, tensor);
      else if (joint === null) throw unsupported(`'${name}' is not a name of Hugging Face's ${family}`);
      else if (inner.includes('.query.')) {
        const parts = PARTS.map((part) => state.get(name.replace('.query.', `.${part}.`)));
        if (parts.some((part) => !part)) throw unsupported(`'${name}' has no key and value beside it`);
        converted.tensors.set(prefix + joint, joinRows(parts as RawTensor[], joint));
      }
    }
  }
  return converted;
}

// ---- timm

/** Whether timm holds a ViT's weights as `Beit` (SimMIM's own architecture) rather than `VisionTransformer`. */
export function isBeit(names: Iterable<string>): boolean {
  return [...names].some((name) => /relative_position_bias_table$|q_bias$/.test(name));
}

/** Moves patch merging from the end of stage i to the start of stage i + 1 (`by` = 1), or back (-1). */
const moveMerging = (name: string, by: 1 | -1): string => name.replace(/^layers\.(\d+)\.downsample\./, (_, i: string) => `layers.${Number(i) + by}.downsample.`);

/** Official names to timm's (`SwinTransformer`, `SwinTransformerV2`, `VisionTransformer`, `Beit`): an encoder with or without head; decoder and mask token have no place there and are dropped. */
export function toTimm(state: StateDict, family: Family): Converted {
  const converted: Converted = { tensors: new Map(), dropped: [] };
  const bare = bareNames(state, converted);
  const beit = family === 'vit' && isBeit(bare.keys());
  for (const [name, tensor] of bare) {
    if (name === 'mask_token' || name.startsWith('decoder.')) converted.dropped.push({ name, why: 'timm has no masked image modelling' });
    else if (family === 'vit') converted.tensors.set(beit ? name : name.replace(/gamma_([12])$/, 'ls$1.gamma'), tensor);
    else if (name === 'absolute_pos_embed') throw unsupported(`timm's ${family} has no absolute position embedding`);
    else if (name.includes('.norm3.')) throw unsupported(`timm's ${family} has no place for '${name}' (the extra norm of SwinV2-H and -G)`);
    else converted.tensors.set(moveMerging(name.replace(/^head\./, 'head.fc.'), 1), tensor);
  }
  return converted;
}

/** timm's names to official ones, without `encoder.` prefix. */
export function fromTimm(state: StateDict, family: Family): Converted {
  const converted: Converted = { tensors: new Map(), dropped: [] };
  for (const [name, tensor] of bareNames(state, converted)) {
    const official = family === 'vit' ? name.replace(/ls([12])\.gamma$/, 'gamma_$1') : moveMerging(name.replace(/^head\.fc\./, 'head.'), -1);
    converted.tensors.set(official, tensor);
  }
  return converted;
}

/** The layout that a file's names are in. */
export function layoutOf(names: Iterable<string>): Layout {
  const all = [...names];
  if (all.some((name) => /^(swin|swinv2|vit)\.(embeddings|encoder|layernorm)\./.test(name))) return 'huggingface';
  if (all.some((name) => /^head\.fc\./.test(name) || /\.ls[12]\.gamma$/.test(name))) return 'timm';
  const merging = all.map((name) => /^(?:encoder\.)?layers\.(\d+)\.downsample\./.exec(name)?.[1]).filter((i) => i !== undefined);
  // Only timm merges at the start of a stage, so only there stage 0 has no merging and the last one has.
  if (merging.length > 0 && !merging.includes('0')) return 'timm';
  return 'official';
}

/** The architecture of a file in any layout. */
export function familyIn(layout: Layout, names: Iterable<string>): Family {
  if (layout !== 'huggingface') return familyOf(names);
  const family = /^(swin|swinv2|vit)\./.exec([...names].find((name) => /^(swin|swinv2|vit)\./.test(name)) ?? '')?.[1];
  if (!family) throw unsupported('no name starts with swin., swinv2. or vit.');
  return family as Family;
}
