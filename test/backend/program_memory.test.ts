import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { CPU_BACKEND, type NativeBackend } from '../../ts/backend';
import { RecordedFunction } from '../../ts/backend/program';
import { DTYPE_NUMBER, loadAddon } from '../../ts/native';

beforeAll(() => tf.setBackend(CPU_BACKEND));

const MIB = 2 ** 20;
/** Under AddressSanitizer every block is one of the system's, so that what lies beside it can be watched. */
const sanitized = process.env.LD_PRELOAD?.includes('asan') ?? false;

it.skipIf(sanitized)('a program takes hardly more memory than is alive at a time, whatever the sizes of its temporaries', async () => {
  // No two temporaries have the same size: 380 MiB in all, 66 MiB at a time.
  const x = tf.keep(tf.fill([1 << 19], -1));
  const body = (): tf.Tensor[] => {
    let sum: tf.Tensor = tf.fill([], 0);
    for (let mebi = 3; mebi <= 11; mebi++) sum = tf.add(sum, tf.tidy(() => tf.max(tf.relu(tf.neg(tf.concat(new Array<tf.Tensor>(mebi).fill(x)))))));
    return [sum];
  };
  const program = new RecordedFunction('sizes', tf.backend() as NativeBackend, body);
  loadAddon().trim();
  const before = loadAddon().stats().live;
  for (let run = 0; run < 3; run++) {
    const [y] = await program.run();
    expect((y as tf.Tensor).dataSync()[0]).toBe(9);
  }
  const held = loadAddon().stats().live - before; // a program holds all of its arena
  expect(held).toBeGreaterThanOrEqual(66 * MIB);
  expect(held).toBeLessThan(100 * MIB); // in chunks of 32 MiB
  program.dispose();
  x.dispose();
  expect(loadAddon().stats().live).toBeLessThan(before);
});

it.skipIf(sanitized)('large blocks that were given back are one again, and pieces of one serve smaller tensors', () => {
  const addon = loadAddon();
  addon.trim();
  const start = addon.stats();
  const allocate = (mebi: number): number => addon.allocate(DTYPE_NUMBER.f32, (mebi * MIB) / 4);
  const made = (): number => addon.stats().systemAllocations - start.systemAllocations;
  const eight = [8, 8, 8, 8].map(allocate);
  expect(made()).toBe(1);
  expect(addon.stats().live - start.live).toBe(32 * MIB);
  // Freed in an order in which each has free neighbours on no, one and both sides.
  for (const i of [1, 3, 0, 2]) addon.release(eight[i] as number);
  const whole = allocate(32);
  expect(made()).toBe(1);
  addon.release(whole);
  const pieces = [20, 1, 11].map(allocate);
  expect(made()).toBe(1);
  pieces.forEach((handle) => addon.release(handle));
  const large = allocate(40); // larger than a chunk: memory of its own
  expect(made()).toBe(2);
  addon.release(large);
  expect(addon.stats().live).toBe(start.live);
  addon.trim();
  expect(addon.stats().cached).toBe(0);
});
