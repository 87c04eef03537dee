import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import type { NativeBackend } from './backend';
import { filled } from './create';
import { NUMERIC, areStrings, delegate, requireDtype } from './host';
import { broadcastTo } from './movement';
import type { KernelTable } from './register';
import { castTo } from './unary';

/** Writes updates into y by index tuples, in the order of the updates; a single update goes to all of them. */
function scatter(backend: NativeBackend, y: tf.TensorInfo, indices: tf.TensorInfo, updates: tf.TensorInfo, shape: number[], add: boolean): void {
  const { sliceRank, numUpdates, sliceSize, strides, outputSize } = tf.backend_util.calculateShapes(updates, indices, shape);
  if (outputSize === 0) return;
  const single = updates.shape.length === 0 && numUpdates * sliceSize !== 1;
  const rows = single ? broadcastTo(backend, updates, [numUpdates, sliceSize]) : castTo(backend, updates, y.dtype);
  const tuples = castTo(backend, indices, 'int32');
  kernels.scatterNd({
    y: backend.outRef(y, [outputSize / sliceSize, sliceSize]),
    indices: backend.ref(tuples, [numUpdates, sliceRank]),
    updates: backend.ref(rows, [numUpdates, sliceSize]),
    strides: strides.slice(0, sliceRank),
    add,
  });
  backend.disposeData(rows.dataId);
  backend.disposeData(tuples.dataId);
}

const rest = {
  gatherV2: delegate('GatherV2'),
  gatherNd: delegate('GatherNd'),
  tensorScatterUpdate: delegate('TensorScatterUpdate'),
  sparseToDense: delegate('SparseToDense'),
};

