import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import type { NativeBackend } from './backend';
import { NUMERIC, areStrings, delegate, inTfjsWords, requireDtype, withTfjsWords } from './host';
import { slice } from './movement';
import type { KernelTable, NativeKernel } from './register';
import { castTo } from './unary';

type Sized = { shape: number[] };

function requireRank(op: string, rank: number, inputs: Record<string, Sized>): void {
  for (const [name, x] of Object.entries(inputs)) if (x.shape.length !== rank) throw new SimmimError('invalid_argument', op, `${name} has shape [${x.shape}], expected rank ${rank}`);
}

/** The values of a short tensor on the host. */
function valuesOf(backend: NativeBackend, info: tf.TensorInfo): number[] {
  return Array.from(backend.data.get(info.dataId).values as ArrayLike<number>);
}

/** The first `count` rows of x, which is taken over. */
export function head(backend: NativeBackend, x: tf.TensorInfo, count: number): tf.TensorInfo {
  const rows = slice(backend, x, x.shape.map(() => 0), [count, ...x.shape.slice(1)]);
  backend.disposeData(x.dataId);
  return rows;
}

/** The number in a tensor that counts something; the tensor is taken over. */
export function takeCount(backend: NativeBackend, info: tf.TensorInfo): number {
  const [count] = backend.readSync(info.dataId) as Int32Array;
  backend.disposeData(info.dataId);
  return count as number;
}

function segments(name: string, mean: boolean): NativeKernel {
  return (backend, inputs) => {
    const { data, indices, segmentIds } = inputs as { data: tf.TensorInfo; indices: tf.TensorInfo; segmentIds: tf.TensorInfo };
    requireDtype(name, { data }, 'float32', 'int32');
    requireDtype(name, { indices, segmentIds }, 'int32');
    requireRank(name, 1, { indices, segmentIds });
    if (data.shape.length < 1) throw new SimmimError('invalid_argument', name, 'data is a scalar, expected rank 1 or more');
    const n = indices.shape[0] as number;
    if (segmentIds.shape[0] !== n) throw new SimmimError('invalid_argument', name, `segmentIds and indices should have same size, they have ${segmentIds.shape[0]} and ${n}`);
    const rows = n === 0 ? 0 : takeCount(backend, slice(backend, segmentIds, [n - 1], [1])) + 1;
    if (n > 0 && rows <= 0) throw inTfjsWords(name, tf.backend_util.getSparseSegmentReductionNegativeSegmentIdsErrorMessage());
    const [first, ...rest] = data.shape as [number, ...number[]];
    const inner = tf.util.sizeFromShape(rest);
    const y = backend.output([rows, ...rest], data.dtype);
    withTfjsWords(name, () => kernels.sparseSegment({ x: backend.ref(data, [first, inner]), indices: backend.ref(indices), ids: backend.ref(segmentIds), y: backend.outRef(y, [rows, inner]), mean }));
    return y;
  };
}

/** The target of a sparse reshape with its -1 worked out. */
function reshapedTo(from: number[], wanted: number[]): number[] {
  const size = tf.util.sizeFromShape(from);
  const open = wanted.indexOf(-1);
  const fail = (message: string): never => {
    throw inTfjsWords('SparseReshape', message);
  };
  wanted.forEach((d, i) => {
    if (d === -1 && i !== open) fail(tf.backend_util.getSparseReshapeMultipleNegativeOneOutputDimErrorMessage(open, i));
    if (d < -1) fail(tf.backend_util.getSparseReshapeNegativeOutputDimErrorMessage(i, d));
  });
  if (open >= 0) {
    const known = wanted.reduce((n, d, i) => (i === open ? n : n * d), 1);
    if (known <= 0) fail(tf.backend_util.getSparseReshapeEmptyTensorZeroOutputDimErrorMessage());
    wanted[open] = Math.trunc(size / known);
    if (known * (wanted[open] as number) !== size) fail(tf.backend_util.getSparseReshapeInputOutputMultipleErrorMessage(from, wanted.map((d, i) => (i === open ? 1 : d))));
  }
  if (tf.util.sizeFromShape(wanted) !== size) fail(tf.backend_util.getSparseReshapeInputOutputMismatchErrorMessage(from, wanted));
  return wanted;
}

function bincount(name: string): NativeKernel {
  return (backend, inputs, attrs) => {
    const { x, weights } = inputs as { x: tf.TensorInfo; weights: tf.TensorInfo };
    requireDtype(name, { x }, 'int32');
    requireDtype(name, { weights }, 'float32', 'int32');
    const size = attrs.size as number;
    const byRow = name === 'DenseBincount' && x.shape.length === 2;
    if (name === 'DenseBincount' && x.shape.length > 2) throw new SimmimError('invalid_argument', name, `x has shape [${x.shape}], expected at most rank 2`);
    const count = tf.util.sizeFromShape(x.shape);
    const rows = byRow ? (x.shape as [number, number]) : ([1, count] as [number, number]);
    const y = backend.output(byRow ? [rows[0], size] : [size], weights.dtype);
    const weighted = tf.util.sizeFromShape(weights.shape) > 0;
    kernels.bincount({ x: backend.ref(x, rows), weights: weighted ? backend.ref(weights, rows) : null, y: backend.outRef(y, [rows[0], size]), binary: byRow && Boolean(attrs.binaryOutput) });
    return y;
  };
}

