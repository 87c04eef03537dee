import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import type { NativeBackend } from './backend';
import { filled } from './create';
import { delegate } from './host';
import type { KernelTable } from './register';
import { castTo } from './unary';

const native = (x: tf.TensorInfo): boolean => x.dtype === 'float32' || x.dtype === 'int32' || x.dtype === 'bool';

/** Writes updates into y by index tuples. The order of writes is the order of the updates. */
function scatter(backend: NativeBackend, y: tf.TensorInfo, indices: tf.TensorInfo, updates: tf.TensorInfo, shape: number[], add: boolean): void {
  const { sliceRank, numUpdates, sliceSize, strides, outputSize } = tf.backend_util.calculateShapes(updates, indices, shape);
  kernels.scatterNd({
    y: backend.outRef(y, [outputSize / sliceSize, sliceSize]),
    indices: backend.ref(indices, [numUpdates, sliceRank]),
    updates: backend.ref(updates, [numUpdates, sliceSize]),
    strides: strides.slice(0, sliceRank),
    add,
  });
}

/** Whether the native scatter serves: one update per index tuple, indices of int32. */
function scatters(indices: tf.TensorInfo, updates: tf.TensorInfo, shape: number[]): boolean {
  if (!native(updates) || indices.dtype !== 'int32' || tf.util.sizeFromShape(shape) === 0) return false;
  const { numUpdates, sliceSize } = tf.backend_util.calculateShapes(updates, indices, shape);
  return tf.util.sizeFromShape(updates.shape) === numUpdates * sliceSize;
}

const rest = {
  gatherV2: delegate('GatherV2'),
  gatherNd: delegate('GatherNd'),
  scatterNd: delegate('ScatterNd'),
  tensorScatterUpdate: delegate('TensorScatterUpdate'),
  sparseToDense: delegate('SparseToDense'),
  oneHot: delegate('OneHot'),
  segmentSum: delegate('UnsortedSegmentSum'),
};

/** Reading and writing by index. */
export const INDEX: KernelTable = {
  GatherV2: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    const indices = inputs.indices as tf.TensorInfo;
    if (!native(x) || indices.dtype !== 'int32') return rest.gatherV2(backend, inputs, attrs);
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
    const depth = indices.shape[indices.shape.length - 1] ?? 0;
    const size = tf.util.sizeFromShape(x.shape);
    if (!native(x) || indices.dtype !== 'int32' || depth === 0 || size === 0) return rest.gatherNd(backend, inputs, attrs);
    const [shape, count, slice, strides] = tf.backend_util.prepareAndValidate(x as tf.Tensor, indices as tf.Tensor);
    const y = backend.output(shape, x.dtype);
    kernels.gatherNd({ x: backend.ref(x, [size / slice, slice]), indices: backend.ref(indices, [count, depth]), y: backend.outRef(y, [count, slice]), strides: strides.slice(0, depth) });
    return y;
  },

  ScatterNd: (backend, inputs, attrs) => {
    const indices = inputs.indices as tf.TensorInfo;
    const updates = inputs.updates as tf.TensorInfo;
    const shape = attrs.shape as number[];
    if (!scatters(indices, updates, shape)) return rest.scatterNd(backend, inputs, attrs);
    const y = filled(backend, shape, updates.dtype, 0);
    scatter(backend, y, indices, updates, shape, true);
    return y;
  },

  TensorScatterUpdate: (backend, inputs, attrs) => {
    const tensor = inputs.tensor as tf.TensorInfo;
    const indices = inputs.indices as tf.TensorInfo;
    const updates = inputs.updates as tf.TensorInfo;
    if (tensor.dtype !== updates.dtype || !scatters(indices, updates, tensor.shape)) return rest.tensorScatterUpdate(backend, inputs, attrs);
    const y = backend.output(tensor.shape, tensor.dtype);
    kernels.cast({ x: backend.ref(tensor), y: backend.outRef(y), boolean: false });
    scatter(backend, y, indices, updates, tensor.shape, false);
    return y;
  },

  SparseToDense: (backend, inputs, attrs) => {
    const indices = inputs.sparseIndices as tf.TensorInfo;
    const values = inputs.sparseValues as tf.TensorInfo;
    const shape = attrs.outputShape as number[];
    if (!scatters(indices, values, shape)) return rest.sparseToDense(backend, inputs, attrs);
    const [start] = backend.data.get((inputs.defaultValue as tf.TensorInfo).dataId).values as unknown as [number];
    const y = filled(backend, shape, values.dtype, Number(start));
    scatter(backend, y, indices, values, shape, false);
    return y;
  },

  OneHot: (backend, inputs, attrs) => {
    const indices = inputs.indices as tf.TensorInfo;
    const { depth, onValue, offValue } = attrs as unknown as tf.OneHotAttrs;
    const dtype = (attrs.dtype as tf.DataType | undefined) ?? 'float32';
    if (indices.dtype !== 'int32' || (dtype !== 'float32' && !(Number.isInteger(onValue) && Number.isInteger(offValue)))) return rest.oneHot(backend, inputs, attrs);
    const y = backend.output([...indices.shape, depth], dtype);
    const count = tf.util.sizeFromShape(indices.shape);
    kernels.oneHot({ indices: backend.ref(indices, [count]), y: backend.outRef(y, [count, depth]), on: onValue, off: offValue });
    return y;
  },

  UnsortedSegmentSum: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    const ids = inputs.segmentIds as tf.TensorInfo;
    const segments = attrs.numSegments as number;
    if (!native(x) || ids.dtype !== 'int32' || ids.shape.length !== 1 || segments === 0) return rest.segmentSum(backend, inputs, attrs);
    const rows = ids.shape[0] as number;
    const inner = tf.util.sizeFromShape(x.shape.slice(1));
    const numbers = castTo(backend, x, 'float32');
    const y = backend.output([segments, ...x.shape.slice(1)], 'float32');
    kernels.segmentSum({ x: backend.ref(numbers, [rows, inner]), ids: backend.ref(ids), y: backend.outRef(y, [segments, inner]) });
    backend.disposeData(numbers.dataId);
    return y;
  },
};
