import * as tf from '@tensorflow/tfjs-core';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeAll, describe, expect, it } from 'vitest';
import '../../ts/backend';
import { loadAddon } from '../../ts/native';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const turn = (): Promise<void> => new Promise((done) => setTimeout(done, 5));

const x = (): tf.Tensor => tf.reshape(tf.range(1, 25), [2, 3, 4]);
const image = (): tf.Tensor4D => tf.reshape(tf.range(0, 2 * 8 * 8 * 3), [2, 8, 8, 3]) as tf.Tensor4D;
const filter = (): tf.Tensor4D => tf.ones([3, 3, 3, 4]);
const ids = (): tf.Tensor1D => tf.tensor1d([0, 1, 0], 'int32');

/** One entry per native family and path; the gradients bring the backward kernels. */
const calls: Record<string, () => unknown> = {
  unary: () => tf.exp(tf.neg(x())),
  binary: () => tf.add(x(), tf.ones([4])),
  compare: () => tf.where(tf.greater(x(), tf.scalar(3)), x(), tf.zerosLike(x())),
  addN: () => tf.addN([x(), x(), x()]),
  reduce: () => [tf.sum(x(), [0, 2]), tf.mean(x()), tf.argMax(x(), 1)],
  cast: () => tf.cast(x(), 'int32'),
  movement: () => [tf.transpose(x()), tf.slice(x(), [1, 0, 0]), tf.stridedSlice(x(), [0, 0, 0], [2, 3, 4], [1, 2, 2]), tf.concat([x(), x()], 1), tf.stack([x(), x()]), tf.pad(x(), [[1, 1], [0, 0], [2, 0]]), tf.mirrorPad(x(), [[1, 1], [0, 0], [2, 0]], 'reflect'), tf.tile(x(), [1, 2, 1]), tf.reverse(x())],
  split: () => [tf.split(x(), 2), tf.unstack(x(), 1)],
  spaceToBatch: () => tf.batchToSpaceND(tf.spaceToBatchND(image(), [2, 2], [[0, 0], [0, 0]]), [2, 2], [[0, 0], [0, 0]]),
  index: () => [tf.gather(x(), ids(), 1), tf.gatherND(x(), tf.tensor2d([[1, 2]], [1, 2], 'int32')), tf.oneHot(ids(), 3), tf.scatterND(tf.tensor2d([[1], [2]], [2, 1], 'int32'), tf.ones([2, 2]), [4, 2])],
  rows: () => [tf.softmax(x()), tf.cumsum(x(), 1), tf.topk(x(), 2).values],
  matmul: () => tf.matMul(x(), x(), false, true),
  fusedMatmul: () => tf.fused.matMul({ a: tf.ones([2, 3]), b: tf.ones([3, 4]), bias: tf.ones([4]), activation: 'relu' }),
  fusedConv: () => tf.fused.conv2d({ x: image(), filter: filter(), strides: 1, pad: 'same', bias: tf.ones([4]), activation: 'relu6' }),
  convGradients: () => tf.grads((a, b) => tf.sum(tf.conv2d(a as tf.Tensor4D, b as tf.Tensor4D, 2, 'same')))([image(), filter()]),
  depthwiseGradients: () => tf.grads((a, b) => tf.sum(tf.depthwiseConv2d(a as tf.Tensor4D, b as tf.Tensor4D, 1, 'same')))([image(), filter()]),
  poolGradients: () => [tf.grad((a) => tf.sum(tf.maxPool(a as tf.Tensor4D, 2, 2, 'same')))(image()), tf.grad((a) => tf.sum(tf.avgPool(a as tf.Tensor4D, 2, 2, 'same')))(image())],
  poolings: () => [tf.maxPoolWithArgmax(image(), 2, 2, 'same').indexes, tf.grad((a) => tf.sum(tf.maxPool3d(a as tf.Tensor5D, 2, 2, 'same')))(tf.reshape(image(), [1, 2, 8, 8, 3])), tf.grad((a) => tf.sum(tf.avgPool3d(a as tf.Tensor5D, 2, 2, 'same')))(tf.reshape(image(), [1, 2, 8, 8, 3]))],
  conv3d: () => tf.grads((a, b) => tf.sum(tf.conv3d(a as tf.Tensor5D, b as tf.Tensor5D, 2, 'same')))([tf.reshape(image(), [1, 2, 8, 8, 3]), tf.reshape(filter(), [1, 3, 3, 3, 4])]),
  channelsFirst: () => tf.grads((a, b) => tf.sum(tf.conv2d(a as tf.Tensor4D, b as tf.Tensor4D, 2, 'same', 'NCHW')))([tf.reshape(image(), [2, 3, 8, 8]), filter()]),
  dilation: () => tf.grads((a, b) => tf.sum(tf.dilation2d(a as tf.Tensor4D, b as tf.Tensor3D, 1, 'same')))([image(), tf.ones([3, 3, 3])]),
  responseNorm: () => tf.grad((a) => tf.sum(tf.localResponseNormalization(a as tf.Tensor4D)))(image()),
  batchNorm: () => tf.batchNorm(image(), tf.zeros([3]), tf.ones([3])),
  resize: () => [tf.image.resizeNearestNeighbor(image(), [4, 4]), tf.grad((a) => tf.sum(tf.image.resizeBilinear(a as tf.Tensor4D, [5, 5])))(image())],
  warp: () => [tf.image.cropAndResize(image(), tf.tensor2d([[0, 0, 1, 1]]), tf.tensor1d([1], 'int32'), [3, 3]), tf.image.transform(image(), tf.tensor2d([[1, 0, 1, 0, 1, 0, 0, 0]])), tf.image.rotateWithOffset(image(), 1, [1, 2, 3]), tf.image.flipLeftRight(image())],
  suppression: () => { const [boxes, scores] = [tf.tensor2d([[0, 0, 1, 1], [0, 0, 1, 0.9]]), tf.tensor1d([0.5, 0.75])]; return [tf.image.nonMaxSuppression(boxes, scores, 2), tf.image.nonMaxSuppressionPadded(boxes, scores, 2), tf.image.nonMaxSuppressionWithScore(boxes, scores, 2, 0.5, 0.1, 0.5)]; },
  complex: () => { const z = tf.complex(x(), tf.onesLike(x())); return [tf.abs(tf.mul(z, z)), tf.imag(tf.add(z, z)), tf.transpose(z), tf.concat([z, z]), tf.cast(z, 'float32'), tf.onesLike(z)]; },
  fourier: () => [tf.spectral.rfft(x()), tf.spectral.ifft(tf.complex(tf.ones([2, 17]), tf.zeros([2, 17]))), tf.signal.stft(tf.ones([64]), 16, 8)],
  sparse: () => [tf.sparse.sparseSegmentSum(x(), ids(), tf.tensor1d([0, 0, 2], 'int32')), tf.sparse.sparseFillEmptyRows([[1, 0]], [1], [3, 2], 0), tf.sparse.sparseReshape([[1, 0]], [3, 2], [6])],
  counting: () => [tf.bincount(ids(), tf.tensor1d([]), 3), tf.denseBincount(tf.reshape(ids(), [1, 3]) as tf.Tensor2D, tf.tensor2d([], [0, 0]), 3), tf.searchSorted(tf.tensor1d([1, 2, 3]), tf.tensor1d([2])), tf.unique(ids())],
  creation: () => [tf.range(0, 9, 2), tf.linspace(0, 1, 5), tf.diag(ids()), tf.fill([3], NaN), tf.multinomial(tf.ones([2, 3]) as tf.Tensor2D, 4, 5)],
  delegated: () => [tf.unique(tf.tensor1d(['a', 'b', 'a'])), tf.string.stringToHashBucketFast(['a'], 3)],
  refused: () => { try { tf.engine().runKernel('GatherV2', { x: x(), indices: tf.tensor1d([99], 'int32') }, { axis: 0 }); } catch { /* what is tested is what stays behind */ } },
};

