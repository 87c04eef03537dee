import { SimmimError } from '../errors';
import { toFloat32, type RawTensor } from '../formats/raw_tensor';
import type { Pair } from './encoder';
import { resizeBiasTable, resizePositionEmbedding, type BiasInterpolation } from './position_bias';
import { withoutWrappers } from './name_maps';

/** A checkpoint's tensors by their official names. */
export type StateDict = ReadonlyMap<string, RawTensor>;

/** What {@link loadPretrained} needs of a parameter. */
export interface LoadTarget {
  readonly shape: readonly number[];
  set(values: Float32Array): void;
}

export interface LoadOptions {
  /** How position bias tables change size. Default `geometric` (SimMIM's rule); `bicubic` is Swin's. */
  interpolation?: BiasInterpolation;
  /**
   * Throw when a parameter stays at its initial value or an entry of the checkpoint finds no place, other
   * than by the official rules (resuming, not fine-tuning). Default false: both are reported.
   */
  strict?: boolean;
  /** Patch grid of the checkpoint and of the model, needed to resize where they are not square. */
  sourceGrid?: Pair;
  targetGrid?: Pair;
}

/** A parameter filled from an entry of another size. */
export interface ResizedEntry {
  name: string;
  from: number[];
  to: number[];
  rule: BiasInterpolation;
}

/** What became of every parameter of the model and every entry of the checkpoint; each is in exactly one list of its side. */
export interface LoadReport {
  /** Parameters filled as they were stored. */
  loaded: string[];
  /** Parameters filled after a change of size. */
  resized: ResizedEntry[];
  /** Parameters left at their initial values: the checkpoint has nothing for them. */
  missing: string[];
  /** Parameters left at their initial values: the checkpoint's entry has a shape that cannot be resized. */
  mismatched: { name: string; got: number[]; expected: number[] }[];
  /** Entries of the checkpoint that no parameter takes. */
  unexpected: string[];
  /** Entries left out by rule, with the rule: buffers that are recomputed, decoder and mask token when fine-tuning. */
  dropped: { name: string; why: string }[];
}

const OP = 'loadPretrained';
/** Tables that the official code stores but that follow from the geometry. */
const BUFFER = /(^|\.)(relative_position_index|relative_coords_table|attn_mask)$/;
const SHARED_TABLE = 'rel_pos_bias.relative_position_bias_table';
const BLOCK_TABLE = /^((?:encoder\.)?)blocks\.\d+\.attn\.relative_position_bias_table$/;
const isBiasTable = (name: string): boolean => name.endsWith('relative_position_bias_table');

/**
 * Fills a model's parameters (`namedParameters(model)`) from a checkpoint by the official rules (microsoft/SimMIM
 * `utils.py` `load_pretrained`): `encoder.` is removed or added as the model needs; decoder and mask token are
 * left out when the model has none; position bias tables and absolute position embeddings are resized; a ViT's
 * shared bias table is copied into every block of a model that has one for each. Every deviation is in the report.
 *
 * Throws `invalid_argument` when no entry fits at all; when a shape differs and cannot be resized, other than the
 * classification head's; and, if `strict`, when anything is missing or unexpected. Nothing is written then.
 */
export function loadPretrained(parameters: ReadonlyMap<string, LoadTarget>, state: StateDict, options: LoadOptions = {}): LoadReport {
  const report: LoadReport = { loaded: [], resized: [], missing: [], mismatched: [], unexpected: [], dropped: [] };
  const entries = adaptBiases(copySharedTable(alignPrefix(state, parameters, report), parameters), parameters);
  const writes: [LoadTarget, Float32Array][] = [];
  for (const [name, parameter] of parameters) {
    const entry = entries.get(name);
    if (!entry) {
      report.missing.push(name);
      continue;
    }
    const values = fitted(name, entry, parameter, options, report);
    if (values) writes.push([parameter, values]);
  }
  for (const [name, entry] of entries) if (!parameters.has(name) && !entry.taken) report.unexpected.push(entry.source);
  refuse(report, options.strict ?? false);
  for (const [parameter, values] of writes) parameter.set(values);
  return report;
}

interface Entry {
  tensor: RawTensor;
  /** Name in the checkpoint. */
  source: string;
  /** Used in another form. */
  taken?: boolean;
}

