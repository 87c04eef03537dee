import * as tf from '@tensorflow/tfjs-core';
import { describe } from 'vitest';
import type { Draw } from './draw';
import { family } from './random_family';

const UNARY: [string, (x: tf.Tensor) => tf.Tensor][] = [
  ['abs', tf.abs], ['acos', tf.acos], ['acosh', tf.acosh], ['asin', tf.asin], ['asinh', tf.asinh], ['atan', tf.atan], ['atanh', tf.atanh], ['ceil', tf.ceil], ['cos', tf.cos], ['cosh', tf.cosh],
  ['elu', tf.elu], ['erf', tf.erf], ['exp', tf.exp], ['expm1', tf.expm1], ['floor', tf.floor], ['isFinite', tf.isFinite], ['isInf', tf.isInf], ['isNaN', tf.isNaN], ['leakyRelu', tf.leakyRelu],
  ['log', tf.log], ['log1p', tf.log1p], ['neg', tf.neg], ['reciprocal', tf.reciprocal], ['relu', tf.relu], ['relu6', tf.relu6], ['round', tf.round], ['rsqrt', tf.rsqrt], ['selu', tf.selu],
  ['sigmoid', tf.sigmoid], ['sign', tf.sign], ['sin', tf.sin], ['sinh', tf.sinh], ['softplus', tf.softplus], ['sqrt', tf.sqrt], ['square', tf.square], ['step', tf.step], ['tan', tf.tan], ['tanh', tf.tanh],
  ['clip', (x) => tf.clipByValue(x, -0.5, 1.5)], ['castInt', (x) => tf.cast(x, 'int32')], ['castBool', (x) => tf.cast(x, 'bool')], ['castFloat', (x) => tf.cast(x, 'float32')],
];
const BINARY: [string, (a: tf.Tensor, b: tf.Tensor) => tf.Tensor][] = [
  ['add', tf.add], ['sub', tf.sub], ['mul', tf.mul], ['div', tf.div], ['maximum', tf.maximum], ['minimum', tf.minimum], ['squaredDifference', tf.squaredDifference], ['floorDiv', tf.floorDiv], ['mod', tf.mod],
  ['pow', tf.pow], ['atan2', tf.atan2], ['equal', tf.equal], ['notEqual', tf.notEqual], ['greater', tf.greater], ['greaterEqual', tf.greaterEqual], ['less', tf.less], ['lessEqual', tf.lessEqual],
  ['prelu', tf.prelu], ['logicalAnd', (a, b) => tf.logicalAnd(tf.cast(a, 'bool'), tf.cast(b, 'bool'))], ['logicalOr', (a, b) => tf.logicalOr(tf.cast(a, 'bool'), tf.cast(b, 'bool'))],
];
const REDUCE: [string, (x: tf.Tensor, axis: number[], keep: boolean) => tf.Tensor][] = [
  ['sum', tf.sum], ['mean', tf.mean], ['max', tf.max], ['min', tf.min], ['prod', tf.prod],
  ['all', (x, a, k) => tf.all(tf.cast(x, 'bool'), a, k)], ['any', (x, a, k) => tf.any(tf.cast(x, 'bool'), a, k)],
  ['argMax', (x, a) => tf.argMax(x, a[0] ?? 0)], ['argMin', (x, a) => tf.argMin(x, a[0] ?? 0)],
];

