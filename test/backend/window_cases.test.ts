import * as tf from '@tensorflow/tfjs-core';
import { describe } from 'vitest';
import type { Draw } from './draw';
import { family } from './random_family';

type Pair = [number, number];
type Triple = [number, number, number];
const ACTIVATIONS = ['linear', 'relu', 'relu6', 'elu', 'sigmoid', 'leakyrelu', 'prelu'] as const;

/** The value of f and the gradients of the sum of its squares. */
function withGradients(f: (...t: tf.Tensor[]) => tf.Tensor, ...inputs: tf.Tensor[]): tf.Tensor[] {
  return [f(...inputs), ...tf.grads((...t) => tf.sum(tf.square(f(...t))))(inputs)];
}

/** Explicit padding for two spatial dims, in the layout of the data. */
function padding(d: Draw, first: boolean): 'same' | 'valid' | number | [Pair, Pair, Pair, Pair] {
  const pads = (): Pair => [d.integer(2), d.integer(2)];
  const [h, w] = [pads(), pads()];
  return d.pick(['same', 'valid', d.integer(2), first ? [[0, 0], [0, 0], h, w] : [[0, 0], h, w, [0, 0]]] as const) as 'same';
}

// Sums of up to 400 products in float32 against doubles: of random sign, so about 20 roundings of the largest partial sum.
const TOLERANCE = 2e-5;
const SUMS = { scale: 'tensor' } as const;

