import { DTYPE_BYTES, type StorageDType } from '../ts/native';

/** A tensor as a trace line prints it. */
export interface TracedTensor {
  dtype: StorageDType;
  dims: number[];
}

/** One line of SIMMIM_TRACE: `simmim linear x=f32[8,96] weight=f32[96,96] bias=none ... activation=0 # 12.3 us, 12.1 us of this thread`. */
export interface TracedCall {
  kernel: string;
  tensors: Record<string, TracedTensor | null>;
  /** Numbers, and lists written (1,2). */
  scalars: Record<string, number | number[]>;
  wall: number;
  /** Processor time of the calling thread. Both in microseconds. */
  thread: number;
}

const LINE = /^simmim (\w+)(.*?) # ([\d.]+) us, ([\d.]+) us of this thread$/;
const TENSOR = /^(f32|i32|u8|bf16)\[([\d,]*)\]$/;

/** Undefined for text that is no trace line. */
export function parseTraceLine(line: string): TracedCall | undefined {
  const match = LINE.exec(line);
  if (!match) return undefined;
  const call: TracedCall = { kernel: match[1] as string, tensors: {}, scalars: {}, wall: Number(match[3]), thread: Number(match[4]) };
  for (const field of (match[2] as string).trim().split(' ')) {
    const at = field.indexOf('=');
    if (at < 0) continue;
    const [name, value] = [field.slice(0, at), field.slice(at + 1)];
    const tensor = TENSOR.exec(value);
    if (tensor) call.tensors[name] = { dtype: tensor[1] as StorageDType, dims: (tensor[2] as string).split(',').filter(Boolean).map(Number) };
    else if (value === 'none') call.tensors[name] = null;
    else call.scalars[name] = value.startsWith('(') ? value.slice(1, -1).split(',').filter(Boolean).map(Number) : Number(value);
  }
  return call;
}

/** Number of values of a shape. */
export const elements = (dims: readonly number[]): number => dims.reduce((n, d) => n * d, 1);
const count = (call: TracedCall, name: string): number => elements(call.tensors[name]?.dims ?? [0]);
const last = (call: TracedCall, name: string): number => call.tensors[name]?.dims.at(-1) ?? 0;

/** Tokens that one query sees. */
function keys(call: TracedCall): number {
  const { window } = call.scalars;
  return Array.isArray(window) ? elements(window) : (call.tensors.qkv?.dims[1] ?? 0);
}

/** Floating point operations of the products in one call (a multiply-add counts two), as the kernels' headers state them, rows that `linear` and `mlp` leave out among them; 0 for the others. */
const FLOPS: Record<string, (call: TracedCall) => number> = {
  linear: (c) => 2 * count(c, 'x') * last(c, 'y'),
  linear_grad: (c) => 2 * count(c, 'dy') * (last(c, 'dx') + (c.tensors.dweight ?? c.tensors.dweight_sum ? last(c, 'x') : 0)),
  mlp: (c) => 2 * (count(c, 'x') * (c.tensors.w1?.dims[0] ?? 0) + (count(c, 'y') * (c.tensors.w2?.dims[1] ?? 0))),
  mlp_grad: (c) => 4 * (count(c, 'x') * (c.tensors.w1?.dims[0] ?? 0) + count(c, 'dy') * (c.tensors.w2?.dims[1] ?? 0)),
  patch_embed: (c) => 2 * count(c, 'y') * last(c, 'weight'),
  patch_embed_grad: (c) => 2 * count(c, 'dy') * last(c, 'weight') * (c.tensors.dimages ? 2 : 1),
  window_attention: (c) => 4 * count(c, 'y') * keys(c),
  window_attention_grad: (c) => 10 * count(c, 'dy') * keys(c),
  attention: (c) => 4 * count(c, 'y') * keys(c),
  attention_grad: (c) => 10 * count(c, 'dy') * keys(c),
};

export function flopsOf(call: TracedCall): number {
  return FLOPS[call.kernel]?.(call) ?? 0;
}

/** Bytes of all tensors of a call, each counted once; of a flat buffer only the part in use. */
export function bytesOf(call: TracedCall): number {
  if (call.kernel === 'accumulate') return 12 * count(call, 'gradient');
  return Object.values(call.tensors).reduce((sum, t) => sum + (t ? elements(t.dims) * DTYPE_BYTES[t.dtype] : 0), 0);
}

/** What is the same for two calls of equal cost. */
export function signature(call: TracedCall): string {
  const tensors = Object.entries(call.tensors).flatMap(([name, t]) => (t ? [`${name}=${t.dtype}[${t.dims.join(',')}]`] : []));
  const lists = Object.entries(call.scalars).flatMap(([name, value]) => (Array.isArray(value) ? [`${name}=(${value.join(',')})`] : []));
  return `${call.kernel} ${[...tensors, ...lists].join(' ')}`;
}
