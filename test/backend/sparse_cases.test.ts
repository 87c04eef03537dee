import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { OWN_BACKEND } from '../helpers/devices';
import { family } from './random_family';

const numbers = (n: number, draw: (i: number) => number): number[] => Array.from({ length: n }, (_, i) => draw(i));
const ints = (values: number[]): tf.Tensor1D => tf.tensor1d(values, 'int32');

describe('lists of indices against the cpu backend', () => {
  // sums of up to 12 values below 8
  family('sums over segments', 1e-5, (d) => {
    const x = d.tensor({ minRank: 1, maxRank: 4, empty: false, dtype: d.pick(['float32', 'int32'] as const) });
    const [rows, n] = [x.shape[0] as number, d.size(12, 300)];
    const indices = numbers(n, () => d.integer(rows));
    const ids = numbers(n, () => d.integer(8)).sort((a, b) => a - b);
    const f = d.pick([['mean', tf.sparse.sparseSegmentMean], ['sum', tf.sparse.sparseSegmentSum]] as const);
    const broken = d.chance(0.1);
    if (broken) d.pick([() => indices.splice(0, 1, rows), () => ids.splice(n - 1, 1, -1), () => ids.reverse()] as const)();
    return [`${f[0]} of ${x.label} ${indices} ${ids}`, () => f[1](x.make(), ints(indices), ints(ids))];
  });

  family('sparse matrices', 0, (d) => {
    const shape = numbers(1 + d.integer(3), () => 1 + d.integer(6));
    const n = d.size(8, 60);
    const tuples = numbers(n * shape.length, (i) => d.integer(shape[i % shape.length] as number));
    const indices = (): tf.Tensor2D => tf.tensor2d(tuples, [n, shape.length], 'int32');
    const values = d.tensor({ shape: [n] });
    if (d.chance(0.1)) tuples[0] = d.pick([-1, 9]);
    const size = shape.reduce((a, b) => a * b, 1);
    const to = d.pick([[size], [-1, 1], [1, size, 1], [-1, -1], [size, 2]]);
    const ops: [string, () => tf.Tensor | tf.Tensor[]][] = [
      ['fill empty rows', () => { const out = tf.sparse.sparseFillEmptyRows(indices(), values.make() as tf.Tensor1D, ints(shape), tf.scalar(1, values.dtype)); return [out.outputIndices as tf.Tensor, out.outputValues as tf.Tensor, out.emptyRowIndicator as tf.Tensor, out.reverseIndexMap as tf.Tensor]; }],
      ['to dense', () => tf.sparseToDense(indices(), values.make(), shape as [number], tf.scalar(1, values.dtype))],
    ];
    if ((tuples[0] as number) >= 0 && (tuples[0] as number) < 9) ops.push(['reshape', () => { const out = tf.sparse.sparseReshape(indices(), ints(shape), ints(to)); return [out.outputIndices as tf.Tensor, out.outputShape as tf.Tensor]; }]);
    const [name, f] = d.pick(ops);
    return [`${name} ${shape} ${values.label} ${tuples} ${to}`, f];
  });

  // counts are exact, weights add up to 100 values below 8
  family('counting and searching', 1e-5, (d) => {
    const [rows, n] = [1 + d.integer(4), d.size(20, 300)];
    const x = d.tensor({ shape: [rows, n], dtype: 'int32', small: true });
    const weights = d.tensor({ shape: [rows, n], dtype: d.pick(['float32', 'int32'] as const) });
    const size = 1 + d.integer(4);
    const dtype = d.pick(['float32', 'int32'] as const);
    const sorted = numbers(rows, () => 0).flatMap(() => numbers(n, () => d.integer(20) / (dtype === 'int32' ? 1 : 4)).sort((a, b) => a - b));
    const wanted = d.tensor({ shape: [rows, d.size(6)], dtype, special: true });
    const some = (): tf.Tensor => (d.keep ? weights.make() : tf.tensor([]));
    const flat = (t: tf.Tensor): tf.Tensor1D => tf.reshape(t, [-1]);
    const ops: [string, () => tf.Tensor | tf.Tensor[]][] = [
      ['bincount', () => tf.bincount(flat(x.make()), flat(some()), size)],
      ['dense bincount', () => tf.denseBincount(x.make() as tf.Tensor2D, d.keep ? (weights.make() as tf.Tensor2D) : tf.tensor2d([], [0, 0]), size, rows % 2 === 0)],
      ['searchSorted', () => tf.searchSorted(tf.tensor2d(sorted, [rows, n], dtype), wanted.make(), d.keep ? 'left' : 'right')],
      ['of a negative number', () => tf.bincount(ints([1, -1]), tf.tensor1d([]), 3)],
    ];
    const [name, f] = d.pick(ops);
    return [`${name} ${x.label} ${weights.label} ${size}`, f];
  });

  family('unique slices', 0, (d) => {
    const x = d.tensor({ minRank: 1, maxRank: 4, empty: false, special: d.chance(0.3), small: true });
    const axis = d.integer(x.shape.length);
    const repeats = numbers(3 + d.size(6, 200), () => d.integer(x.shape[axis] as number));
    return [`${x.label} along ${axis}`, () => Object.values(tf.unique(tf.gather(x.make(), ints(repeats), axis), axis))];
  });

  // float ranges: the cpu backend adds up float32 steps, up to 100 of them
  family('ranges, diagonals and draws', 2e-5, (d) => {
    const [start, stop, step] = [d.integer(20) - 10, d.integer(20) - 10, d.pick([1, -1, 0.5, 0.3, 2, -0.25])];
    const dtype = d.pick(['float32', 'float32', 'int32'] as const);
    const x = d.tensor({ minRank: 1, maxRank: 3 });
    const logits = d.tensor({ shape: [1 + d.integer(4), 2 + d.size(6, 100)], dtype: 'float32' });
    const samples = d.size(20, 2000);
    const ops: [string, () => tf.Tensor][] = [
      ['range', () => tf.range(start, stop, step, dtype)],
      ['linspace', () => tf.linspace(start, stop, 1 + Math.abs(stop))],
      ['diag', () => tf.diag(x.make())],
      ['fill', () => tf.fill(x.shape, d.keep ? NaN : -Infinity, 'float32')],
      ['multinomial', () => tf.multinomial(logits.make() as tf.Tensor2D, samples, start + 0.5)],
      ['multinomial of probabilities', () => tf.multinomial(tf.softmax(logits.make()) as tf.Tensor2D, samples, stop + 0.25, true)],
    ];
    const [name, f] = d.pick(ops);
    return [`${name} ${start} ${stop} ${step} ${dtype} ${x.label} ${logits.label} ${samples}`, f];
  });
});

describe('lists of indices at sizes where work is shared out', () => {
  beforeAll(async () => {
    await tf.setBackend(OWN_BACKEND);
  });
  it('a long row is counted piece by piece', () => {
    const n = 300_000;
    const x = Int32Array.from({ length: n }, (_, i) => (i * 7919) % 10);
    expect([...tf.bincount(tf.tensor1d(x), tf.tensor1d([]), 10).dataSync()]).toEqual(new Array(10).fill(n / 10));
  });
  it('many slices are told apart', () => {
    const x = Int32Array.from({ length: 100_000 }, (_, i) => (i * 7919) % 5003);
    const { values, indices } = tf.unique(tf.tensor1d(x));
    expect(values.shape).toEqual([5003]);
    expect(tf.gather(values, indices as tf.Tensor1D).dataSync()).toEqual(x);
  });
});