describe('windows against the cpu backend', () => {
  family('convolution in two dimensions', TOLERANCE, (d) => {
    const first = d.chance(0.3);
    const [h, w, c, o] = [4 + d.size(6), 4 + d.size(6), 1 + d.integer(6), 1 + d.integer(20)];
    const x = d.tensor({ shape: first ? [2, c, h, w] : [2, h, w, c], dtype: 'float32' });
    const filter = d.tensor({ shape: [1 + d.integer(3), 1 + d.integer(3), c, o], dtype: 'float32' });
    const pad = padding(d, first);
    const dilated = d.chance(0.3);
    const strides: Pair = dilated ? [1, 1] : [1 + d.integer(3), 1 + d.integer(3)];
    const format = first ? 'NCHW' : 'NHWC';
    const rounding = typeof pad === 'string' ? undefined : d.pick(['floor', 'round', 'ceil'] as const);
    const conv = (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.conv2d(a as tf.Tensor4D, b as tf.Tensor4D, strides, pad, format, dilated ? [2, 2] : 1, rounding);
    const label = `${x.label} ${filter.label} strides ${strides} pad ${JSON.stringify(pad)} ${format} dilated ${dilated} ${rounding}`;
    return [label, () => (dilated ? conv(x.make(), filter.make()) : withGradients(conv, x.make(), filter.make()))];
  }, SUMS);

  family('fused convolution, depthwise convolution and product', TOLERANCE, (d) => {
    const first = d.chance(0.2);
    const [h, w, c, o] = [3 + d.size(4), 3 + d.size(4), 1 + d.integer(4), 1 + d.integer(20)];
    const x = d.tensor({ shape: first ? [2, c, h, w] : [2, h, w, c], dtype: 'float32', special: true });
    const filter = d.tensor({ shape: [2, 2, c, o], dtype: 'float32' });
    const deep = d.tensor({ shape: [2, 2, c, 1 + d.integer(3)], dtype: 'float32' });
    const activation = d.pick(ACTIVATIONS);
    const channels = { conv: o, depthwise: c * (deep.shape[3] as number) };
    const vector = (n: number): tf.Tensor => (d.keep ? tf.tensor1d(Array.from({ length: n }, (_, i) => (i % 5) / 4 - 0.5)) : tf.scalar(0.25));
    const fused = (n: number): { bias?: tf.Tensor; activation: 'relu'; preluActivationWeights?: tf.Tensor; leakyreluAlpha: number } => ({
      ...(d.keep || n % 2 ? { bias: vector(n) } : {}),
      activation: activation as 'relu',
      ...(activation === 'prelu' ? { preluActivationWeights: vector(n) } : {}),
      leakyreluAlpha: 0.1,
    });
    const [m, k] = [d.size(9), d.integer(20)];
    const [a, b] = [d.tensor({ shape: [2, m, k], dtype: 'float32' }), d.tensor({ shape: [2, k, o], dtype: 'float32' })];
    const ops: [string, () => tf.Tensor][] = [
      ['conv2d', () => tf.fused.conv2d({ x: x.make() as tf.Tensor4D, filter: filter.make() as tf.Tensor4D, strides: 1, pad: 'valid', dataFormat: first ? 'NCHW' : 'NHWC', ...fused(o) })],
      ['matMul', () => tf.fused.matMul({ a: a.make(), b: b.make(), ...fused(o) })],
    ];
    if (!first) ops.push(['depthwiseConv2d', () => tf.fused.depthwiseConv2d({ x: x.make() as tf.Tensor4D, filter: deep.make() as tf.Tensor4D, strides: 1, pad: 'valid', ...fused(channels.depthwise) })]);
    const [name, f] = d.pick(ops);
    return [`${name} ${x.label} ${filter.label} ${activation} first ${first}`, f];
  }, SUMS);

  family('convolution in three dimensions', TOLERANCE, (d) => {
    const c = 1 + d.integer(5);
    const x = d.tensor({ shape: [1 + d.integer(2), 2 + d.integer(3), 2 + d.size(4, 20), 2 + d.integer(4), c], dtype: 'float32' });
    const filter = d.tensor({ shape: [1 + d.integer(2), 1 + d.integer(3), 1 + d.integer(3), c, 1 + d.integer(5)], dtype: 'float32' });
    const strides: Triple = [1 + d.integer(2), 1 + d.integer(3), 1 + d.integer(2)];
    const pad = d.pick(['same', 'same', 'valid'] as const);
    const fits = pad === 'same' || filter.shape.slice(0, 3).every((n, i) => n <= (x.shape[i + 1] as number));
    const dilated = d.chance(0.2);
    const conv = (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.conv3d(a as tf.Tensor5D, b as tf.Tensor5D, dilated ? 1 : strides, fits ? pad : 'same', 'NDHWC', dilated ? [1, 2, 2] : 1);
    return [`${x.label} ${filter.label} strides ${strides} ${pad} dilated ${dilated}`, () => (dilated ? conv(x.make(), filter.make()) : withGradients(conv, x.make(), filter.make()))];
  }, SUMS);

  family('depthwise convolution', TOLERANCE, (d) => {
    const c = d.pick([1, 2, 3, 5, 17, 40]);
    const x = d.tensor({ shape: [1 + d.integer(2), 3 + d.size(6), 3 + d.size(12), c], dtype: 'float32' });
    const filter = d.tensor({ shape: [1 + d.integer(3), 1 + d.integer(3), c, d.pick([1, 1, 2, 3])], dtype: 'float32' });
    const dilations: Pair = d.chance(0.3) ? [1 + d.integer(3), 1 + d.integer(2)] : [1, 1];
    const strides: Pair = Math.max(...dilations) > 1 ? [1, 1] : d.pick([[1, 1], [2, 2], [3, 3]] as const) as Pair;
    const pad = d.pick(['same', 'same', 'valid', 1] as const);
    const depthwise = (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.depthwiseConv2d(a as tf.Tensor4D, b as tf.Tensor4D, strides, Math.max(...dilations) > 1 ? 'same' : pad, 'NHWC', dilations);
    return [`${x.label} ${filter.label} strides ${strides} dilations ${dilations} ${pad}`, () => withGradients(depthwise, x.make(), filter.make())];
  }, SUMS);

  family('pooling in two dimensions', 1e-5, (d) => {
    const c = d.pick([1, 2, 3, 17, 70]);
    const shape = [1 + d.integer(2), 3 + d.size(6), 3 + d.size(6), c];
    const [dtype, special] = [d.pick(['float32', 'float32', 'int32'] as const), d.chance(0.3)];
    const x = d.tensor({ shape, dtype, special });
    const size: Pair = [1 + d.integer(3), 1 + d.integer(3)];
    const strides: Pair = [1 + d.integer(3), 1 + d.integer(3)];
    const pad = d.pick(['same', 'valid', 1] as const);
    const fits = pad === 1 && (size[0] !== size[1] || size[0] === 1) ? 'same' : pad; // tfjs measures both axes with the height then
    const argmax = (): tf.Tensor[] => Object.values(tf.maxPoolWithArgmax(x.make() as tf.Tensor4D, size, strides, fits, d.keep));
    const max = (a: tf.Tensor): tf.Tensor => tf.maxPool(a as tf.Tensor4D, size, strides, fits);
    const average = (a: tf.Tensor): tf.Tensor => tf.avgPool(a as tf.Tensor4D, size, strides, fits);
    const finite = dtype === 'float32' && !special;
    const ops: [string, () => tf.Tensor | tf.Tensor[]][] = x.dtype === 'int32' ? [['max', () => max(x.make())], ['argmax', argmax]] : [['max', () => (finite ? withGradients(max, x.make()) : max(x.make()))], ['argmax', argmax], ['average', () => withGradients(average, x.make())]];
    const [name, f] = d.pick(ops);
    return [`${name} ${x.label} size ${size} strides ${strides} ${fits}`, f];
  });

  family('pooling in three dimensions', 1e-5, (d) => {
    const x = d.tensor({ shape: [1 + d.integer(2), 2 + d.integer(4), 2 + d.size(5, 20), 2 + d.integer(5), d.pick([1, 3, 17])], dtype: 'float32' });
    const side = 1 + d.integer(2); // the cpu backend misplaces the gradient of windows whose height is not their width
    const size: Triple = [1 + d.integer(2), side, side];
    const strides: Triple = [1 + d.integer(2), 1 + d.integer(3), 1 + d.integer(3)];
    const pad = d.pick(['same', 'valid'] as const);
    const f = d.chance(0.5) ? (a: tf.Tensor) => tf.maxPool3d(a as tf.Tensor5D, size, strides, pad) : (a: tf.Tensor) => tf.avgPool3d(a as tf.Tensor5D, size, strides, pad);
    return [`${x.label} size ${size} strides ${strides} ${pad}`, () => withGradients(f, x.make())];
  });

  family('morphological dilation', 1e-6, (d) => {
    const x = d.tensor({ shape: [1 + d.integer(2), 3 + d.size(6), 3 + d.size(6), d.pick([1, 2, 17, 70])], dtype: 'int32' });
    const filter = d.tensor({ shape: [1 + d.integer(3), 1 + d.integer(3), x.shape[3] as number], dtype: 'int32' });
    const strides: Pair = [1 + d.integer(3), 1 + d.integer(3)];
    const dilations: Pair = [1 + d.integer(2), 1 + d.integer(2)];
    const f = (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.dilation2d(a as tf.Tensor4D, b as tf.Tensor3D, strides, 'same', dilations);
    return [`${x.label} ${filter.label} strides ${strides} dilations ${dilations}`, () => withGradients(f, tf.cast(x.make(), 'float32'), tf.cast(filter.make(), 'float32'))];
  });

  // powers of sums of up to 11 squares: 20 roundings
  family('local response normalisation', 2e-5, (d) => {
    const x = d.tensor({ shape: [1 + d.integer(2), d.size(4), d.size(4), d.pick([1, 3, 8, 16, 33, 100])], dtype: 'float32' });
    const [radius, bias, alpha, beta] = [d.integer(6), d.pick([0.5, 1, 2]), d.pick([1, 0.25, 0.001]), d.pick([0.5, 0.75, 1, 0.3])];
    return [`${x.label} ${radius} ${bias} ${alpha} ${beta}`, () => withGradients((a) => tf.localResponseNormalization(a as tf.Tensor4D, radius, bias, alpha, beta), x.make())];
  });

  family('normalisation by statistics', 1e-5, (d) => {
    const x = d.tensor({ minRank: 2, maxRank: 4, dtype: 'float32', special: true });
    const shape = d.pick([x.shape, x.shape.slice(-1)]);
    const statistic = (low: number): ReturnType<Draw['tensor']> => d.tensor({ shape, dtype: 'float32', small: low > 0 });
    const [mean, variance, offset, scale] = [statistic(0), statistic(1), statistic(0), statistic(0)];
    return [`${x.label} ${shape}`, () => tf.batchNorm(x.make(), mean.make() as tf.Tensor1D, variance.make() as tf.Tensor1D, d.keep ? (offset.make() as tf.Tensor1D) : undefined, d.keep ? (scale.make() as tf.Tensor1D) : undefined, 0.01)];
  });
});
