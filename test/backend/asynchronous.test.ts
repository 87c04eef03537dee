import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import '../../ts/backend';
import { loadAddon } from '../../ts/native';

// Read by the addon when it is loaded, which is at the first use of the backend.
vi.hoisted(() => (process.env.SIMMIM_EAGER = 'deferred'));

describe('data() with SIMMIM_EAGER=deferred', () => {
  beforeAll(async () => {
    await tf.setBackend('simmim-cpu');
  });

  it('leaves the event loop running while queued products finish, and gives their values', async () => {
    const a = tf.fill([1024, 1024], 0.5);
    let y: tf.Tensor = a;
    for (let i = 0; i < 12; i++) y = tf.mul(tf.matMul(y, a), 1 / 512);
    expect(loadAddon().busy()).toBe(true);
    let turns = 0;
    const clock = setInterval(() => turns++, 1);
    const values = await y.data();
    clearInterval(clock);
    expect(turns).toBeGreaterThan(0);
    // 0.5 * 0.5 * 1024 / 512 = 0.5, exactly
    expect(values.every((v) => v === 0.5)).toBe(true);
  });

  it('memory given back while work is queued goes to work behind it', async () => {
    const a = tf.fill([512, 1024], 1);
    let sum: tf.Tensor = tf.zeros([512, 1024]);
    for (let i = 1; i <= 200; i++) {
      const next = tf.add(sum, tf.mul(a, tf.scalar(i)));
      sum.dispose();
      sum = next;
    }
    const later = sum.data();
    sum.dispose();
    const other = tf.fill([512, 1024], 7);
    expect((await later).every((v) => v === (200 * 201) / 2)).toBe(true);
    expect(other.dataSync().every((v) => v === 7)).toBe(true);
  });

  it('dataSync and small kernels see finished work', () => {
    const a = tf.fill([1024, 1024], 2);
    expect(tf.sum(tf.slice(tf.add(a, a), [0, 0], [1, 4])).dataSync()[0]).toBe(16);
    expect(tf.gather(tf.add(a, a), tf.tensor1d([3], 'int32')).dataSync()[0]).toBe(4);
  });
});
