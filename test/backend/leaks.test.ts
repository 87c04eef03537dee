import * as tf from '@tensorflow/tfjs-core';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeAll, describe, expect, it } from 'vitest';
import '../../ts/backend';
import { loadAddon } from '../../ts/native';
import { KERNEL_CALLS } from './kernel_calls';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const turn = (): Promise<void> => new Promise((done) => setTimeout(done, 5));

describe('nothing stays behind', () => {
  beforeAll(async () => {
    await tf.setBackend('simmim-cpu');
    tf.env().set('IS_TEST', true); // tfjs looks as well, after each kernel
  });
  const stats = (): ReturnType<ReturnType<typeof loadAddon>['stats']> => loadAddon().stats();

  for (const [name, call] of Object.entries(KERNEL_CALLS)) {
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
      // Host values of queued calls go to memory that no unfinished call uses, more or less of it as the threads run.
      if (process.env.SIMMIM_QUEUE_FROM !== '0') expect(after.live + after.cached).toBe(before.live + before.cached);
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
  beforeAll(() => tf.env().set('IS_TEST', false)); // tensors that move look like leaks

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
