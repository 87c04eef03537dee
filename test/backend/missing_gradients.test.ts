import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { CUDA_BACKEND } from '../../ts/backend';
import { Rng } from '../../ts/rng';
import { OWN_BACKEND, unlessLacking } from '../helpers/devices';

/** Elements whose differences are taken: all of them; every fifth on the emulation of a GPU, where a call costs much more. */
const EVERY = OWN_BACKEND === CUDA_BACKEND ? 5 : 1;

/** Largest difference (relative: in units of the largest gradient) between the gradient of sum(f(x) * w) and central differences, over every element of x (see EVERY). */
function worstDifference(f: (x: tf.Tensor) => tf.Tensor, shape: number[], scale: 'absolute' | 'relative' = 'absolute'): number {
  const rng = new Rng(7, 0);
  // Evenly spread over (-2, 2) in random order: no two values so close, or so close to an integer, that a difference would cross a kink.
  const size = tf.util.sizeFromShape(shape);
  const order = Array.from({ length: size }, (_, i) => [rng.uniform(), i] as const).sort((a, b) => a[0] - b[0]);
  const values = Float32Array.from(order, ([, i]) => ((i + 0.5) / size) * 4 - 2);
  const x = tf.tensor(values, shape);
  const y = f(x);
  const w = tf.tensor(Float32Array.from({ length: y.size }, () => rng.uniform() - 0.5), y.shape);
  const loss = (v: tf.Tensor): tf.Scalar => tf.sum(tf.mul(f(v), w)) as tf.Scalar;
  const gradient = tf.grad(loss)(x).dataSync();
  let worst = 0;
  const h = 1 / 128;
  for (let i = 0; i < values.length; i += EVERY) {
    const at = (d: number): number => loss(tf.tensor(values.map((v, j) => (i === j ? v + d : v)), shape)).dataSync()[0] as number;
    worst = Math.max(worst, Math.abs((at(h) - at(-h)) / (2 * h) - (gradient[i] as number)));
  }
  return scale === 'relative' ? worst / Math.max(1, ...gradient.map(Math.abs)) : worst;
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
  ['Cumprod', [2, 5, 3], (x) => tf.cumprod(x, 1)],
  ['Cumprod, exclusive and reverse, with a zero', [6], (x) => tf.cumprod(tf.mul(x, tf.tensor1d([1, 1, 0, 1, 1, 0.5])), 0, true, true)],
  ['Cumprod with two zeros', [5], (x) => tf.cumprod(tf.mul(x, tf.tensor1d([1, 0, 1, 0, 1])))],
  ['Diag', [2, 3], (x) => tf.diag(x)],
  ['SparseToDense of values', [3], (x) => tf.sparseToDense(tf.tensor2d([[0, 1], [2, 0], [1, 1]], [3, 2], 'int32'), x as tf.Tensor1D, [3, 2], tf.scalar(2))],
  ['SparseToDense of the default value', [], (x) => tf.sparseToDense(tf.tensor1d([0, 2], 'int32'), tf.ones([2]) as tf.Tensor1D, [6], x as tf.Scalar)],
  ['MaxPoolWithArgmax', [2, 4, 4, 2], (x) => tf.maxPoolWithArgmax(x as tf.Tensor4D, 3, 1, 'same').result as tf.Tensor],
  ['MaxPoolWithArgmax, positions in the whole batch', [2, 4, 4, 2], (x) => tf.maxPoolWithArgmax(x as tf.Tensor4D, 2, 2, 'valid', true).result as tf.Tensor],
  ['SparseSegmentSum', [4, 3], (x) => tf.sparse.sparseSegmentSum(x, tf.tensor1d([3, 0, 3, 1], 'int32'), tf.tensor1d([0, 0, 1, 3], 'int32'))],
  ['SparseSegmentMean', [4, 3], (x) => tf.sparse.sparseSegmentMean(x, tf.tensor1d([3, 0, 3, 1], 'int32'), tf.tensor1d([0, 0, 0, 2], 'int32'))],
  ['Bincount of weights', [5], (x) => tf.bincount(tf.tensor1d([0, 3, 1, 7, 1], 'int32'), x as tf.Tensor1D, 4)],
  ['DenseBincount of weights', [2, 3], (x) => tf.denseBincount(tf.tensor2d([[0, 1, 1], [2, 9, 0]], [2, 3], 'int32'), x as tf.Tensor2D, 3)],
  ['CropAndResize', [2, 4, 5, 2], (x) => tf.image.cropAndResize(x as tf.Tensor4D, tf.tensor2d([[0, 0, 1, 1], [0.1, 0.3, 0.8, 1.2], [0.9, 0.2, 0.2, 0.6]]), tf.tensor1d([0, 1, 1], 'int32'), [3, 4])],
  ['CropAndResize, nearest, one pixel', [1, 4, 5, 2], (x) => tf.image.cropAndResize(x as tf.Tensor4D, tf.tensor2d([[0.1, 0, 0.7, 1]]), tf.tensor1d([0], 'int32'), [1, 3], 'nearest')],
  ...(['constant', 'reflect', 'wrap', 'nearest'] as const).flatMap((mode) =>
    (['bilinear', 'nearest'] as const).map((way): [string, number[], (x: tf.Tensor) => tf.Tensor] => [`Transform, ${way}, ${mode}`, [2, 4, 5, 2], (x) => tf.image.transform(x as tf.Tensor4D, tf.tensor2d([[1.2, 0.3, -1.7, -0.2, 0.9, 0.6, 0.02, 0.01], [0.7, -0.4, 2.3, 0.1, 1.6, -2.6, 0, 0]]), way, mode, 1, [5, 6])]),
  ),
  ['RotateWithOffset', [2, 5, 4, 3], (x) => tf.image.rotateWithOffset(x as tf.Tensor4D, 0.7, 0.5, [0.3, 0.6])],
  ['FlipLeftRight', [1, 2, 3, 2], (x) => tf.image.flipLeftRight(x as tf.Tensor4D)],
  ['where(greater)', [4, 4], (x) => tf.where(tf.greater(x, tf.scalar(0)), x, tf.mul(x, tf.scalar(0.25)))],
];

