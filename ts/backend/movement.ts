import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import { alias } from './alias';
import type { NativeBackend } from './backend';
import { filled } from './create';
import { NUMERIC, areStrings, delegate, describe, inTfjsWords, requireDtype } from './host';
import type { KernelTable, NativeKernel } from './register';
import { castTo, storedAs } from './unary';

/** Where the elements of a strided copy lie; strides count elements. */
export interface Walk {
  strides: readonly number[];
  offset: number;
}

export function rowMajor(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i] as number;
  }
  return strides;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);

/** Copies a box of x into a tensor that exists. */
export function copyInto(backend: NativeBackend, x: tf.TensorInfo, y: tf.TensorInfo, dims: readonly number[], from: Walk, to: Walk): void {
  kernels.stridedCopy({ x: backend.ref(x), y: backend.outRef(y), dims, xStrides: from.strides, yStrides: to.strides, xOffset: from.offset, yOffset: to.offset });
}

/** A new tensor of `shape` from a box of x with the same number of elements; `dims` are the box's dims in row-major order of the result. */
function gathered(backend: NativeBackend, x: tf.TensorInfo, shape: readonly number[], dims: readonly number[], from: Walk): tf.TensorInfo {
  const y = backend.allocated(shape, x.dtype, backend.storageOf(x));
  copyInto(backend, x, y, dims, from, { strides: rowMajor(dims), offset: 0 });
  return y;
}

/** A kernel on the input `x`: native for the dtypes with native storage. */
function onMovable(name: string, kernel: (backend: NativeBackend, x: tf.TensorInfo, attrs: tf.NamedAttrMap) => tf.TensorInfo | tf.TensorInfo[]): NativeKernel {
  const rest = delegate(name);
  return (backend, inputs, attrs) => {
    const x = (inputs.x ?? inputs.value) as tf.TensorInfo;
    if (x.dtype === 'string') return rest(backend, inputs, attrs);
    requireDtype(name, { x }, ...NUMERIC);
    return kernel(backend, x, attrs);
  };
}

export function transpose(backend: NativeBackend, x: tf.TensorInfo, perm: readonly number[], shape?: readonly number[]): tf.TensorInfo {
  const dims = perm.map((p) => x.shape[p] as number);
  const strides = rowMajor(x.shape);
  return gathered(backend, x, shape ?? dims, dims, { strides: perm.map((p) => strides[p] as number), offset: 0 });
}

/** x repeated along the dims that it has not, or that are 1. */
export function broadcastTo(backend: NativeBackend, x: tf.TensorInfo, shape: readonly number[]): tf.TensorInfo {
  const strides = rowMajor(x.shape);
  const lead = shape.length - x.shape.length;
  return gathered(backend, x, shape, shape, { strides: shape.map((d, i) => (i < lead || (x.shape[i - lead] === 1 && d !== 1) ? 0 : (strides[i - lead] as number))), offset: 0 });
}

/** A transpose of x read with another shape. */
function rearranged(backend: NativeBackend, x: tf.TensorInfo, as: number[], perm: readonly number[], shape: number[]): tf.TensorInfo {
  return transpose(backend, { ...x, shape: as }, perm, shape);
}

/** A view where the piece is contiguous and not a small part of a large block, else a copy. */
export function slice(backend: NativeBackend, x: tf.TensorInfo, begin: readonly number[], size: readonly number[]): tf.TensorInfo {
  const strides = rowMajor(x.shape);
  let offset = 0;
  for (let i = 0; i < begin.length; i++) offset += (begin[i] as number) * (strides[i] as number);
  const count = sizeOf(size);
  if (count * 8 >= sizeOf(x.shape) && count > 0 && tf.slice_util.isSliceContinous(x.shape, begin as number[], size as number[])) {
    const view = backend.sliceView(x, offset, size);
    if (view) return view;
  }
  return gathered(backend, x, size, size, { strides, offset });
}

/** slice() with tfjs's conventions: missing dims are whole, size -1 is the rest. */
function sliceOf(backend: NativeBackend, x: tf.TensorInfo, begin: number[], size: number[]): tf.TensorInfo {
  const parsed = tf.slice_util.parseSliceParams(x as tf.Tensor, begin, size) as [number[], number[]];
  return slice(backend, x, parsed[0], parsed[1]);
}

