import * as tf from '@tensorflow/tfjs-core';
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import '../../ts/backend';
import type { NativeBackend } from '../../ts/backend';
import { RecordedFunction } from '../../ts/backend/program';
import { loadAddon } from '../../ts/native';

const root = resolve(__dirname, '../..');
const MIB = 2 ** 20;
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Sums of `n` products of a constant matrix: work that lasts, whose values are known. */
function products(n: number, size = 512): tf.Tensor {
  return tf.tidy(() => {
    const a = tf.fill([size, size], 0.5);
    let y: tf.Tensor = a;
    for (let i = 0; i < n; i++) y = tf.mul(tf.matMul(y, a), 2 / size); // 0.5 * 0.5 * size * 2 / size = 0.5, exactly
    return y;
  });
}

beforeEach(async () => {
  await tf.setBackend('simmim-cpu');
  loadAddon().queueFrom(2 * MIB);
});
afterEach(() => loadAddon().join());

describe('queued calls leave the event loop running', () => {
  it('while a product and a convolution take their time', async () => {
    const begin = performance.now();
    let [last, gap, ticks] = [begin, 0, 0];
    const note = (): void => {
      const now = performance.now();
      [last, gap] = [now, Math.max(gap, now - last)];
    };
    const clock = setInterval(() => (note(), ticks++), 2);
    const product = tf.matMul(tf.fill([2048, 2048], 0.5), tf.fill([2048, 2048], 0.25));
    const image = tf.conv2d(tf.ones([8, 64, 64, 64]) as tf.Tensor4D, tf.ones([3, 3, 64, 64]) as tf.Tensor4D, 1, 'valid');
    const chain = products(20);
    const asked = performance.now() - begin;
    expect(loadAddon().busy()).toBe(true);
    const values = await Promise.all([product.data(), image.data(), chain.data()]);
    note();
    clearInterval(clock);
    const whole = last - begin;
    expect(values.map((list) => new Set(list))).toEqual([new Set([256]), new Set([576]), new Set([0.5])]);
    expect(asked, `of ${whole} ms`).toBeLessThan(whole / 3);
    expect(ticks).toBeGreaterThan(5);
    expect(gap, `of ${whole} ms`).toBeLessThan(whole / 2);
  });

  it('not when the threshold says so', () => {
    loadAddon().queueFrom(Infinity);
    products(2);
    expect(loadAddon().busy()).toBe(false);
    expect(() => loadAddon().queueFrom(-1)).toThrow('queueFrom: units is -1, expected a number of at least 0');
  });

  it('small calls are done at once, unless larger ones are under way', () => {
    tf.add(tf.tensor1d([1]), tf.tensor1d([2]));
    expect(loadAddon().busy()).toBe(false);
    products(20);
    const sum = tf.add(tf.tensor1d([1]), tf.tensor1d([2]));
    expect(loadAddon().busy()).toBe(true);
    expect(sum.dataSync()).toEqual(Float32Array.of(3));
    expect(loadAddon().busy()).toBe(false);
  });
});

