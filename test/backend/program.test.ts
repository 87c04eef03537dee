import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { CPU_BACKEND, type NativeBackend } from '../../ts/backend';
import { RecordedFunction } from '../../ts/backend/program';
import { loadAddon } from '../../ts/native';
import { layerNorm, linear } from '../../ts/ops';

let backend: NativeBackend;

beforeAll(async () => {
  await tf.setBackend(CPU_BACKEND);
  backend = tf.backend() as NativeBackend;
});

const values = (n: number, seed: number): Float32Array => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 0.7 + seed));

describe('a recorded function', () => {
  it('replays with the bits of eager runs, from inputs changed in place, off the event loop', async () => {
    const x = tf.keep(tf.tensor(values(64 * 32, 0), [64, 32]));
    const [w, b, gamma, beta] = [tf.tensor(values(48 * 32, 1), [48, 32]), tf.tensor(values(48, 2)), tf.tensor(values(48, 3)), tf.tensor(values(48, 4))];
    const body = (): tf.Tensor[] => [layerNorm(linear(x, w, b, { activation: 'gelu' }), gamma, beta, 1e-5)];
    const step = new RecordedFunction('test', backend, body);
    for (let run = 0; run < 5; run++) {
      backend.writeInto(x, values(64 * 32, run));
      const eager = tf.tidy(() => (body()[0] as tf.Tensor).dataSync().slice());
      const [y] = await step.run();
      expect(step.recorded).toBe(run > 0);
      expect((y as tf.Tensor).dataSync()).toEqual(eager);
    }
    expect(step.describe().split('\n').filter(Boolean).map((line) => line.split(' ')[0])).toEqual(['linear', 'layer_norm']);
    step.dispose();
    tf.dispose([x, w, b, gamma, beta]);
  });

  it('refuses what a program cannot hold, and leaves nothing half recorded', async () => {
    const x = tf.tensor1d([1, 2, 3]);
    const reading = new RecordedFunction('reading', backend, () => [tf.mul(x, tf.add(x, 1).dataSync()[0] as number)]);
    await reading.run();
    await expect(reading.run()).rejects.toMatchObject({ code: 'not_recordable', op: 'reading' });
    const leaking = new RecordedFunction('leaking', backend, () => [tf.keep(tf.add(x, 1)), tf.add(x, 2)].slice(1));
    await leaking.run();
    await expect(leaking.run()).rejects.toThrow(/1 tensors created while recording outlive it/);
    expect(tf.add(x, 1).dataSync()).toEqual(Float32Array.of(2, 3, 4));
    expect(loadAddon().stats().live).toBeGreaterThan(0);
  });
});