/** The checkpoint's entries under the model's names; what the rules leave out goes to the report. */
function alignPrefix(given: StateDict, parameters: ReadonlyMap<string, LoadTarget>, report: LoadReport): Map<string, Entry> {
  const state = withoutWrappers(given);
  const stored = [...state.keys()].some((name) => name.startsWith('encoder.'));
  const wanted = [...parameters.keys()].some((name) => name.startsWith('encoder.'));
  const entries = new Map<string, Entry>();
  for (const [name, tensor] of state) {
    const drop = (why: string): void => void report.dropped.push({ name, why });
    if (BUFFER.test(name)) drop('recomputed from the geometry');
    else if (stored && !wanted) {
      if (!name.startsWith('encoder.')) drop('belongs to pre-training');
      else if (name === 'encoder.mask_token' && !parameters.has('mask_token')) drop('the model hides nothing');
      else entries.set(name.slice('encoder.'.length), { tensor, source: name });
    } else if (!stored && wanted) {
      if (/^(head|fc_norm)\./.test(name)) drop('belongs to classification');
      else entries.set(`encoder.${name}`, { tensor, source: name });
    } else if (name === 'mask_token' && !parameters.has(name)) drop('the model hides nothing');
    else entries.set(name, { tensor, source: name });
  }
  return entries;
}

/** One table for all blocks where the model has one for each. */
function copySharedTable(entries: Map<string, Entry>, parameters: ReadonlyMap<string, LoadTarget>): Map<string, Entry> {
  for (const name of parameters.keys()) {
    const prefix = BLOCK_TABLE.exec(name)?.[1];
    const shared = prefix === undefined ? undefined : entries.get(prefix + SHARED_TABLE);
    if (!shared || entries.has(name)) continue;
    entries.set(name, { tensor: shared.tensor, source: shared.source });
    shared.taken = true;
  }
  return entries;
}

/**
 * q_bias and v_bias where the model has a joint qkv.bias, and the reverse. A ViT's key bias moves every score of
 * a query alike, so softmax does not see it: a model without key bias computes the same without it.
 */
function adaptBiases(entries: Map<string, Entry>, parameters: ReadonlyMap<string, LoadTarget>): Map<string, Entry> {
  for (const name of parameters.keys()) {
    const joint = /^(.*\.)qkv\.bias$/.exec(name)?.[1];
    if (joint !== undefined && !entries.has(name)) {
      const [q, v] = [entries.get(`${joint}q_bias`), entries.get(`${joint}v_bias`)];
      if (!q || !v) continue;
      const parts = [toFloat32(q.tensor, q.source), toFloat32(v.tensor, v.source)] as const;
      const values = new Float32Array(3 * parts[0].length);
      values.set(parts[0]);
      values.set(parts[1], 2 * parts[0].length);
      entries.set(name, { tensor: { dtype: 'F32', shape: [values.length], data: new Uint8Array(values.buffer) }, source: q.source });
      q.taken = v.taken = true;
    }
    const part = /^(.*\.blocks\.|blocks\.)(\d+)\.attn\.([qv])_bias$/.exec(name);
    if (!part || /layers\./.test(name) || entries.has(name)) continue;
    const whole = entries.get(`${part[1]}${part[2]}.attn.qkv.bias`);
    if (!whole) continue;
    const values = toFloat32(whole.tensor, whole.source);
    const size = values.length / 3;
    const from = part[3] === 'q' ? 0 : 2 * size;
    const values3 = values.slice(from, from + size);
    entries.set(name, { tensor: { dtype: 'F32', shape: [size], data: new Uint8Array(values3.buffer) }, source: whole.source });
    whole.taken = true;
  }
  return entries;
}

/** The values for a parameter, noted in the report; null where the shapes cannot be brought together. */
function fitted(name: string, { tensor, source }: Entry, parameter: LoadTarget, options: LoadOptions, report: LoadReport): Float32Array | null {
  const [got, expected] = [tensor.shape, [...parameter.shape]];
  const equal = got.length === expected.length && got.every((n, i) => n === expected[i]);
  if (equal) {
    report.loaded.push(name);
    return toFloat32(tensor, source);
  }
  const rule = isBiasTable(name) ? options.interpolation ?? 'geometric' : 'bicubic';
  const resized = isBiasTable(name) ? resizeTable(name, tensor, expected, rule, options) : /(^|\.)(absolute_pos_embed|pos_embed)$/.test(name) ? resizeEmbedding(name, tensor, expected, options) : null;
  if (resized) report.resized.push({ name, from: got, to: expected, rule });
  else report.mismatched.push({ name, got, expected });
  return resized;
}