function stridedSlice(backend: NativeBackend, x: tf.TensorInfo, attrs: tf.NamedAttrMap): tf.TensorInfo {
  const a = attrs as unknown as tf.StridedSliceAttrs;
  const info = tf.slice_util.sliceInfo(x.shape, a.begin, a.end, a.strides, a.beginMask, a.endMask, a.ellipsisMask, a.newAxisMask, a.shrinkAxisMask);
  if (info.isIdentity) return alias(backend, x, info.finalShape);
  if (info.sliceDim0 || info.isSimpleSlice) {
    const size = tf.slice_util.computeOutShape(info.begin, info.end, info.strides);
    return { ...slice(backend, x, info.begin, size), shape: info.finalShape };
  }
  const strides = rowMajor(x.shape);
  let offset = 0;
  for (let i = 0; i < strides.length; i++) offset += (info.begin[i] as number) * (strides[i] as number);
  return gathered(backend, x, info.finalShape, tf.slice_util.computeOutShape(info.begin, info.end, info.strides), { strides: strides.map((s, i) => s * (info.strides[i] as number)), offset });
}

export function reverse(backend: NativeBackend, x: tf.TensorInfo, attrs: tf.NamedAttrMap): tf.TensorInfo {
  if (x.shape.length === 0) return alias(backend, x, x.shape);
  const axes = tf.util.parseAxisParam(attrs.dims as number[], x.shape);
  const strides = rowMajor(x.shape);
  let offset = 0;
  for (const axis of axes) {
    offset += ((x.shape[axis] as number) - 1) * (strides[axis] as number);
    strides[axis] = -(strides[axis] as number);
  }
  return gathered(backend, x, x.shape, x.shape, { strides, offset: Math.max(offset, 0) });
}

/** Joins along an axis; tensors without elements are left out. */
function concat(backend: NativeBackend, tensors: tf.TensorInfo[], axis: number): tf.TensorInfo {
  const shape = tf.backend_util.computeOutShape(tensors.map((t) => t.shape), axis);
  const inputs = tensors.filter((t) => sizeOf(t.shape) > 0);
  const only = inputs[0];
  if (inputs.length === 1 && only) return alias(backend, only, shape);
  const storages = inputs.map((x) => backend.storageOf(x));
  const storage = storages.every((s) => s === storages[0]) ? storages[0] : 'f32';
  const y = backend.allocated(shape, (tensors[0] as tf.TensorInfo).dtype, storage);
  const outer = sizeOf(shape.slice(0, axis));
  const row = sizeOf(shape.slice(axis));
  let offset = 0;
  for (const x of inputs) {
    const width = sizeOf(x.shape.slice(axis));
    const part = storedAs(backend, x, storage ?? backend.storageOf(x));
    copyInto(backend, part, y, [outer, width], { strides: [width, 1], offset: 0 }, { strides: [row, 1], offset });
    backend.disposeData(part.dataId);
    offset += width;
  }
  return y;
}

/** The tensors joined by `join`, in the dtype of the first. */
function joined(name: string, backend: NativeBackend, inputs: tf.NamedTensorInfoMap, join: (tensors: tf.TensorInfo[]) => tf.TensorInfo): tf.TensorInfo {
  requireDtype(name, inputs, ...NUMERIC);
  const given = Object.values(inputs) as tf.TensorInfo[];
  const tensors = given.map((t) => castTo(backend, t, (given[0] as tf.TensorInfo).dtype));
  const y = join(tensors);
  for (const t of tensors) backend.disposeData(t.dataId);
  return y;
}

function pad(backend: NativeBackend, x: tf.TensorInfo, paddings: readonly (readonly [number, number])[], value: number): tf.TensorInfo {
  const shape = paddings.map(([before, after], i) => before + (x.shape[i] as number) + after);
  if (shape.some((d) => d < 0)) throw new SimmimError('invalid_argument', 'pad', `paddings [${paddings.map((p) => `[${p}]`)}] cut more than x of shape [${x.shape}] has`);
  const y = filled(backend, shape, x.dtype, x.dtype === 'float32' ? value : Math.trunc(value), backend.storageOf(x));
  const [from, to] = [rowMajor(x.shape), rowMajor(shape)];
  const kept = paddings.map(([before, after], i) => (x.shape[i] as number) + Math.min(before, 0) + Math.min(after, 0));
  if (kept.some((d) => d <= 0)) return y;
  const at = (strides: readonly number[], sign: number): number => paddings.reduce((sum, [before], i) => sum + Math.max(sign * before, 0) * (strides[i] as number), 0);
  copyInto(backend, x, y, kept, { strides: from, offset: at(from, -1) }, { strides: to, offset: at(to, 1) });
  return y;
}

