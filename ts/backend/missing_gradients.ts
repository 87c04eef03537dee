import * as tf from '@tensorflow/tfjs-core';
import { PICTURE_GRADIENTS } from './picture_gradients';
import { SECOND_GRADIENTS } from './second_gradients';

/**
 * Gradients of kernels that tfjs-core has none for. They are composed of tfjs ops, so they serve every backend.
 * Comparisons are constant almost everywhere: their gradient is zero, as tfjs-core has it for GreaterEqual alone. The kernels
 * of complex numbers have none: tfjs's engine takes float32 gradients only.
 */

const one = (dy: tf.Tensor | tf.Tensor[]): tf.Tensor => (Array.isArray(dy) ? (dy[0] as tf.Tensor) : dy);

function spaceToDepth(dy: tf.Tensor, attrs: tf.NamedAttrMap): tf.Tensor {
  const r = attrs.blockSize as number;
  const [b, p, q, s] = dy.shape as [number, number, number, number];
  if (attrs.dataFormat === 'NHWC') return tf.reshape(tf.transpose(tf.reshape(dy, [b, p / r, r, q / r, r, s]), [0, 1, 3, 2, 4, 5]), [b, p / r, q / r, r * r * s]);
  return tf.reshape(tf.transpose(tf.reshape(dy, [b, p, q / r, r, s / r, r]), [0, 3, 5, 1, 2, 4]), [b, r * r * p, q / r, s / r]);
}

/** Each element of dy back to where the slice took it from. */
function unslice(dy: tf.Tensor, x: tf.Tensor, a: tf.StridedSliceAttrs): tf.Tensor {
  const positions = tf.reshape(tf.range(0, Math.max(x.size, 1), 1, 'int32'), x.shape);
  const taken = tf.stridedSlice(positions, a.begin, a.end, a.strides, a.beginMask, a.endMask, a.ellipsisMask, a.newAxisMask, a.shrinkAxisMask);
  return tf.reshape(tf.scatterND(tf.reshape(taken, [-1, 1]) as tf.Tensor2D, tf.reshape(dy, [-1]), [x.size]), x.shape);
}

function unTopK(dValues: tf.Tensor, x: tf.Tensor, indices: tf.Tensor): tf.Tensor {
  const n = x.shape[x.shape.length - 1] as number;
  const k = indices.shape[indices.shape.length - 1] as number;
  const rows = x.size / n;
  const starts = tf.reshape(tf.mul(tf.range(0, rows, 1, 'int32'), tf.scalar(n, 'int32')), [rows, 1]);
  const positions = tf.reshape(tf.add(tf.reshape(indices, [rows, k]), starts), [-1, 1]) as tf.Tensor2D;
  return tf.reshape(tf.scatterND(positions, tf.reshape(dValues, [-1]), [x.size]), x.shape);
}

/** d einsum(a, b) / d a = einsum(dy, b) over a's labels; labels that a alone has were summed, so their gradient repeats. */
function einsumGradient(dy: tf.Tensor, operands: tf.Tensor[], equation: string, index: number): tf.Tensor {
  const [left, out] = equation.replace(/\s/g, '').split('->') as [string, string];
  const labels = left.split(',');
  const own = labels[index] as string;
  const others = labels.filter((_, i) => i !== index);
  const known = [...own].filter((label) => out.includes(label) || others.some((other) => other.includes(label)));
  const partial = tf.einsum(`${[out, ...others].join(',')}->${known.join('')}`, dy, ...operands.filter((_, i) => i !== index));
  const { shape } = operands[index] as tf.Tensor;
  if (known.length === own.length) return partial;
  return tf.broadcastTo(tf.reshape(partial, shape.map((d, i) => (known.includes(own[i] as string) ? d : 1))), shape);
}

/**
 * tfjs-core's gradient of a gather, with one of our own where it has a batch dimension: there core's uses chained
 * methods, which Node's build of it lacks.
 */
export function gatherGradient(core: tf.GradConfig): tf.GradConfig {
  return {
    ...core,
    gradFunc: (dy, saved, attrs) => {
      const { axis, batchDims } = attrs as unknown as { axis: number; batchDims: number };
      if (!(batchDims > 0)) return core.gradFunc(dy, saved, attrs);
      const [x, indices] = saved as [tf.Tensor, tf.Tensor1D];
      const ungather = (): tf.Tensor => {
        const taken = tf.gather(tf.reshape(tf.range(0, x.size, 1, 'int32'), x.shape), indices, axis, batchDims);
        return tf.reshape(tf.scatterND(tf.reshape(taken, [-1, 1]) as tf.Tensor2D, tf.reshape(one(dy), [-1]), [x.size]), x.shape);
      };
      return { x: ungather, indices: () => indices };
    },
  };
}

/**
 * tfjs-core's gradient of a sum or a mean with ones that are made on the device: those that it uploads from the host each
 * time a recorded program would have to freeze.
 */