/** Reading and writing by index. */
export const INDEX: KernelTable = {
  GatherV2: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    const indices = inputs.indices as tf.TensorInfo;
    requireDtype('GatherV2', { indices }, 'int32');
    if (x.dtype === 'string') return rest.gatherV2(backend, inputs, attrs);
    requireDtype('GatherV2', { x }, ...NUMERIC);
    const [axis] = tf.util.parseAxisParam(attrs.axis as number, x.shape) as [number];
    const info = tf.backend_util.segment_util.collectGatherOpShapeInfo(x as tf.Tensor, indices as tf.Tensor, axis, (attrs.batchDims as number | undefined) ?? 0);
    const each = info.batchSize === 0 ? 0 : tf.util.sizeFromShape(indices.shape) / info.batchSize;
    const y = backend.output(info.outputShape, x.dtype);
    kernels.gather({
      x: backend.ref(x, [info.batchSize, info.outerSize, info.dimSize, info.sliceSize]),
      indices: backend.ref(indices, [info.batchSize, each]),
      y: backend.outRef(y, [info.batchSize, info.outerSize, each, info.sliceSize]),
    });
    return y;
  },

  GatherNd: (backend, inputs, attrs) => {
    const x = inputs.params as tf.TensorInfo;
    const indices = inputs.indices as tf.TensorInfo;
    requireDtype('GatherNd', { indices }, 'int32');
    if (x.dtype === 'string') return rest.gatherNd(backend, inputs, attrs);
    requireDtype('GatherNd', { params: x }, ...NUMERIC);
    const [shape, count, slice, strides] = tf.backend_util.prepareAndValidate(x as tf.Tensor, indices as tf.Tensor);
    const depth = indices.shape[indices.shape.length - 1] as number;
    const y = backend.output(shape, x.dtype);
    kernels.gatherNd({ x: backend.ref(x, [slice === 0 ? 0 : tf.util.sizeFromShape(x.shape) / slice, slice]), indices: backend.ref(indices, [count, depth]), y: backend.outRef(y, [count, slice]), strides: strides.slice(0, depth) });
    return y;
  },

  ScatterNd: (backend, inputs, attrs) => {
    const indices = inputs.indices as tf.TensorInfo;
    const updates = inputs.updates as tf.TensorInfo;
    const shape = attrs.shape as number[];
    requireDtype('ScatterNd', { indices, updates }, ...NUMERIC);
    const y = filled(backend, shape, updates.dtype, 0);
    scatter(backend, y, indices, updates, shape, true);
    return y;
  },

  TensorScatterUpdate: (backend, inputs, attrs) => {
    const tensor = inputs.tensor as tf.TensorInfo;
    const indices = inputs.indices as tf.TensorInfo;
    const updates = inputs.updates as tf.TensorInfo;
    requireDtype('TensorScatterUpdate', { indices }, ...NUMERIC);
    if (areStrings('TensorScatterUpdate', { tensor, updates })) return rest.tensorScatterUpdate(backend, inputs, attrs);
    requireDtype('TensorScatterUpdate', { tensor, updates }, ...NUMERIC);
    const y = backend.output(tensor.shape, tensor.dtype);
    kernels.cast({ x: backend.ref(tensor), y: backend.outRef(y), boolean: false });
    scatter(backend, y, indices, updates, tensor.shape, false);
    return y;
  },

  SparseToDense: (backend, inputs, attrs) => {
    const indices = inputs.sparseIndices as tf.TensorInfo;
    const values = inputs.sparseValues as tf.TensorInfo;
    const shape = attrs.outputShape as number[];
    requireDtype('SparseToDense', { sparseIndices: indices }, ...NUMERIC);
    if (areStrings('SparseToDense', { sparseValues: values, defaultValue: inputs.defaultValue as tf.TensorInfo })) return rest.sparseToDense(backend, inputs, attrs);
    requireDtype('SparseToDense', { sparseValues: values }, ...NUMERIC);
    requireDtype('SparseToDense', { defaultValue: inputs.defaultValue as tf.TensorInfo }, ...NUMERIC);
    const [start] = backend.data.get((inputs.defaultValue as tf.TensorInfo).dataId).values as unknown as [number];
    const y = filled(backend, shape, values.dtype, Number(start));
    scatter(backend, y, indices, values, shape, false);
    return y;
  },

  OneHot: (backend, inputs, attrs) => {
    const indices = inputs.indices as tf.TensorInfo;
    const { depth, onValue, offValue } = attrs as unknown as tf.OneHotAttrs;
    const dtype = (attrs.dtype as tf.DataType | undefined) ?? 'float32';
    requireDtype('OneHot', { indices }, 'int32');
    const stored = dtype === 'float32' ? (v: number): number => v : Math.trunc;
    const y = backend.output([...indices.shape, depth], dtype);
    const count = tf.util.sizeFromShape(indices.shape);
    kernels.oneHot({ indices: backend.ref(indices, [count]), y: backend.outRef(y, [count, depth]), on: stored(onValue), off: stored(offValue) });
    return y;
  },

  UnsortedSegmentSum: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    const ids = inputs.segmentIds as tf.TensorInfo;
    const segments = attrs.numSegments as number;
    requireDtype('UnsortedSegmentSum', { x }, ...NUMERIC);
    requireDtype('UnsortedSegmentSum', { segmentIds: ids }, 'int32');
    if (ids.shape.length !== 1 || x.shape[0] !== ids.shape[0]) throw new SimmimError('invalid_argument', 'UnsortedSegmentSum', `segmentIds has shape [${ids.shape}], expected [${x.shape[0]}], one number for each row of x of shape [${x.shape}]`);
    const rows = ids.shape[0] as number;
    const inner = tf.util.sizeFromShape(x.shape.slice(1));
    const numbers = castTo(backend, x, 'float32');
    const y = backend.output([segments, ...x.shape.slice(1)], 'float32');
    kernels.segmentSum({ x: backend.ref(numbers, [rows, inner]), ids: backend.ref(ids), y: backend.outRef(y, [segments, inner]) });
    backend.disposeData(numbers.dataId);
    return y;
  },
};