/** The middle first, then one axis after the other mirrors what is already there. */
function mirrorPad(backend: NativeBackend, x: tf.TensorInfo, attrs: tf.NamedAttrMap): tf.TensorInfo {
  const paddings = attrs.paddings as [number, number][];
  const skip = attrs.mode === 'reflect' ? 1 : 0;
  const shape = paddings.map(([before, after], i) => before + (x.shape[i] as number) + after);
  const y = backend.allocated(shape, x.dtype, backend.storageOf(x));
  const strides = rowMajor(shape);
  const start = paddings.reduce((sum, [before], i) => sum + before * (strides[i] as number), 0);
  copyInto(backend, x, y, x.shape, { strides: rowMajor(x.shape), offset: 0 }, { strides, offset: start });
  const dims = [...x.shape];
  let corner = start;
  for (let axis = 0; axis < shape.length; axis++) {
    const [before, after] = paddings[axis] as [number, number];
    const step = strides[axis] as number;
    const size = x.shape[axis] as number;
    const mirrored = strides.map((s, i) => (i === axis ? -s : s));
    dims[axis] = before;
    if (before > 0) copyInto(backend, y, y, dims, { strides: mirrored, offset: corner + (before - 1 + skip) * step }, { strides, offset: corner - before * step });
    dims[axis] = after;
    if (after > 0) copyInto(backend, y, y, dims, { strides: mirrored, offset: corner + (size - 1 - skip) * step }, { strides, offset: corner + size * step });
    dims[axis] = shape[axis] as number;
    corner -= before * step;
  }
  return y;
}

export function tile(backend: NativeBackend, x: tf.TensorInfo, reps: readonly number[]): tf.TensorInfo {
  const strides = rowMajor(x.shape);
  const dims = x.shape.flatMap((d, i) => [reps[i] as number, d]);
  return gathered(backend, x, x.shape.map((d, i) => d * (reps[i] as number)), dims, { strides: strides.flatMap((s) => [0, s]), offset: 0 });
}

function spaceToBatch(backend: NativeBackend, x: tf.TensorInfo, attrs: tf.NamedAttrMap): tf.TensorInfo {
  const block = attrs.blockShape as number[];
  const size = sizeOf(block);
  const paddings: [number, number][] = [[0, 0], ...(attrs.paddings as [number, number][])];
  while (paddings.length < x.shape.length) paddings.push([0, 0]);
  const padded = pad(backend, x, paddings, 0);
  const as = tf.backend_util.getReshaped(padded.shape, block, size, false);
  const y = rearranged(backend, padded, as, tf.backend_util.getPermuted(as.length, block.length, false), tf.backend_util.getReshapedPermuted(padded.shape, block, size, false));
  backend.disposeData(padded.dataId);
  return y;
}

function batchToSpace(backend: NativeBackend, x: tf.TensorInfo, attrs: tf.NamedAttrMap): tf.TensorInfo {
  const block = attrs.blockShape as number[];
  const crops = attrs.crops as number[][];
  const size = sizeOf(block);
  const as = tf.backend_util.getReshaped(x.shape, block, size);
  const shape = tf.backend_util.getReshapedPermuted(x.shape, block, size);
  const whole = rearranged(backend, x, as, tf.backend_util.getPermuted(as.length, block.length), shape);
  const y = sliceOf(backend, whole, tf.backend_util.getSliceBeginCoords(crops, block.length), tf.backend_util.getSliceSize(shape, crops, block.length));
  backend.disposeData(whole.dataId);
  return y;
}