export function reductionGradient(core: tf.GradConfig): tf.GradConfig {
  return {
    ...core,
    gradFunc: (dy, saved, attrs) => {
      const { shape, size } = saved[0] as tf.Tensor;
      const axes = tf.util.parseAxisParam((attrs as { axis: number | number[] }).axis, shape);
      const spread = (): tf.Tensor => tf.mul(tf.reshape(one(dy), shape.map((d, axis) => (axes.includes(axis) ? 1 : d))), tf.fill(shape, 1));
      return { x: () => (core.kernelName === 'Mean' ? tf.div(spread(), size / Math.max(1, one(dy).size)) : spread()) };
    },
  };
}

/**
 * d cumprod, exact where x is zero: the product before i, times s_i = b_i + a_i s_{i+1}, the sum of what lies after i. The
 * recurrence is solved by doubling, in log2 n steps. Over the middle axis of [outer, n, inner].
 */
function cumprodGradient(dy: tf.Tensor, x: tf.Tensor, exclusive: boolean): tf.Tensor {
  const n = x.shape[1] as number;
  const shifted = (t: tf.Tensor, by: number): tf.Tensor => tf.pad(tf.slice(t, [0, by, 0]), [[0, 0], [0, by], [0, 0]]);
  let a = exclusive ? x : shifted(x, 1);
  let sum = dy;
  for (let step = 1; step < n; step *= 2) {
    sum = tf.add(sum, tf.mul(a, shifted(sum, step)));
    a = tf.mul(a, shifted(a, step));
  }
  return tf.mul(tf.cumprod(x, 1, true), exclusive ? shifted(sum, 1) : sum);
}

function uncumprod(dy: tf.Tensor, x: tf.Tensor, attrs: tf.NamedAttrMap): tf.Tensor {
  const { axis, exclusive, reverse } = attrs as { axis: number; exclusive: boolean; reverse: boolean };
  const [at] = tf.util.parseAxisParam(axis, x.shape) as [number];
  const shape = [tf.util.sizeFromShape(x.shape.slice(0, at)), x.shape[at] as number, tf.util.sizeFromShape(x.shape.slice(at + 1))];
  const turned = (t: tf.Tensor): tf.Tensor => (reverse ? tf.reverse(t, 1) : t);
  return tf.reshape(turned(cumprodGradient(turned(tf.reshape(dy, shape)), turned(tf.reshape(x, shape)), Boolean(exclusive))), x.shape);
}

/** Each row of the segments' gradients back to the rows that were added up. */
function unsegment(dy: tf.Tensor, data: tf.Tensor, indices: tf.Tensor, ids: tf.Tensor, mean: boolean): tf.Tensor {
  let rows = tf.gather(dy, ids as tf.Tensor1D);
  if (mean) {
    const counts = tf.gather(tf.bincount(ids as tf.Tensor1D, tf.tensor1d([]), dy.shape[0] as number), ids as tf.Tensor1D);
    rows = tf.div(rows, tf.reshape(counts, [-1, ...new Array<number>(dy.shape.length - 1).fill(1)]));
  }
  return tf.unsortedSegmentSum(rows, indices as tf.Tensor1D, data.shape[0] as number);
}

function segmentGradient(kernelName: string, mean: boolean): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: ['data', 'indices', 'segmentIds'],
    gradFunc: (dy, saved) => {
      const [data, indices, ids] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      return { data: () => unsegment(one(dy), data, indices, ids, mean), indices: zeros(indices), segmentIds: zeros(ids) };
    },
  };
}

/** Each weight has the gradient of the bin that it was counted in; numbers from `size` on are not counted. */
function unbin(dy: tf.Tensor, x: tf.Tensor, weights: tf.Tensor, attrs: tf.NamedAttrMap): tf.Tensor {
  const size = attrs.size as number;
  if (weights.size === 0 || size === 0 || attrs.binaryOutput) return tf.zeros(weights.shape);
  const bins = tf.gather(dy, tf.minimum(x, tf.scalar(size - 1, 'int32')) as tf.Tensor1D, -1, dy.shape.length - 1);
  return tf.mul(bins, tf.cast(tf.less(x, tf.scalar(size, 'int32')), 'float32'));
}

function binGradient(kernelName: string): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: ['x', 'weights'],
    gradFunc: (dy, saved, attrs) => {
      const [x, weights] = saved as [tf.Tensor, tf.Tensor];
      return { x: zeros(x), weights: () => unbin(one(dy), x, weights, attrs) };
    },
  };
}

function undense(dy: tf.Tensor, indices: tf.Tensor, values: tf.Tensor): tf.Tensor {
  const depth = indices.shape.length > 1 ? (indices.shape[indices.shape.length - 1] as number) : 1;
  const rows = tf.gatherND(dy, tf.reshape(indices, [-1, depth]));
  return values.shape.length === 0 ? tf.sum(rows) : tf.reshape(rows, values.shape);
}