/** Sums of squares of first gradients, whose own gradients need those of the gradient kernels: by x and by the filter. */
const squared = (f: (...t: tf.Tensor[]) => tf.Tensor, by: number) => (...t: tf.Tensor[]): tf.Tensor => tf.square(tf.grads((...s) => tf.sum(tf.square(f(...s))))(t)[by] as tf.Tensor);
const image = (): tf.Tensor => other([1, 5, 4, 2]);
const conv = (x: tf.Tensor, w: tf.Tensor): tf.Tensor => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 2, 'same');
const conv3d = (x: tf.Tensor, w: tf.Tensor): tf.Tensor => tf.conv3d(x as tf.Tensor5D, w as tf.Tensor5D, 1, 'same');
const depthwise = (x: tf.Tensor, w: tf.Tensor): tf.Tensor => tf.depthwiseConv2d(x as tf.Tensor4D, w as tf.Tensor4D, 1, 'same');
const SECOND: [string, number[], (x: tf.Tensor) => tf.Tensor][] = [
  ...([[conv, [1, 5, 4, 2], [2, 3, 2, 2], 'Conv2D'], [conv3d, [1, 2, 3, 3, 2], [2, 2, 2, 2, 1], 'Conv3D'], [depthwise, [1, 5, 4, 2], [2, 3, 2, 2], 'DepthwiseConv2dNative']] as const).flatMap(([f, x, w, name]): typeof SECOND => [
    [`${name}, gradient of x by x`, [...x], (t) => squared(f as never, 0)(t, other([...w]))],
    [`${name}, gradient of x by the filter`, [...w], (t) => squared(f as never, 0)(other([...x]), t)],
    [`${name}, gradient of the filter by x`, [...x], (t) => squared(f as never, 1)(t, other([...w]))],
    [`${name}, gradient of the filter by the filter`, [...w], (t) => squared(f as never, 1)(other([...x]), t)],
  ]),
  ['MaxPool', [1, 5, 4, 2], squared((t) => tf.maxPool(t as tf.Tensor4D, 3, 2, 'same'), 0)],
  // by itself: with padding, tfjs's first gradient is not that of its average
  ['AvgPoolGrad with padding', [1, 3, 2, 2], (t) => tf.engine().runKernel('AvgPoolGrad', { dy: t, input: image() }, { filterSize: [3, 3], strides: [2, 2], pad: 'same' })],
  ['AvgPool', [2, 5, 4, 2], squared((t) => tf.avgPool(t as tf.Tensor4D, [2, 3], 1, 'valid'), 0)],
  ['ResizeBilinear', [1, 3, 4, 2], squared((t) => tf.image.resizeBilinear(t as tf.Tensor4D, [5, 3]), 0)],
  ['ResizeNearestNeighbor', [1, 3, 4, 2], squared((t) => tf.image.resizeNearestNeighbor(t as tf.Tensor4D, [5, 3]), 0)],
  // by itself: tfjs's engine loses second gradients that go through saved outputs
  ['EluGrad of dy', [3, 4], (t) => tf.engine().runKernel('EluGrad', { dy: t, y: other([3, 4]) }, {})],
  ['EluGrad of y', [3, 4], (t) => tf.engine().runKernel('EluGrad', { dy: other([3, 4]), y: t }, {})],
];

describe('gradients of gradients', () => {
  beforeAll(async () => {
    await tf.setBackend(OWN_BACKEND);
  });
  for (const [name, shape, f] of SECOND) {
    // The losses are up to 2^8 times those of the test below, in sums of squares of squares, and so are their roundings.
    it(name, unlessLacking(() => expect(worstDifference(f, shape, 'relative')).toBeLessThan(2e-3)));
  }
});

describe('gradients that tfjs-core lacks', () => {
  beforeAll(async () => {
    await tf.setBackend(OWN_BACKEND);
  });
  for (const [name, shape, f] of cases) {
    // Central differences of float32 sums of magnitude ~4: 4 * 2^-24 / (2/128) is about 1.5e-5 per rounding; a few dozen roundings.
    it(name, unlessLacking(() => expect(worstDifference(f, shape)).toBeLessThan(2e-3)));
  }
});