function depthToSpace(backend: NativeBackend, x: tf.TensorInfo, attrs: tf.NamedAttrMap): tf.TensorInfo {
  const r = attrs.blockSize as number;
  const [b, p, q, s] = x.shape as [number, number, number, number];
  if (attrs.dataFormat !== 'NHWC') {
    const depth = p / (r * r);
    return rearranged(backend, x, [b, r, r, depth, q, s], [0, 3, 4, 1, 5, 2], [b, depth, q * r, s * r]);
  }
  const depth = s / (r * r);
  return rearranged(backend, x, [b, p, q, r, r, depth], [0, 1, 3, 2, 4, 5], [b, p * r, q * r, depth]);
}

const delegatedConcat = delegate('Concat');
const delegatedPack = delegate('Pack');

/** Rearrangements: nothing is computed. */
export const MOVEMENT: KernelTable = {
  Transpose: onMovable('Transpose', (backend, x, attrs) => transpose(backend, x, attrs.perm as number[])),
  Slice: onMovable('Slice', (backend, x, attrs) => sliceOf(backend, x, attrs.begin as number[], attrs.size as number[])),
  StridedSlice: onMovable('StridedSlice', stridedSlice),
  Reverse: onMovable('Reverse', reverse),
  Tile: onMovable('Tile', (backend, x, attrs) => tile(backend, x, attrs.reps as number[])),
  PadV2: onMovable('PadV2', (backend, x, attrs) => pad(backend, x, attrs.paddings as [number, number][], attrs.constantValue as number)),
  MirrorPad: onMovable('MirrorPad', mirrorPad),
  SpaceToBatchND: onMovable('SpaceToBatchND', spaceToBatch),
  BatchToSpaceND: onMovable('BatchToSpaceND', batchToSpace),
  DepthToSpace: (backend, inputs, attrs) => {
    requireDtype('DepthToSpace', inputs, ...NUMERIC);
    return depthToSpace(backend, inputs.x as tf.TensorInfo, attrs);
  },
  SplitV: onMovable('SplitV', (backend, x, attrs) => {
    const [axis] = tf.util.parseAxisParam(attrs.axis as number, x.shape) as [number];
    const begin = x.shape.map(() => 0);
    return tf.backend_util.prepareSplitSize(x as tf.Tensor, attrs.numOrSizeSplits as number[], axis).map((n) => {
      const size = x.shape.map((d, i) => (i === axis ? n : d));
      const piece = slice(backend, x, begin, size);
      begin[axis] = (begin[axis] as number) + n;
      return piece;
    });
  }),
  Unpack: onMovable('Unpack', (backend, x, attrs) => {
    const axis = (attrs.axis as number) < 0 ? (attrs.axis as number) + x.shape.length : (attrs.axis as number);
    const size = x.shape.map((d, i) => (i === axis ? 1 : d));
    const shape = x.shape.filter((_, i) => i !== axis);
    return Array.from({ length: x.shape[axis] as number }, (_, n) => ({ ...slice(backend, x, x.shape.map((_d, i) => (i === axis ? n : 0)), size), shape }));
  }),
  Concat: (backend, inputs, attrs) => {
    if (areStrings('Concat', inputs)) return delegatedConcat(backend, inputs, attrs);
    return joined('Concat', backend, inputs, (tensors) => {
      const [axis] = tf.util.parseAxisParam(attrs.axis as number, (tensors[0] as tf.TensorInfo).shape) as [number];
      tf.backend_util.assertParamsConsistent(tensors.map((t) => t.shape), axis);
      return concat(backend, tensors, axis);
    });
  },
  Pack: (backend, inputs, attrs) => {
    const dtypes = new Set((Object.values(inputs) as tf.TensorInfo[]).map((t) => t.dtype));
    if (dtypes.size > 1) throw inTfjsWords('Pack', `All tensors passed to stack must have matching dtypes: ${describe(inputs)}`);
    if (areStrings('Pack', inputs)) return delegatedPack(backend, inputs, attrs);
    return joined('Pack', backend, inputs, (tensors) => {
      const { shape } = tensors[0] as tf.TensorInfo;
      for (const t of tensors) tf.util.assertShapesMatch(shape, t.shape, 'All tensors passed to stack must have matching shapes');
      const axis = (attrs.axis as number) < 0 ? (attrs.axis as number) + shape.length + 1 : (attrs.axis as number);
      const expanded = [...shape.slice(0, axis), 1, ...shape.slice(axis)];
      return concat(backend, tensors.map((t) => ({ ...t, shape: expanded })), axis);
    });
  },
};