describe('values and their order', () => {
  for (const from of [0, MIB])
    it(`are those of calls done at once, queued from ${from}`, async () => {
      const run = (): tf.Tensor[] => tf.tidy(() => {
        const x = tf.reshape(tf.range(0, 120_000), [300, 400]);
        const y = tf.softmax(tf.matMul(tf.sin(x), tf.cos(x), false, true));
        const top = tf.topk(y, 3);
        const picked = tf.gather(y, tf.argMax(tf.sum(tf.matMul(y, y), 1), 0));
        const kept = tf.gather(x, tf.tensor1d([5, 0], 'int32'), 1);
        return [y, top.values, top.indices, picked, kept, tf.cast(tf.greater(y, 0.002), 'int32'), tf.complex(tf.sin(x), x)];
      });
      loadAddon().queueFrom(Infinity);
      const wanted = run().map((t) => t.dataSync());
      loadAddon().queueFrom(from);
      const bits = (list: tf.TypedArray[]): Buffer[] => list.map((v) => Buffer.from(v.buffer, v.byteOffset, v.byteLength));
      const alike = (list: tf.TypedArray[]): boolean[] => bits(list).map((bytes, i) => bytes.equals(bits(wanted)[i] as Buffer));
      expect(alike(await Promise.all(run().map((t) => t.data())))).toEqual(wanted.map(() => true));
      expect(alike(run().map((t) => t.dataSync()))).toEqual(wanted.map(() => true));
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

  it('reads fill buffers of their own, which nobody can take away before they are full', async () => {
    const addon = loadAddon();
    const floats = addon.upload(0, Float32Array.of(1, -2, 3.5), 3);
    const halves = addon.upload(3, Uint8Array.of(0x80, 0x3f, 0x00, 0xc0), 2); // bf16
    products(20);
    const reads = Array.from({ length: 100 }, (_, i) => addon.readLater(i % 2 ? floats : halves, 2));
    expect(() => addon.readLater(floats, new Float32Array(2) as never)).toThrow('readLater: count is -1, expected an integer >= 0');
    expect(() => addon.readLater(floats, 4)).toThrow('readLater: 4 values wanted from a storage of 3');
    addon.release(floats);
    addon.release(halves);
    expect(addon.busy()).toBe(true);
    collect();
    const [first, ...others] = await Promise.all(reads) as [ArrayBuffer, ...ArrayBuffer[]];
    for (const buffer of others) expect([...new Float32Array(buffer)]).toEqual([1, -2]);
    const moved = structuredClone(first, { transfer: [first] });
    expect([moved.byteLength, first.byteLength]).toEqual([8, 0]);
  });

  it('host values uploaded meanwhile do not reach the calls before them', async () => {
    const size = 2 ** 19;
    const sums: Promise<Float32Array>[] = [];
    for (let i = 0; i < 40; i++)
      tf.tidy(() => {
        const x = tf.tensor1d(new Float32Array(size).fill(i));
        sums.push(tf.sum(tf.add(x, x)).data<'float32'>());
      });
    expect((await Promise.all(sums)).map(([sum]) => sum)).toEqual(sums.map((_, i) => 2 * i * size)); // a small number times a power of 2: exact
  });

  it('recorded programs run between the calls around them', async () => {
    const x = tf.keep(tf.variable(tf.fill([1024, 1024], 0.5)));
    const backend = tf.backend() as NativeBackend;
    const step = new RecordedFunction('between', backend, () => [tf.mul(x, 2)]);
    for (let run = 0; run < 2; run++) await step.run();
    const before = products(4);
    backend.writeInto(x, Float32Array.of(3)); // behind them
    const run = step.run();
    const after = tf.add(tf.slice(products(2), [0, 0], [1, 2]), tf.slice((await run)[0] as tf.Tensor, [0, 0], [1, 2]));
    expect([...(await after.data())]).toEqual([6.5, 1.5]);
    expect((await before.data())[7]).toBe(0.5);
    step.dispose();
    x.dispose();
  });
});

describe('errors', () => {
  it('of arguments are thrown by the call, whatever is queued', () => {
    products(20);
    expect(() => tf.matMul(tf.ones([2, 3]), tf.ones([2, 3]))).toThrow(/inner shapes|inner dimensions/i);
    expect(() => tf.gather(tf.ones([4, 2]), tf.tensor1d([1, 9], 'int32'))).toThrow(/the index value 9 /);
    expect(loadAddon().busy()).toBe(true);
  });

  it('of values that were still being computed come with the tensor and what depends on it', async () => {
    const index = tf.cast(tf.add(tf.slice(products(20), [0, 0], [1, 2]), 9), 'int32');
    const x = tf.ones([4, 2]);
    const bad = tf.gather(x, index);
    const dependent = tf.add(tf.sum(bad), tf.gather(tf.ones([9]), tf.cast(bad, 'int32')));
    const good = tf.mul(x, 3);
    expect(loadAddon().busy()).toBe(true);
    const failure = { name: 'SimmimError', code: 'invalid_argument', op: 'gather', message: expect.stringMatching(/^gather: GatherV2: the index value 9 /) as unknown };
    await expect(bad.data()).rejects.toMatchObject(failure);
    await expect(dependent.data()).rejects.toMatchObject(failure);
    expect(() => bad.dataSync()).toThrow(/^gather: GatherV2: the index value 9 /);
    expect(() => tf.add(dependent, 1)).toThrow(/the index value 9 /);
    expect(good.dataSync()).toEqual(new Float32Array(8).fill(3));
    tf.dispose([bad, dependent]);
    expect(tf.gather(x, tf.tensor1d([3], 'int32')).dataSync()).toEqual(Float32Array.of(1, 1));
  });
});

describe('the account stays true', () => {
  it('of tensors and bytes, at once', () => {
    const before = tf.memory();
    const y = products(8);
    expect(tf.memory()).toMatchObject({ numTensors: before.numTensors + 1, numDataBuffers: before.numDataBuffers + 1, numBytes: before.numBytes + MIB });
    y.dispose();
    expect(tf.memory()).toMatchObject({ numTensors: before.numTensors, numDataBuffers: before.numDataBuffers, numBytes: before.numBytes });
    expect(loadAddon().busy()).toBe(true);
  });

  it('of time: that of the calls, without those before them', async () => {
    const begin = performance.now();
    products(40);
    const { kernelMs } = await tf.time(() => tf.ones([4]));
    expect(kernelMs as number).toBeLessThan((performance.now() - begin) / 2);
    let asked = Infinity;
    const { kernelMs: measured } = await tf.time(() => {
      const start = performance.now();
      products(40);
      asked = performance.now() - start;
    });
    expect(measured as number).toBeGreaterThan(asked);
    expect(loadAddon().busy()).toBe(false);
    const { kernels } = await tf.profile(() => products(2));
    expect(kernels.filter(({ name }) => name === 'BatchMatMul').map(({ kernelTimeMs }) => (kernelTimeMs as number) > 0)).toEqual([true, true]);
  });

  it('of memory: a program that never reads does not run away', () => {
    const stats = loadAddon().stats;
    loadAddon().trim();
    loadAddon().resetPeak();
    let most = 0;
    for (let i = 0; i < 300; i++) {
      tf.tidy(() => { tf.square(tf.tensor1d(new Float32Array(MIB).fill(i))); }); // 4 MiB up, 4 MiB result
      most = Math.max(most, stats().live + stats().cached);
    }
    const { peak } = stats();
    expect(peak).toBeLessThan(64 * MIB);
    expect(most).toBeLessThan(peak + peak / 8 + (64 + 256) * MIB); // arena.cc: the limit, and what may wait for queued work
  });
});

describe('the end', () => {
  const queued = `
    const tf = require('@tensorflow/tfjs-core');
    require(${JSON.stringify(`${root}/dist/backend`)});
    let y = tf.fill([512, 512], 0.5);
    const a = y;
    for (let i = 0; i < 40; i++) y = tf.mul(tf.matMul(y, a), 1 / 256);
  `;
  const run = (program: string): { status: number | null; signal: string | null; stdout: string; stderr: string } => {
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', queued + program], { cwd: root, encoding: 'utf8' });
    return { status, signal, stdout, stderr };
  };

  it.each([
    ['process.exit', 'process.exit(3)', { status: 3, signal: null, stdout: '', stderr: '' }],
    ['process.exit with a read under way', 'y.data(); setTimeout(() => process.exit(3), 5)', { status: 3, signal: null, stdout: '', stderr: '' }],
    ['an error nobody catches', 'y.data(); throw new Error("uncaught")', { status: 1, signal: null, stdout: '', stderr: expect.stringContaining('Error: uncaught') }],
    ['nothing more to do', '', { status: 0, signal: null, stdout: '', stderr: '' }],
    ['a read that is waited for', 'y.data().then((v) => console.log(v[0]))', { status: 0, signal: null, stdout: '0.5\n', stderr: '' }],
  ])('of a process: %s', (_name, program, wanted) => {
    expect(run(program)).toEqual(wanted);
  });

  it('of worker threads, each with a queue of its own', async () => {
    const start = (program: string): Worker => new Worker(`${queued}\nconst port = require('worker_threads').parentPort;\n${program}`, { eval: true });
    const readers = [1, 2, 3].map(() => new Promise((done, fail) => start('y.data().then((v) => port.postMessage(v[0]))').on('message', done).on('error', fail)));
    const stopped = start('y.data(); port.postMessage("queued"); setInterval(() => 0, 1000)');
    await new Promise((done) => stopped.on('message', done));
    expect(await stopped.terminate()).toBe(1);
    expect(await Promise.all(readers)).toEqual([0.5, 0.5, 0.5]);
  });
});