/** [rows, heads] -> [rows', heads]; a ViT's last three rows belong to its class token. */
function resizeTable(name: string, tensor: RawTensor, expected: number[], rule: BiasInterpolation, options: LoadOptions): Float32Array | null {
  const vit = /(^|\.)rel_pos_bias\./.test(name) || BLOCK_TABLE.test(name);
  const extra = vit ? 3 : 0;
  const [rows = 0, heads = 0] = tensor.shape;
  if (tensor.shape.length !== 2 || heads !== expected[1]) return null;
  const side = (count: number, grid: Pair | undefined): Pair | null => {
    // Swin's windows are square; a ViT's table spans its whole grid.
    if (vit && grid && (2 * grid[0] - 1) * (2 * grid[1] - 1) === count) return [2 * grid[0] - 1, 2 * grid[1] - 1];
    const root = Math.round(Math.sqrt(count));
    return root * root === count && root % 2 === 1 ? [root, root] : null;
  };
  const from = side(rows - extra, options.sourceGrid);
  const to = side((expected[0] as number) - extra, options.targetGrid);
  return from && to && resizeBiasTable(toFloat32(tensor, name), heads, from, to, rule, extra);
}

/** [1, extra + rows, C] -> [1, extra + rows', C]; a ViT's first row belongs to its class token. */
function resizeEmbedding(name: string, tensor: RawTensor, expected: number[], options: LoadOptions): Float32Array | null {
  const extra = name.endsWith('absolute_pos_embed') ? 0 : 1;
  const [one, rows = 0, channels = 0] = tensor.shape;
  if (tensor.shape.length !== 3 || one !== 1 || channels !== expected[2]) return null;
  const side = (count: number, grid: Pair | undefined): Pair | null => {
    if (grid && grid[0] * grid[1] === count) return grid;
    const root = Math.round(Math.sqrt(count));
    return root > 0 && root * root === count ? [root, root] : null;
  };
  const from = side(rows - extra, options.sourceGrid);
  const to = side((expected[1] as number) - extra, options.targetGrid);
  return from && to && resizePositionEmbedding(toFloat32(tensor, name), channels, from, to, extra);
}

function refuse(report: LoadReport, strict: boolean): void {
  const fail = (message: string): never => {
    throw new SimmimError('invalid_argument', OP, message);
  };
  const some = (names: string[]): string => names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '');
  if (report.loaded.length + report.resized.length === 0 && report.mismatched.length === 0) {
    fail(`no entry of the checkpoint fits a parameter of the model (it has ${some(report.unexpected)}, the model needs ${some(report.missing)})`);
  }
  const wrong = report.mismatched.filter(({ name }) => strict || !name.startsWith('head.'));
  if (wrong.length > 0) {
    fail(`${wrong.length} parameters have another shape than the checkpoint: ${some(wrong.map((m) => `${m.name} is [${m.got.join(', ')}], expected [${m.expected.join(', ')}]`))}; the checkpoint is of another model or size`);
  }
  if (strict && report.missing.length > 0) fail(`the checkpoint has nothing for ${report.missing.length} parameters: ${some(report.missing)}`);
  if (strict && report.unexpected.length > 0) fail(`${report.unexpected.length} entries of the checkpoint find no place in the model: ${some(report.unexpected)}`);
}

/** The report as lines for a person: counts, then every entry that was not simply loaded. */
export function describeLoad(report: LoadReport): string {
  const lines = [`${report.loaded.length} loaded, ${report.resized.length} resized, ${report.missing.length} missing, ${report.mismatched.length} of another shape, ${report.unexpected.length} unexpected, ${report.dropped.length} left out by rule`];
  for (const { name, from, to, rule } of report.resized) lines.push(`resized    ${name}: [${from.join(', ')}] -> [${to.join(', ')}], ${rule}`);
  for (const name of report.missing) lines.push(`missing    ${name}: stays at its initial value`);
  for (const { name, got, expected } of report.mismatched) lines.push(`other size ${name}: [${got.join(', ')}], expected [${expected.join(', ')}]: stays at its initial value`);
  for (const name of report.unexpected) lines.push(`unexpected ${name}`);
  for (const { name, why } of report.dropped) lines.push(`left out   ${name}: ${why}`);
  return lines.join('\n');
}
