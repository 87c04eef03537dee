import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadAddon } from '../../ts/native';
import { inStorage, linear, storageOf } from '../../ts/ops';
import { toBf16 } from '../helpers/compare';
import { activate, allocated, COMPOSED } from '../helpers/devices';

const VALUES = [1, -1.00390625, 1.0078125, 3.14159265, -0, 1e-39, 65504, 1e38, -Infinity];

describe('in_storage on simmim-cpu', () => {
  let before: Record<string, number> = {};
  beforeAll(async () => {
    await activate({ name: '', backend: 'simmim-cpu' });
    before = allocated();
  });
  afterAll(() => expect(allocated()).toEqual(before));

  test('rounds to nearest even, reads widen, and the logical dtype stays float32', async () => {
    const x = tf.tensor1d(VALUES);
    const half = inStorage(x, 'bf16');
    expect([half.dtype, storageOf(half), storageOf(x)]).toEqual(['float32', 'bf16', 'f32']);
    expect(Array.from(half.dataSync())).toEqual(VALUES.map(toBf16));
    expect(Array.from(await half.data())).toEqual(VALUES.map(toBf16));
    const wide = inStorage(half, 'f32');
    expect([storageOf(wide), ...wide.dataSync()]).toEqual(['f32', ...VALUES.map(toBf16)]);
    tf.dispose([x, half, wide]);
  });

  test('where nothing changes it is the same memory, and `copy` is used as it is', () => {
    const x = tf.tensor1d([1, 2, 3]);
    const same = inStorage(x, 'f32');
    expect(same.dataId).toBe(x.dataId);
    const copy = tf.tidy(() => inStorage(tf.mul(x, 2), 'bf16'));
    const used = inStorage(x, 'bf16', copy);
    expect([used.dataId === copy.dataId, ...used.dataSync()]).toEqual([true, 2, 4, 6]);
    tf.dispose([x, same, copy, used]);
  });

  test('the gradient is stored as the input is', () => {
    tf.tidy(() => {
      const x = tf.tensor2d([[1, 2], [3, 4]]);
      const dy = tf.tensor2d([[1, 0.5], [2, 1]]);
      const toHalf = tf.grad((t: tf.Tensor) => inStorage(t, 'bf16'))(x, inStorage(dy, 'bf16'));
      expect([storageOf(toHalf), ...toHalf.dataSync()]).toEqual(['f32', 1, 0.5, 2, 1]);
      const toFloat = tf.grad((t: tf.Tensor) => inStorage(t, 'f32'))(inStorage(x, 'bf16'), dy);
      expect([storageOf(toFloat), ...toFloat.dataSync()]).toEqual(['bf16', 1, 0.5, 2, 1]);
    });
  });

  test('movements pass bf16 on; a kernel that reads f32 alone gets a copy, and that is counted', () => {
    tf.tidy(() => {
      const x = inStorage(tf.tensor2d([[1, 2, 3], [4, 5, 6]]), 'bf16');
      const start = loadAddon().stats().widenings;
      const moved = [tf.transpose(x), tf.concat([x, x], 1), tf.slice(x, [0, 1], [2, 2]), tf.pad(x, [[1, 0], [0, 1]]), tf.tile(x, [1, 2]), tf.reverse(x, 1), tf.reshape(x, [3, 2]), tf.clone(x)];
      expect(moved.map(storageOf)).toEqual(moved.map(() => 'bf16'));
      expect(Array.from(moved[3]!.dataSync())).toEqual([0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0]);
      expect(storageOf(tf.concat([x, tf.ones([2, 1])], 1))).toBe('f32');
      expect(Array.from(tf.cast(x, 'int32').dataSync())).toEqual([1, 2, 3, 4, 5, 6]);
      expect(loadAddon().stats().widenings).toBe(start);
      expect(Array.from(tf.add(x, 1).dataSync())).toEqual([2, 3, 4, 5, 6, 7]);
      expect(loadAddon().stats().widenings).toBe(start + 1);
    });
  });

  test('weights and activations of different storage are refused with their names', () => {
    tf.tidy(() => {
      expect(() => linear(inStorage(tf.ones([2, 3]), 'bf16'), tf.ones([4, 3]), null)).toThrow('linear: weight is f32, expected bf16 as x');
    });
  });
});

test('elsewhere it is the identity', async () => {
  await activate(COMPOSED);
  tf.tidy(() => {
    const half = inStorage(tf.tensor1d([1.00390625]), 'bf16');
    expect([storageOf(half), ...half.dataSync()]).toEqual(['f32', 1.00390625]);
    expect(() => inStorage(half, 'f16' as never)).toThrow("in_storage: storage is 'f16', expected 'f32' or 'bf16'");
  });
});