describe('against the cpu backend', () => {
  // 4 ULP of float32 per function, chains of two
  family('unary', 1e-6, (d) => {
    const [name, f] = d.pick(UNARY);
    const x = d.tensor({ special: true });
    return [`${name} of ${x.label}`, () => f(x.make())];
  });
  family('binary', 1e-6, (d) => {
    const [name, f] = d.pick(BINARY);
    const [a, b] = d.broadcastPair();
    return [`${name} of ${a.label} and ${b.label}`, () => f(a.make(), b.make())];
  });
  // sums of at most 4^6 values below 8 in float32 blocks of 64
  family('reduce', 2e-5, (d) => {
    const [name, f] = d.pick(REDUCE);
    const x = d.tensor({ minRank: 1, empty: false, small: name === 'prod' });
    const axes = x.shape.map((_, i) => i).filter(() => d.chance(0.5));
    return [`${name} of ${x.label} over ${axes}`, () => f(x.make(), axes.length ? axes : [0], d.keep)];
  });
  family('movement', 0, (d) => {
    const x = d.tensor({ minRank: 1, maxRank: 5 });
    const rank = x.shape.length;
    const axis = d.integer(rank);
    const perm = d.shuffled(rank);
    const begin = x.shape.map((n) => d.integer(n + 1));
    const size = x.shape.map((n, i) => d.integer(n - (begin[i] as number) + 1));
    const pads = x.shape.map(() => [d.integer(3), d.integer(3)] as [number, number]);
    const reps = x.shape.map((_, i) => (i === axis ? 3 : 1 + d.integer(2)));
    const steps = x.shape.map(() => d.pick([1, 2, -1, -2, 3]));
    const ops: [string, (t: tf.Tensor) => tf.Tensor | tf.Tensor[]][] = [
      ['transpose', (t) => tf.transpose(t, perm)],
      ['slice', (t) => tf.slice(t, begin, size)],
      ['strided', (t) => tf.stridedSlice(t, x.shape.map((n, i) => ((steps[i] as number) > 0 ? 0 : n)), x.shape.map((n, i) => ((steps[i] as number) > 0 ? n : -n - 1)), steps)],
      ['pad', (t) => tf.pad(t, pads, 2)],
      ['mirrorPad', (t) => tf.mirrorPad(t, x.shape.map((n) => [Math.min(1, Math.max(0, n - 1)), Math.min(2, Math.max(0, n - 1))] as [number, number]), 'reflect')],
      ['reverse', (t) => tf.reverse(t, axis)],
      ['tile', (t) => tf.tile(t, reps)],
      ['concat', (t) => tf.concat([t, t, tf.slice(t, begin.map(() => 0), x.shape.map((n, i) => (i === axis ? Math.min(1, n) : n)))], axis)],
      ['stack', (t) => tf.stack([t, t], axis)],
      ['unstack', (t) => tf.unstack(t, axis)],
      ['of a slice of a transpose', (t) => tf.reverse(tf.slice(tf.transpose(t, perm), perm.map(() => 0)), axis)],
      ['broadcastTo', (t) => tf.broadcastTo(t, [2, ...x.shape])],
    ];
    const [name, f] = d.pick(ops);
    return [`${name} of ${x.label}`, () => f(x.make())];
  });
  family('index and rows', 1e-5, (d) => {
    const x = d.tensor({ minRank: 1, maxRank: 4, empty: false });
    const axis = d.integer(x.shape.length);
    const n = x.shape[axis] as number;
    const indices = Array.from({ length: 1 + d.integer(5) }, () => d.integer(n));
    const last = x.shape[x.shape.length - 1] as number;
    const ids = Array.from({ length: x.shape[0] as number }, () => d.integer(4));
    const ops: [string, (t: tf.Tensor) => tf.Tensor | tf.Tensor[]][] = [
      ['gather', (t) => tf.gather(t, tf.tensor1d(indices, 'int32'), axis)],
      ['gatherND', (t) => tf.gatherND(t, tf.tensor2d(indices.map((i) => [i % (x.shape[0] as number)]), [indices.length, 1], 'int32'))],
      ['topk', (t) => { const { values, indices: where } = tf.topk(t, 1 + (indices.length % last)); return [values, where]; }],
      ['cumsum', (t) => tf.cumsum(t, axis, d.keep, d.keep)],
      ['cumprod', (t) => tf.cumprod(tf.clipByValue(t, -1.1, 1.1), axis, d.keep, !d.keep)],
      ['softmax', (t) => tf.softmax(tf.cast(t, 'float32'))],
      ['logSoftmax', (t) => tf.logSoftmax(tf.cast(t, 'float32'))],
      ['segmentSum', (t) => tf.unsortedSegmentSum(t, tf.tensor1d(ids, 'int32'), 3)],
      ['oneHot', (t) => tf.oneHot(tf.cast(t, 'int32'), 3)],
      ['scatterND', (t) => tf.scatterND(tf.tensor2d(ids.map((i) => [i]), [ids.length, 1], 'int32'), t, [4, ...x.shape.slice(1)])],
      ['where', (t) => tf.where(tf.greater(t, tf.scalar(1, t.dtype === 'bool' ? 'int32' : t.dtype)), t, tf.zerosLike(t))],
    ];
    const [name, f] = d.pick(ops);
    return [`${name} of ${x.label}`, () => f(x.make())];
  });
  // products of up to 40 terms below 8 * 8: 40 roundings of 64 * 2^-24 against values of order 10
  family('matmul', 2e-5, (d) => {
    const [m, k, n] = [d.integer(9), d.integer(40), d.integer(9)];
    const batch = d.pick([[], [1], [3], [2, 2]]);
    const [ta, tb] = [d.chance(0.5), d.chance(0.5)];
    const dtype = d.pick(['float32', 'float32', 'int32'] as const);
    const a = d.tensor({ shape: [...batch, ...(ta ? [k, m] : [m, k])], dtype });
    const b = d.tensor({ shape: [...(d.chance(0.5) ? batch : batch.map(() => 1)), ...(tb ? [n, k] : [k, n])], dtype });
    return [`${a.label} ${b.label} ${ta} ${tb}`, () => tf.matMul(a.make(), b.make(), ta, tb)];
  });
  // contractions over at most 4^3 values below 16
  family('einsum', 2e-5, (d) => {
    const pool = [...'abcdefg'].slice(0, 2 + d.integer(5));
    const sizes = new Map(pool.map((l) => [l, 1 + d.integer(4)]));
    const term = (): string => d.shuffled(pool.length).slice(0, 1 + d.integer(4)).map((i) => pool[i] as string).join('');
    const [a, b] = [term(), term()];
    const shared = [...a].filter((l) => b.includes(l));
    const free = [...new Set([...a, ...b])].filter((l) => !shared.includes(l) || d.chance(0.4));
    const out = d.shuffled(free.length).map((i) => free[i] as string).join('');
    const [x, y] = [a, b].map((t) => d.tensor({ shape: [...t].map((l) => sizes.get(l) as number), dtype: 'float32' })) as [ReturnType<Draw['tensor']>, ReturnType<Draw['tensor']>];
    const one = [...a].filter(() => d.chance(0.5)).reverse().join('');
    if (d.chance(0.25)) return [`${a}->${one}`, () => tf.einsum(`${a}->${one}`, x.make())];
    return [`${a},${b}->${out}`, () => tf.einsum(`${a},${b}->${out}`, x.make(), y.make())];
  });
});
