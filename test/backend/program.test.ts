import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { NativeBackend } from '../../ts/backend';
import { RecordedFunction } from '../../ts/backend/program';
import { loadAddon } from '../../ts/native';
import { linear } from '../../ts/ops';
import { lacking, OWN_BACKEND } from '../helpers/devices';

let backend: NativeBackend;

beforeAll(async () => {
  await tf.setBackend(OWN_BACKEND);
  backend = tf.backend() as NativeBackend;
});

const values = (n: number, seed: number): Float32Array => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 0.7 + seed));

describe('a recorded function', () => {
  it('replays with the bits of eager runs, from inputs changed in place, off the event loop', async () => {
    const x = tf.keep(tf.tensor(values(64 * 32, 0), [64, 32]));
    const [w, b] = [tf.tensor(values(48 * 32, 1), [48, 32]), tf.tensor(values(48, 2))];
    const body = (): tf.Tensor[] => [tf.softmax(linear(x, w, b, { activation: 'gelu' }))];
    const step = new RecordedFunction('test', backend, body);
    for (let run = 0; run < 5; run++) {
      backend.writeInto(x, values(64 * 32, run));
      const eager = tf.tidy(() => (body()[0] as tf.Tensor).dataSync().slice());
      const [y] = await step.run();
      expect(step.recorded).toBe(run > 0);
      expect((y as tf.Tensor).dataSync()).toEqual(eager);
    }
    expect(step.describe().split('\n').filter(Boolean).map((line) => line.split(' ')[0])).toEqual(['linear', 'softmax']);
    step.dispose();
    tf.dispose([x, w, b]);
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
    expect(loadAddon().stats(backend.device).live).toBeGreaterThan(0);
  });

  it('keeps constants out of the memory in which calls before them have had temporaries', async () => {
    const x = tf.keep(tf.tensor(values(16, 0)));
    // exp's result is freed before the constant 3 is uploaded, so that it would find its place free.
    const body = (): tf.Tensor[] => {
      const small = tf.exp(x);
      const sum = tf.sum(small);
      small.dispose();
      return [tf.mul(sum, tf.tensor(values(16, 3)))];
    };
    const step = new RecordedFunction('constants', backend, body);
    for (let run = 0; run < 4; run++) {
      backend.writeInto(x, values(16, run));
      const eager = tf.tidy(() => (body()[0] as tf.Tensor).dataSync().slice());
      expect(((await step.run())[0] as tf.Tensor).dataSync()).toEqual(eager);
    }
    step.dispose();
    x.dispose();
  });

  it('counts host values in sum, and names a kernel that runs in JavaScript', async () => {
    const x = tf.keep(tf.tensor(values(600, 0)));
    const constants = new RecordedFunction('constants', backend, () => [tf.add(tf.add(x, tf.tensor(values(600, 1))), tf.tensor(values(600, 2)))]);
    await constants.run();
    await expect(constants.run()).rejects.toThrow(/^constants: upload: 4800 bytes of host values would be frozen into the program, the last 2400 of them here \(at most 4096\): pass them as an input$/);
    const shape = tf.keep(tf.neg(tf.tensor1d([-3, -1], 'int32')));
    const script = new RecordedFunction('script', backend, () => [tf.broadcastArgs(shape, shape)]);
    await script.run();
    await expect(script.run()).rejects.toThrow('script: BroadcastArgs: runs in JavaScript on host values');
    shape.dispose();
    x.dispose();
  });

  it.skipIf(lacking('unique'))('names a kernel whose result has a shape that depends on values', async () => {
    const x = tf.keep(tf.tensor(values(600, 0)));
    const counted = new RecordedFunction('counted', backend, () => [tf.unique(x).values]);
    await counted.run();
    await expect(counted.run()).rejects.toThrow('counted: Unique: the shape of its result depends on values');
    x.dispose();
  });

  it('refuses a copy on the host of what it would change', async () => {
    const x = tf.keep(tf.tensor1d([3, 1, 2], 'int32'));
    backend.writeInto(x, Int32Array.of(3, 1, 2));
    const cached = new RecordedFunction('cached', backend, () => [tf.mul(tf.broadcastArgs(x, x), 2)]); // its first run leaves a copy of x on the host
    await cached.run();
    await expect(cached.run()).rejects.toMatchObject({ code: 'not_recordable' });
    x.dispose();
  });

  it('keeps no copy on the host of what replays change', async () => {
    const x = tf.keep(tf.tensor1d([3, 1], 'int32'));
    const next = new RecordedFunction('next', backend, () => [tf.add(x, tf.onesLike(x))], { inputs: () => ({ x }) });
    for (let run = 0; run < 4; run++) {
      backend.writeInto(x, Int32Array.of(run, run));
      const [y] = (await next.run()) as [tf.Tensor];
      expect([...tf.tidy(() => tf.broadcastArgs(y, y).dataSync())]).toEqual([run + 1, run + 1]); // a kernel that runs in JavaScript
    }
    next.dispose();
    x.dispose();
  });

  it('guards the tensors it was recorded with', async () => {
    let x = tf.keep(tf.tensor(values(8, 0)));
    const state = tf.variable(tf.tensor(values(8, 1)));
    const step = new RecordedFunction('guarded', backend, () => [tf.mul(x, state)], { inputs: () => ({ x }), state: () => ({ state }) });
    for (let run = 0; run < 3; run++) await step.run();
    state.assign(tf.tensor(values(8, 2)));
    await expect(step.run()).rejects.toThrow("guarded: 'state' is another tensor since the function was recorded: its values must be changed in place");
    step.dispose();
    for (let run = 0; run < 3; run++) await step.run();
    x.dispose();
    await expect(step.run()).rejects.toThrow("guarded: 'x' was disposed since the function was recorded");
    x = tf.keep(tf.tensor(values(8, 0)));
    step.dispose();
    await step.run();
    step.dispose();
    tf.dispose([x, state]);
  });

  it('keeps the order of writes, replays and reads that are asked for without waiting', async () => {
    const x = tf.keep(tf.tensor(values(1 << 15, 0)));
    const step = new RecordedFunction('order', backend, () => [tf.mul(x, 2)]);
    await step.run();
    const [output] = await step.run();
    const large = [0, 1, 2, 3].map((seed) => values(1 << 15, seed));
    const read: Promise<Float32Array>[] = [];
    for (const part of large) {
      void backend.writeLater(x, part);
      backend.writeInto(x, Float32Array.of(part[5] as number), 0); // small, copied aside: after the large one
      void step.run();
      read.push((output as tf.Tensor).data<'float32'>());
    }
    (await Promise.all(read)).forEach((got, i) => {
      const wanted = (large[i] as Float32Array).map((v) => 2 * v);
      wanted[0] = 2 * (large[i]?.[5] as number);
      expect(got).toEqual(wanted);
    });
    step.dispose();
    x.dispose();
  });

  it('finds, when asked to check itself, that a replay differs', async () => {
    const x = tf.keep(tf.tensor(values(8, 0)));
    let hidden = 1; // frozen into the program
    const step = new RecordedFunction('impure', backend, () => [tf.mul(x, hidden)]);
    for (let run = 0; run < 3; run++) await step.run();
    hidden = 2;
    process.env.SIMMIM_CHECK_PROGRAM = '1';
    try {
      await expect(step.run()).rejects.toThrow(/^impure: the replay differs from the eager run: element \d+ of output 0 is/);
    } finally {
      delete process.env.SIMMIM_CHECK_PROGRAM;
    }
    step.dispose();
    x.dispose();
  });
});