const rest = { unique: delegate('Unique'), fillRows: delegate('SparseFillEmptyRows') };

/** Sparse matrices as index lists, sums over segments, counting and searching. */
export const SPARSE: KernelTable = {
  SparseSegmentSum: segments('SparseSegmentSum', false),
  SparseSegmentMean: segments('SparseSegmentMean', true),

  SparseFillEmptyRows: (backend, inputs, attrs) => {
    const { indices, values, denseShape, defaultValue } = inputs as { indices: tf.TensorInfo; values: tf.TensorInfo; denseShape: tf.TensorInfo; defaultValue: tf.TensorInfo };
    const name = 'SparseFillEmptyRows';
    requireDtype(name, { indices, denseShape }, 'int32');
    if (areStrings(name, { values, defaultValue })) return rest.fillRows(backend, inputs, attrs);
    requireDtype(name, { values, defaultValue }, ...NUMERIC);
    requireRank(name, 2, { indices });
    requireRank(name, 1, { values, denseShape });
    requireRank(name, 0, { defaultValue });
    const [n, depth] = indices.shape as [number, number];
    const [rows] = valuesOf(backend, denseShape) as [number];
    if (rows === 0 && n > 0) throw inTfjsWords(name, tf.backend_util.getSparseFillEmptyRowsIndicesDenseShapeMismatch(n));
    const out = {
      indices: backend.output([n + rows, depth], 'int32'),
      values: backend.output([n + rows], values.dtype),
      empty: backend.output([rows], 'bool'),
      places: backend.output([n], 'int32'),
      count: backend.output([1], 'int32'),
    };
    withTfjsWords(name, () =>
      kernels.sparseFillRows({
        indices: backend.ref(indices),
        values: backend.ref(values),
        filledIndices: backend.outRef(out.indices),
        filledValues: backend.outRef(out.values),
        empty: backend.outRef(out.empty),
        places: backend.outRef(out.places),
        count: backend.outRef(out.count),
        fill: valuesOf(backend, defaultValue)[0] as number,
      }),
    );
    const count = takeCount(backend, out.count);
    return [head(backend, out.indices, count), head(backend, out.values, count), out.empty, out.places];
  },

  SparseReshape: (backend, inputs) => {
    const { inputIndices, inputShape, newShape } = inputs as { inputIndices: tf.TensorInfo; inputShape: tf.TensorInfo; newShape: tf.TensorInfo };
    requireDtype('SparseReshape', { inputIndices, inputShape, newShape }, 'int32');
    requireRank('SparseReshape', 2, { inputIndices });
    requireRank('SparseReshape', 1, { inputShape, newShape });
    const from = valuesOf(backend, inputShape);
    const to = reshapedTo(from, valuesOf(backend, newShape));
    const y = backend.output([inputIndices.shape[0] as number, to.length], 'int32');
    kernels.sparseReshape({ indices: backend.ref(inputIndices), y: backend.outRef(y), from, to });
    return [y, backend.makeTensorInfo([to.length], newShape.dtype, Int32Array.from(to))];
  },

  Bincount: bincount('Bincount'),
  DenseBincount: bincount('DenseBincount'),

  SearchSorted: (backend, inputs, attrs) => {
    const { sortedSequence, values } = inputs as { sortedSequence: tf.TensorInfo; values: tf.TensorInfo };
    requireDtype('SearchSorted', inputs, ...NUMERIC);
    const dtype = sortedSequence.dtype === 'int32' && values.dtype === 'int32' ? 'int32' : 'float32';
    const [row, wanted] = [castTo(backend, sortedSequence, dtype), castTo(backend, values, dtype)];
    const y = backend.output(values.shape, 'int32');
    kernels.searchSorted({ sorted: backend.ref(row), values: backend.ref(wanted), y: backend.outRef(y), right: attrs.side === 'right' });
    backend.disposeData(row.dataId);
    backend.disposeData(wanted.dataId);
    return y;
  },

  Unique: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    if (x.dtype === 'string') return rest.unique(backend, inputs, attrs);
    requireDtype('Unique', inputs, ...NUMERIC);
    const [axis] = tf.util.parseAxisParam(attrs.axis as number, x.shape) as [number];
    const n = x.shape[axis] as number;
    const [outer, inner] = [tf.util.sizeFromShape(x.shape.slice(0, axis)), tf.util.sizeFromShape(x.shape.slice(axis + 1))];
    const index = backend.output([n], 'int32');
    const first = backend.output([n], 'int32');
    const found = backend.output([1], 'int32');
    kernels.unique({ x: backend.ref(x, [outer, n, inner]), index: backend.outRef(index), first: backend.outRef(first), count: backend.outRef(found) });
    const count = takeCount(backend, found);
    const kept = head(backend, first, count);
    const y = backend.output(x.shape.map((d, i) => (i === axis ? count : d)), x.dtype);
    kernels.gather({ x: backend.ref(x, [1, outer, n, inner]), indices: backend.ref(kept, [1, count]), y: backend.outRef(y, [1, outer, count, inner]) });
    backend.disposeData(kept.dataId);
    return [y, index];
  },
};