describe('nothing stays behind', () => {
  beforeAll(async () => {
    await tf.setBackend('simmim-cpu');
  });
  const stats = (): ReturnType<ReturnType<typeof loadAddon>['stats']> => loadAddon().stats();

  for (const [name, call] of Object.entries(calls)) {
    it(`${name}: 1000 calls keep tensors, handles and arena bytes`, () => {
      const run = (): void => { tf.tidy(() => { call(); return undefined as never; }); };
      for (let i = 0; i < 10; i++) run();
      const before = { tensors: tf.memory().numTensors, buffers: tf.memory().numDataBuffers, ...stats() };
      for (let i = 0; i < 1000; i++) run();
      const after = stats();
      expect(tf.memory().numTensors).toBe(before.tensors);
      expect(tf.memory().numDataBuffers).toBe(before.buffers);
      expect(after.handles).toBe(before.handles);
      expect(after.live).toBe(before.live);
      expect(after.live + after.cached).toBe(before.live + before.cached);
    });
  }

  it('tensors that JavaScript dropped without dispose are reclaimed', async () => {
    await turn();
    const before = stats().handles;
    const drop = (): void => { for (let i = 0; i < 2000; i++) tf.add(tf.scalar(i), tf.scalar(1)); };
    drop();
    for (let i = 0; i < 50 && stats().handles > before + 20; i++) {
      await turn();
      collect();
    }
    expect(stats().handles).toBeLessThanOrEqual(before + 20);
  });

  it('use after dispose is an error that says so', () => {
    const t = tf.tensor1d([1, 2]);
    const info = { dataId: t.dataId, shape: t.shape, dtype: t.dtype };
    t.dispose();
    expect(() => t.dataSync()).toThrow(/disposed/);
    expect(() => tf.engine().runKernel('Exp', { x: info as tf.Tensor })).toThrow(/disposed/);
  });
});

describe('moving between backends', () => {
  it('a tensor goes to the cpu backend and back with its references', async () => {
    await tf.setBackend('simmim-cpu');
    const a = tf.tensor1d([1, 2, 3]);
    const b = tf.reshape(a, [3, 1]);
    const doubled = tf.mul(a, 2);
    await tf.setBackend('cpu');
    expect([...tf.add(a, doubled).dataSync()]).toEqual([3, 6, 9]);
    await tf.setBackend('simmim-cpu');
    expect([...tf.add(b, 1).dataSync()]).toEqual([2, 3, 4]);
    a.dispose();
    expect([...b.dataSync()]).toEqual([1, 2, 3]);
    b.dispose();
    await tf.setBackend('cpu'); // which itself cannot take complex tensors over, only give them away
    const c = tf.complex(tf.tensor1d([1, 2]), tf.tensor1d([3, 4]));
    await tf.setBackend('simmim-cpu');
    expect([...tf.imag(c).dataSync()]).toEqual([3, 4]);
    expect([...tf.real(c).dataSync()]).toEqual([1, 2]);
  });
});
