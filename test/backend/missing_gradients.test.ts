import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import '../../ts/backend';
import { Rng } from '../../ts/rng';

/** Largest difference between the gradient of sum(f(x) * w) and central differences, over every element of x. */
function worstDifference(f: (x: tf.Tensor) => tf.Tensor, shape: number[]): number {
  const rng = new Rng(7, 0);
  const values = Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => Math.round(rng.uniform() * 64) / 16 - 2 + rng.uniform() / 64);
  const x = tf.tensor(values, shape);
  const y = f(x);
  const w = tf.tensor(Float32Array.from({ length: y.size }, () => rng.uniform() - 0.5), y.shape);
  const loss = (v: tf.Tensor): tf.Scalar => tf.sum(tf.mul(f(v), w)) as tf.Scalar;
  const gradient = tf.grad(loss)(x).dataSync();
  let worst = 0;
  const h = 1 / 128;
  for (let i = 0; i < values.length; i++) {
    const at = (d: number): number => loss(tf.tensor(values.map((v, j) => (i === j ? v + d : v)), shape)).dataSync()[0] as number;
    worst = Math.max(worst, Math.abs((at(h) - at(-h)) / (2 * h) - (gradient[i] as number)));
  }
  return worst;
}

const other = (shape: number[]): tf.Tensor => tf.reshape(tf.sub(tf.div(tf.range(0, tf.util.sizeFromShape(shape)), tf.scalar(10)), tf.scalar(0.7)), shape);
const cases: [string, number[], (x: tf.Tensor) => tf.Tensor][] = [
  ['DepthToSpace NHWC', [2, 2, 3, 8], (x) => tf.depthToSpace(x as tf.Tensor4D, 2, 'NHWC')],
  ['DepthToSpace NCHW', [2, 8, 2, 3], (x) => tf.depthToSpace(x as tf.Tensor4D, 2, 'NCHW')],
  ['StridedSlice', [5, 6, 2], (x) => tf.stridedSlice(x, [1, 5, 0], [5, 0, 2], [2, -2, 1])],
  ['StridedSlice with masks', [5, 6], (x) => tf.stridedSlice(x, [1, 0], [2, 0], [1, 3], 0, 2, 0, 0, 1)],
  ['GatherNd', [4, 3, 2], (x) => tf.gatherND(x, tf.tensor2d([[0, 1], [3, 2], [0, 1]], [3, 2], 'int32'))],
  ['GatherV2 with a batch', [3, 4, 2], (x) => tf.gather(x, tf.tensor2d([[2, 0], [0, 1], [2, 2]], [3, 2], 'int32') as tf.Tensor as tf.Tensor1D, 1, 1)],
  ['ScatterNd', [3, 2], (x) => tf.scatterND(tf.tensor2d([[1], [4], [1]], [3, 1], 'int32'), x, [6, 2])],
  ['TensorScatterUpdate of the tensor', [5, 2], (x) => tf.tensorScatterUpdate(x, tf.tensor2d([[1], [4]], [2, 1], 'int32'), tf.ones([2, 2]))],
  ['TensorScatterUpdate of the updates', [2, 2], (x) => tf.tensorScatterUpdate(tf.ones([5, 2]), tf.tensor2d([[1], [4]], [2, 1], 'int32'), x)],
  ['TopK', [3, 7], (x) => tf.topk(x, 3).values],
  ['Einsum ij,jk->ik', [3, 4], (x) => tf.einsum('ij,jk->ik', x, other([4, 2]))],
  ['Einsum, second operand', [4, 2], (x) => tf.einsum('bij,jk->bik', other([2, 3, 4]), x)],
  ['Einsum of one operand', [3, 4], (x) => tf.einsum('ij->j', x)],
  ['where(greater)', [4, 4], (x) => tf.where(tf.greater(x, tf.scalar(0)), x, tf.mul(x, tf.scalar(0.25)))],
];

describe('gradients that tfjs-core lacks', () => {
  beforeAll(async () => {
    await tf.setBackend('simmim-cpu');
  });
  for (const [name, shape, f] of cases) {
    // Central differences of float32 sums of magnitude ~4: 4 * 2^-24 / (2/128) is about 1.5e-5 per rounding; a few dozen roundings.
    it(name, () => expect(worstDifference(f, shape)).toBeLessThan(2e-3));
  }
});