/** From a gradient of the maxima to the positions that they came from. */
function unpool(dy: tf.Tensor, x: tf.Tensor, indices: tf.Tensor, wholeBatch: boolean): tf.Tensor {
  const [batch] = x.shape as [number];
  const starts = tf.reshape(tf.range(0, wholeBatch ? 1 : batch, 1, 'int32'), [-1, 1]);
  const positions = tf.add(tf.reshape(indices, [batch, -1]), tf.mul(starts, tf.scalar(wholeBatch ? 0 : x.size / batch, 'int32')));
  return tf.reshape(tf.unsortedSegmentSum(tf.reshape(dy, [-1]), tf.reshape(positions, [-1]) as tf.Tensor1D, x.size), x.shape);
}

const zeros = (x: tf.Tensor) => (): tf.Tensor => tf.zeros(x.shape);

/** Comparisons; logical operations on them have no gradient, as tfjs-core's suite asks. */
function constant(kernelName: string): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: ['a', 'b'],
    gradFunc: (_dy, saved) => ({ a: zeros(saved[0] as tf.Tensor), b: zeros(saved[1] as tf.Tensor) }),
  };
}

export const MISSING_GRADIENTS: tf.GradConfig[] = [
  { kernelName: 'DepthToSpace', gradFunc: (dy, _saved, attrs) => ({ x: () => spaceToDepth(one(dy), attrs) }) },
  {
    kernelName: 'StridedSlice',
    inputsToSave: ['x'],
    gradFunc: (dy, saved, attrs) => ({ x: () => unslice(one(dy), saved[0] as tf.Tensor, attrs as unknown as tf.StridedSliceAttrs) }),
  },
  {
    kernelName: 'GatherNd',
    inputsToSave: ['params', 'indices'],
    gradFunc: (dy, saved) => ({ params: () => tf.scatterND(saved[1] as tf.Tensor, one(dy), (saved[0] as tf.Tensor).shape as never), indices: zeros(saved[1] as tf.Tensor) }),
  },
  {
    kernelName: 'ScatterNd',
    inputsToSave: ['indices'],
    gradFunc: (dy, saved) => ({ updates: () => tf.gatherND(one(dy), saved[0] as tf.Tensor), indices: zeros(saved[0] as tf.Tensor) }),
  },
  {
    kernelName: 'TensorScatterUpdate',
    inputsToSave: ['indices', 'updates'],
    gradFunc: (dy, saved) => {
      const [indices, updates] = saved as [tf.Tensor, tf.Tensor];
      return {
        tensor: () => tf.tensorScatterUpdate(one(dy), indices, tf.zeros(updates.shape)),
        updates: () => tf.gatherND(one(dy), indices),
        indices: zeros(indices),
      };
    },
  },
  {
    kernelName: 'TopK',
    inputsToSave: ['x'],
    outputsToSave: [false, true],
    gradFunc: (dy, saved) => ({ x: () => unTopK(one(dy), saved[0] as tf.Tensor, saved[1] as tf.Tensor) }),
  },
  {
    kernelName: 'Einsum',
    saveAllInputs: true,
    gradFunc: (dy, saved, attrs) => Object.fromEntries(saved.map((_, i) => [i, () => einsumGradient(one(dy), saved, attrs.equation as string, i)])),
  },
  { kernelName: 'Cumprod', inputsToSave: ['x'], gradFunc: (dy, saved, attrs) => ({ x: () => uncumprod(one(dy), saved[0] as tf.Tensor, attrs) }) },
  {
    kernelName: 'Diag',
    inputsToSave: ['x'],
    gradFunc: (dy, saved) => {
      const x = saved[0] as tf.Tensor;
      return { x: () => tf.reshape(tf.gather(tf.reshape(one(dy), [-1]), tf.range(0, x.size * (x.size + 1), x.size + 1, 'int32')), x.shape) };
    },
  },
  {
    kernelName: 'SparseToDense',
    inputsToSave: ['sparseIndices', 'sparseValues'],
    gradFunc: (dy, saved) => {
      const [indices, values] = saved as [tf.Tensor, tf.Tensor];
      return {
        sparseIndices: zeros(indices),
        sparseValues: () => undense(one(dy), indices, values),
        defaultValue: () => tf.sub(tf.sum(one(dy)), tf.sum(undense(one(dy), indices, values))),
      };
    },
  },
  {
    kernelName: 'MaxPoolWithArgmax',
    inputsToSave: ['x'],
    outputsToSave: [false, true],
    gradFunc: (dy, saved, attrs) => ({ x: () => unpool(one(dy), saved[0] as tf.Tensor, saved[1] as tf.Tensor, Boolean(attrs.includeBatchInIndex)) }),
  },
  segmentGradient('SparseSegmentSum', false),
  segmentGradient('SparseSegmentMean', true),
  binGradient('Bincount'),
  binGradient('DenseBincount'),
  ...PICTURE_GRADIENTS,
  ...SECOND_GRADIENTS,
  ...['Greater', 'Less', 'LessEqual', 'Equal', 'NotEqual'].map(constant),
];
