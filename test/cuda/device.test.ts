import * as tf from '@tensorflow/tfjs-core';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CPU_BACKEND, CUDA_BACKEND, type NativeBackend } from '../../ts/backend';
import { RecordedFunction } from '../../ts/backend/program';
import { inspectCuda, kernels, loadAddon } from '../../ts/native';
import { attention, linear } from '../../ts/ops';

let backend: NativeBackend;
const values = (n: number, seed: number): Float32Array => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 0.7 + seed));

beforeAll(async () => {
  expect(await tf.setBackend(CUDA_BACKEND)).toBe(true);
  backend = tf.backend() as NativeBackend;
});

test('the plugin names itself, its devices, and the kernels that kernels.def keeps on the CPU', () => {
  const { name, build, devices, hostOnlyKernels, runtime } = inspectCuda();
  expect([name, build.length > 0, runtime.length > 0]).toEqual(['cuda', true, true]);
  expect(devices[0]).toMatchObject({ name: expect.stringMatching(/./) as string, computeCapability: expect.stringMatching(/^\d+\.\d+$/) as string });
  const marked = [...readFileSync(join(__dirname, '../../native/kernels/kernels.def'), 'utf8').matchAll(/^KERNEL_CPU_ONLY\((\w+)\)/gm)].map(([, kernel]) => (kernel as string).toLowerCase());
  expect(hostOnlyKernels.map((kernel) => kernel.replaceAll('_', '')).sort()).toEqual(marked.sort());
});

test('tensors move between all backends with their references', async () => {
  const a = tf.tensor1d([1, 2, 3]);
  const b = tf.reshape(a, [3, 1]);
  for (const [name, wanted] of [[CPU_BACKEND, [2, 3, 4]], [CUDA_BACKEND, [2, 3, 4]], ['cpu', [2, 3, 4]], [CUDA_BACKEND, [2, 3, 4]]] as const) {
    await tf.setBackend(name);
    expect([...tf.tidy(() => tf.add(a, 1).dataSync())]).toEqual(wanted);
  }
  a.dispose();
  expect([...b.dataSync()]).toEqual([1, 2, 3]);
  b.dispose();
});

test('a call refuses tensors of another device by name', () => {
  const addon = loadAddon();
  const onHost = { storage: { handle: addon.upload(0, values(4, 0), 4), dtype: 'f32' as const }, shape: [4] };
  const onDevice = { storage: { handle: addon.upload(0, values(4, 0), 4, backend.device), dtype: 'f32' as const, device: backend.device }, shape: [4] };
  const y = { storage: { handle: 0, dtype: 'f32' as const, device: backend.device }, shape: [4] };
  expect(() => kernels.binary({ a: onDevice, b: onHost, y, op: 0 })).toThrow(/binary: b is on cpu, the call runs on cuda:\d/);
  addon.release(onHost.storage.handle);
  addon.release(onDevice.storage.handle);
});

test('indices outside a tensor are refused as on the CPU, although they lie on the device', () => {
  tf.tidy(() => {
    const x = tf.tensor2d([[1, 2], [3, 4]]);
    expect(() => tf.gather(x, tf.tensor1d([0, 2], 'int32'))).toThrow(/the index value 2 is not in \[0, 1\]/);
    expect(() => tf.gatherND(x, tf.tensor2d([[5]], [1, 1], 'int32'))).toThrow(/index tuple 0 does not index into the 2 rows/);
  });
});

test('attention of heads too wide for four rows in a block is that of the CPU, and of heads too wide for one is refused', async () => {
  const numbers = async (name: string, d: number): Promise<[y: Float32Array, dqkv: Float32Array]> => {
    await tf.setBackend(name);
    const [y, dqkv] = tf.tidy(() => {
      const given = tf.valueAndGrad((qkv) => attention(qkv as tf.Tensor3D, null, { heads: 1, scale: d ** -0.5 }));
      const { value, grad } = given(tf.tensor3d(values(9 * d, 1), [1, 3, 3 * d]), tf.tensor3d(values(3 * d, 2), [1, 3, d]));
      return [value.dataSync().slice(), grad.dataSync().slice()] as [Float32Array, Float32Array];
    });
    await tf.setBackend(CUDA_BACKEND);
    return [y, dqkv];
  };
  const d = 9000; // two rows of a forward block, one of its gradient
  const [ours, cpus] = [await numbers(CUDA_BACKEND, d), await numbers(CPU_BACKEND, d)];
  // Scores are sums of d products below 1, of which both orders of summation may lose d U / 2 beside each other, times the scale.
  const slack = 2 * d ** 0.5 * 2 ** -24;
  ours.forEach((list, i) => list.forEach((v, j) => expect(Math.abs(v - (cpus[i]?.[j] as number))).toBeLessThanOrEqual(slack)));
  await expect(numbers(CUDA_BACKEND, 60_000)).rejects.toThrow(/attention: heads have 60000 channels: \d+ bytes of shared memory, this GPU has \d+ for a block/);
});

test('large values cross in pieces, and asynchronous reads have the values of their time', async () => {
  const n = 3_000_001; // more than two pieces of pinned memory
  const x = tf.tensor1d(values(n, 1));
  const first = x.data();
  backend.writeInto(x, values(n, 2));
  const second = x.data();
  expect(Buffer.compare(Buffer.from((await first).buffer), Buffer.from(values(n, 1).buffer))).toBe(0);
  expect(Buffer.compare(Buffer.from((await second).buffer), Buffer.from(values(n, 2).buffer))).toBe(0);
  x.dispose();
});

describe('a recorded program', () => {
  afterEach(() => {
    delete process.env.SIMMIM_CUDA_GRAPH;
  });

  test.each([['one graph', undefined], ['the list of its calls', '0']])('is replayed as %s with the bits of eager runs', async (_, graph) => {
    if (graph) process.env.SIMMIM_CUDA_GRAPH = graph;
    const x = tf.keep(tf.tensor(values(40 * 24, 0), [40, 24]));
    const w = tf.keep(tf.tensor(values(32 * 24, 1), [32, 24]));
    const body = (): tf.Tensor[] => [tf.mean(tf.softmax(linear(x, w, null, { activation: 'gelu' })), 0), tf.cumsum(tf.transpose(x), 1)];
    const step = new RecordedFunction('test', backend, body);
    for (let run = 0; run < 4; run++) {
      backend.writeInto(x, values(40 * 24, run));
      const eager = tf.tidy(() => body().map((t) => t.dataSync().slice()));
      const replayed = await step.run();
      expect(step.recorded).toBe(run > 0);
      expect(replayed.map((t) => t.dataSync())).toEqual(eager);
    }
    step.dispose();
    tf.dispose([x, w]);
  });

  test('refuses a call on another device', async () => {
    const x = tf.keep(tf.tensor1d([1, 2]));
    const foreign = new RecordedFunction('mixed', backend, () => {
      const addon = loadAddon();
      const host = { storage: { handle: 0, dtype: 'f32' as const }, shape: [2] };
      try {
        kernels.fill({ y: host, value: 1 });
      } finally {
        if (host.storage.handle) addon.release(host.storage.handle);
      }
      return [tf.add(x, 1)];
    });
    await foreign.run();
    await expect(foreign.run()).rejects.toThrow(/mixed: fill: a call on cpu cannot be part of a program of cuda:\d/);
    expect([...tf.tidy(() => tf.add(x, 1).dataSync())]).toEqual([2, 3]);
    x.dispose();
  });
});
