import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CUDA_BACKEND, type NativeBackend } from '../../ts/backend';
import { RecordedFunction } from '../../ts/backend/program';
import { inspectCuda, loadAddon } from '../../ts/native';

// What a real device cannot be asked to do on purpose: the emulation runs out of memory and gets lost when told to.
const emulated = inspectCuda().devices[0]?.strict === true;
let backend: NativeBackend;

beforeAll(async () => {
  await tf.setBackend(CUDA_BACKEND);
  backend = tf.backend() as NativeBackend;
});
afterAll(() => {
  delete process.env.SIMMIM_EMULATION_MEMORY;
  delete process.env.SIMMIM_EMULATION_LOSE;
});

test.each([1, 2])('a failing allocation number %i of a call leaves nothing behind', (n) => {
  const x = tf.tensor1d([1, 2, 3]);
  tf.tidy(() => void tf.exp(x).dataSync());
  const before = loadAddon().stats(backend.device);
  loadAddon().failAllocationAt(n, backend.device);
  expect(() => tf.tidy(() => tf.topk(x, 2))).toThrow(/out_of_memory|failed \(test hook\)/);
  loadAddon().failAllocationAt(0, backend.device);
  const after = loadAddon().stats(backend.device);
  expect([after.live, after.handles]).toEqual([before.live, before.handles]);
  x.dispose();
});

describe.skipIf(!emulated)('on the emulation', () => {
  test('out of memory is an error that says how much was asked for, and frees the way for the next call', () => {
    process.env.SIMMIM_EMULATION_MEMORY = String(1 << 20);
    const error = (() => {
      try {
        tf.tidy(() => tf.tile(tf.tensor1d([1]), [1 << 20]));
      } catch (e) {
        return e;
      }
      return undefined;
    })();
    expect(error).toMatchObject({ code: 'out_of_memory', message: expect.stringMatching(/no 4194304 bytes are left on cuda:0 \(\d+ bytes are live\)/) as string });
    expect([...tf.tidy(() => tf.add(tf.tensor1d([1]), 1).dataSync())]).toEqual([2]);
  });

  // The last test of the file: the device stays lost.
  test('a lost device is named with the call that lost it, then and in every later call', async () => {
    const x = tf.tensor1d([1, 2, 3]);
    const step = new RecordedFunction('step', backend, () => [tf.mul(x, 2)]);
    await step.run();
    await step.run();
    expect(step.recorded).toBe(true);
    process.env.SIMMIM_EMULATION_LOSE = '1';
    const reason = /cudaErrorIllegalAddress: an illegal memory access was encountered \(emulated\) \(kernel launch at (native\/)?kernels\/unary\.cu:\d+\) \(in unary\)/;
    expect(() => tf.exp(x)).toThrow(reason);
    for (const call of [() => tf.exp(x), () => x.dataSync(), () => tf.square(tf.tensor1d([1])), () => backend.writeInto(x, Float32Array.of(1))]) {
      expect(call).toThrow(/the device was lost earlier, the process must be started again: cudaErrorIllegalAddress/);
    }
    await expect(step.run()).rejects.toMatchObject({ code: 'device_lost' });
    await expect(x.data()).rejects.toMatchObject({ code: 'device_lost' });
    await tf.setBackend('simmim-cpu'); // which goes on
    expect([...tf.tidy(() => tf.add(tf.tensor1d([1]), 1).dataSync())]).toEqual([2]);
    await tf.setBackend(CUDA_BACKEND);
    x.dispose();
    step.dispose();
  });
});
