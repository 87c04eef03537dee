import * as tf from '@tensorflow/tfjs-core';

const x = (): tf.Tensor => tf.reshape(tf.range(1, 25), [2, 3, 4]);
const image = (): tf.Tensor4D => tf.reshape(tf.range(0, 2 * 8 * 8 * 3), [2, 8, 8, 3]) as tf.Tensor4D;
const filter = (): tf.Tensor4D => tf.ones([3, 3, 3, 4]);
const ids = (): tf.Tensor1D => tf.tensor1d([0, 1, 0], 'int32');

/** Calls that together reach every kernel of the backend, one entry per native family and path; the gradients bring the backward kernels. */
export const KERNEL_CALLS: Record<string, () => unknown> = {
  unary: () => { const t = x(); return [tf.exp, tf.neg, tf.abs, tf.acos, tf.acosh, tf.asin, tf.asinh, tf.atan, tf.atanh, tf.ceil, tf.cos, tf.cosh, tf.erf, tf.expm1, tf.floor, tf.isFinite, tf.isInf, tf.isNaN, tf.log, tf.log1p, tf.reciprocal, tf.round, tf.rsqrt, tf.sign, tf.sin, tf.sinh, tf.sqrt, tf.square, tf.step, tf.tan, tf.tanh].map((f) => f(t)); },
  activations: () => { const t = x(); return [tf.elu, tf.leakyRelu, tf.relu, tf.relu6, tf.selu, tf.sigmoid, tf.softplus, (a: tf.Tensor) => tf.clipByValue(a, 1, 2), (a: tf.Tensor) => tf.prelu(a, tf.ones([4]) as tf.Tensor), (a: tf.Tensor) => tf.grad((b) => tf.elu(b))(a)].map((f) => f(t)); },
  binary: () => { const [a, b] = [x(), tf.ones([4])]; return [tf.add, tf.sub, tf.mul, tf.div, tf.maximum, tf.minimum, tf.squaredDifference, tf.floorDiv, tf.mod, tf.pow, tf.atan2].map((f) => f(a, b)); },
  comparison: () => { const [a, b] = [x(), tf.ones([4])]; return [tf.equal, tf.notEqual, tf.greater, tf.greaterEqual, tf.less, tf.lessEqual].map((f) => f(a, b)); },
  logic: () => { const [a, b] = [tf.cast(x(), 'bool'), tf.ones([4], 'bool')]; return [tf.logicalAnd(a, b), tf.logicalOr(a, b), tf.logicalNot(a), tf.all(a, 1), tf.any(a, 1), tf.bitwiseAnd(ids(), ids())]; },
  choice: () => tf.where(tf.greater(x(), tf.scalar(3)), x(), tf.zerosLike(x())),
  addN: () => tf.addN([x(), x(), x()]),
  reduce: () => [tf.sum(x(), [0, 2]), tf.mean(x()), tf.max(x(), 1), tf.min(x(), 1), tf.prod(x(), 1), tf.argMax(x(), 1), tf.argMin(x(), 1)],
  cast: () => tf.cast(x(), 'int32'),
  movement: () => [tf.transpose(x()), tf.slice(x(), [1, 0, 0]), tf.stridedSlice(x(), [0, 0, 0], [2, 3, 4], [1, 2, 2]), tf.concat([x(), x()], 1), tf.stack([x(), x()]), tf.pad(x(), [[1, 1], [0, 0], [2, 0]]), tf.mirrorPad(x(), [[1, 1], [0, 0], [2, 0]], 'reflect'), tf.tile(x(), [1, 2, 1]), tf.reverse(x()), tf.expandDims(x(), 1), tf.depthToSpace(tf.ones([1, 2, 2, 4]), 2)],
  split: () => [tf.split(x(), 2), tf.unstack(x(), 1)],
  spaceToBatch: () => tf.batchToSpaceND(tf.spaceToBatchND(image(), [2, 2], [[0, 0], [0, 0]]), [2, 2], [[0, 0], [0, 0]]),
  index: () => [tf.gather(x(), ids(), 1), tf.gatherND(x(), tf.tensor2d([[1, 2]], [1, 2], 'int32')), tf.oneHot(ids(), 3), tf.scatterND(tf.tensor2d([[1], [2]], [2, 1], 'int32'), tf.ones([2, 2]), [4, 2]), tf.tensorScatterUpdate(x(), tf.tensor2d([[1], [0]], [2, 1], 'int32'), tf.ones([2, 3, 4])), tf.sparseToDense(tf.tensor1d([2, 0], 'int32'), tf.tensor1d([5, 6]), [4]), tf.unsortedSegmentSum(x(), tf.tensor1d([0, 1], 'int32'), 3)],
  rows: () => [tf.softmax(x()), tf.cumsum(x(), 1), tf.cumprod(x(), 1), tf.topk(x(), 2).values],
  matmul: () => [tf.matMul(x(), x(), false, true), tf.einsum('bij,bkj->bik', x(), x())],
  fusedMatmul: () => tf.fused.matMul({ a: tf.ones([2, 3]), b: tf.ones([3, 4]), bias: tf.ones([4]), activation: 'relu' }),
  fusedConv: () => tf.fused.conv2d({ x: image(), filter: filter(), strides: 1, pad: 'same', bias: tf.ones([4]), activation: 'relu6' }),
  fusedDepthwise: () => tf.fused.depthwiseConv2d({ x: image(), filter: filter(), strides: 1, pad: 'same', bias: tf.ones([12]), activation: 'relu' }),
  convGradients: () => tf.grads((a, b) => tf.sum(tf.conv2d(a as tf.Tensor4D, b as tf.Tensor4D, 2, 'same')))([image(), filter()]),
  depthwiseGradients: () => tf.grads((a, b) => tf.sum(tf.depthwiseConv2d(a as tf.Tensor4D, b as tf.Tensor4D, 1, 'same')))([image(), filter()]),
  poolGradients: () => [tf.grad((a) => tf.sum(tf.maxPool(a as tf.Tensor4D, 2, 2, 'same')))(image()), tf.grad((a) => tf.sum(tf.avgPool(a as tf.Tensor4D, 2, 2, 'same')))(image())],
  poolings: () => [tf.maxPoolWithArgmax(image(), 2, 2, 'same').indexes, tf.grad((a) => tf.sum(tf.maxPool3d(a as tf.Tensor5D, 2, 2, 'same')))(tf.reshape(image(), [1, 2, 8, 8, 3])), tf.grad((a) => tf.sum(tf.avgPool3d(a as tf.Tensor5D, 2, 2, 'same')))(tf.reshape(image(), [1, 2, 8, 8, 3]))],
  conv3d: () => tf.grads((a, b) => tf.sum(tf.conv3d(a as tf.Tensor5D, b as tf.Tensor5D, 2, 'same')))([tf.reshape(image(), [1, 2, 8, 8, 3]), tf.reshape(filter(), [1, 3, 3, 3, 4])]),
  channelsFirst: () => tf.grads((a, b) => tf.sum(tf.conv2d(a as tf.Tensor4D, b as tf.Tensor4D, 2, 'same', 'NCHW')))([tf.reshape(image(), [2, 3, 8, 8]), filter()]),
  dilation: () => tf.grads((a, b) => tf.sum(tf.dilation2d(a as tf.Tensor4D, b as tf.Tensor3D, 1, 'same')))([image(), tf.ones([3, 3, 3])]),
  responseNorm: () => tf.grad((a) => tf.sum(tf.localResponseNormalization(a as tf.Tensor4D)))(image()),
  batchNorm: () => tf.batchNorm(image(), tf.zeros([3]), tf.ones([3])),
  resize: () => [tf.image.resizeNearestNeighbor(image(), [4, 4]), tf.grad((a) => tf.sum(tf.image.resizeBilinear(a as tf.Tensor4D, [5, 5])))(image()), tf.grad((a) => tf.sum(tf.image.resizeNearestNeighbor(a as tf.Tensor4D, [5, 5])))(image())],
  warp: () => [tf.image.cropAndResize(image(), tf.tensor2d([[0, 0, 1, 1]]), tf.tensor1d([1], 'int32'), [3, 3]), tf.image.transform(image(), tf.tensor2d([[1, 0, 1, 0, 1, 0, 0, 0]])), tf.image.rotateWithOffset(image(), 1, [1, 2, 3]), tf.image.flipLeftRight(image())],
  suppression: () => { const [boxes, scores] = [tf.tensor2d([[0, 0, 1, 1], [0, 0, 1, 0.9]]), tf.tensor1d([0.5, 0.75])]; return [tf.image.nonMaxSuppression(boxes, scores, 2), tf.image.nonMaxSuppressionPadded(boxes, scores, 2), tf.image.nonMaxSuppressionWithScore(boxes, scores, 2, 0.5, 0.1, 0.5)]; },
  complex: () => { const z = tf.complex(x(), tf.onesLike(x())); return [tf.abs(tf.mul(z, z)), tf.imag(tf.add(z, z)), tf.transpose(z), tf.concat([z, z]), tf.cast(z, 'float32'), tf.onesLike(z)]; },
  fourier: () => [tf.spectral.rfft(x()), tf.spectral.ifft(tf.complex(tf.ones([2, 17]), tf.zeros([2, 17]))), tf.signal.stft(tf.ones([64]), 16, 8)],
  sparse: () => [tf.sparse.sparseSegmentSum(x(), ids(), tf.tensor1d([0, 0, 2], 'int32')), tf.sparse.sparseSegmentMean(x(), ids(), tf.tensor1d([0, 0, 2], 'int32')), tf.sparse.sparseFillEmptyRows([[1, 0]], [1], [3, 2], 0), tf.sparse.sparseReshape([[1, 0]], [3, 2], [6])],
  counting: () => [tf.bincount(ids(), tf.tensor1d([]), 3), tf.denseBincount(tf.reshape(ids(), [1, 3]) as tf.Tensor2D, tf.tensor2d([], [0, 0]), 3), tf.searchSorted(tf.tensor1d([1, 2, 3]), tf.tensor1d([2])), tf.unique(ids())],
  creation: () => [tf.range(0, 9, 2), tf.linspace(0, 1, 5), tf.diag(ids()), tf.fill([3], NaN), tf.multinomial(tf.ones([2, 3]) as tf.Tensor2D, 4, 5)],
  delegated: () => [tf.broadcastArgs(ids(), tf.tensor1d([1, 1, 0], 'int32')), tf.unique(tf.tensor1d(['a', 'b', 'a'])), tf.string.stringToHashBucketFast(['a'], 3), tf.string.staticRegexReplace(['ab'], 'a', 'b'), tf.string.stringSplit(['a b'], ' '), tf.string.stringNGrams(['a', 'b'], tf.tensor1d([0, 2], 'int32'), '|', [1, 2], '', '', -1, false)],
  ragged: () => { const splits = tf.tensor1d([0, 1, 3], 'int32'); return [tf.raggedRange(tf.tensor1d([0, 5], 'int32'), tf.tensor1d([3, 7], 'int32'), tf.tensor1d([1, 1], 'int32')), tf.raggedGather([splits], tf.tensor1d([1, 2, 3]), tf.tensor1d([1, 0], 'int32'), 1), tf.raggedTensorToTensor(tf.tensor1d([2, 3], 'int32'), tf.tensor1d([1, 2, 3]), tf.scalar(0), [splits], ['ROW_SPLITS'])]; },
  refused: () => { try { tf.engine().runKernel('GatherV2', { x: x(), indices: tf.tensor1d([99], 'int32') }, { axis: 0 }); } catch { /* what is tested is what stays behind */ } },
};
