import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { firstBitDifference } from '../helpers/compare';
import { activate, nativeDevices } from '../helpers/devices';

// Results of more than 4 MiB are stored past the caches (native/cpu/stream.h), those of each half are not: element by element
// both are the same.
const ROWS = 8250;
const OPS: [string, number, (x: tf.Tensor, y: tf.Tensor, row: tf.Tensor, column: tf.Tensor) => tf.Tensor][] = [
  ['relu', 128, (x) => tf.relu(x)],
  ['exp of rows that are no whole cache lines', 131, (x) => tf.exp(x)],
  ['add', 128, (x, y) => tf.add(x, y)],
  ['division by rows that are no whole cache lines', 131, (x, y) => tf.div(x, y)],
  ['maximum with a scalar', 128, (x) => tf.maximum(x, 0.25)],
  ['a scalar minus', 128, (x) => tf.sub(0.25, x)],
  ['times one row', 128, (x, _, row) => tf.mul(x, row)],
  ['plus one column', 144, (x, _y, _row, column) => tf.add(column, x)],
  ['cast to integers, some too large', 128, (x) => tf.cast(tf.mul(x, 1e9), 'int32')],
];

/** Floats around the ends of int32 among 16 n that fit. */
function oddFloats(n: number): Float32Array {
  const odd = [NaN, Infinity, -Infinity, 2147483648, -2147483648, -2147483904, 4294967296, 3e9, -3e9, 1e20, -0.9, 1.9, 2147483520];
  return Float32Array.from({ length: 16 * n }, (_, i) => (i % 16 === (i >> 4) % 16 && i % 3 === 0 ? (odd[(i >> 4) % odd.length] as number) : i - 7.5));
}

describe.each(nativeDevices())('$name', (device) => {
  test.each(OPS)('%s: a large result is that of its halves, bit by bit', async (_, width, op) => {
    await activate(device);
    tf.tidy(() => {
      const [x, y, row, column] = [tf.randomNormal([ROWS, width], 0, 1, 'float32', 1), tf.randomNormal([ROWS, width], 0, 1, 'float32', 2), tf.randomNormal([width], 0, 1, 'float32', 3), tf.randomNormal([ROWS, 1], 0, 1, 'float32', 4)];
      const whole = op(x, y, row, column);
      expect(whole.size * 4).toBeGreaterThan(4 * 2 ** 20);
      const half = ROWS / 2;
      const halves = [0, half].map((from) => op(...([x, y].map((t) => tf.slice(t as tf.Tensor2D, [from, 0], [half, width])) as [tf.Tensor, tf.Tensor]), row, tf.slice(column as tf.Tensor2D, [from, 0], [half, 1])));
      const joined = halves.map((t) => t.dataSync() as Float32Array);
      const values = whole.dataSync() as Float32Array;
      joined.forEach((part, i) => expect(firstBitDifference(values.slice(i * part.length, (i + 1) * part.length), part)).toBeNull());
    });
  });

  test.each([1, 40, 70_000])('floats become the integers that JavaScript makes of them: %i times 16', async (n) => {
    await activate(device);
    const x = oddFloats(n);
    const [cast, wanted] = [tf.tidy(() => tf.cast(tf.tensor1d(x), 'int32').dataSync()), new Int32Array(x)];
    expect(firstBitDifference(cast as Int32Array, wanted)).toBeNull();
  });
});
