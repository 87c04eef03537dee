import * as tf from '@tensorflow/tfjs-core';

/**
 * Gradients of kernels that tfjs-core has none for. They are composed of tfjs ops, so they serve every backend.
 * Comparisons are constant almost everywhere: their gradient is zero, as tfjs-core has it for GreaterEqual alone.
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

const zeros = (x: tf.Tensor) => (): tf.Tensor => tf.zeros(x.shape);

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
  ...['Greater', 'Less', 'LessEqual', 'Equal', 'NotEqual'].map(constant),
];
