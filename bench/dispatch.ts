import * as tf from '@tensorflow/tfjs-core';
import { median, table } from './harness';
import { dist } from './ops/op_bench';

const NULL = 'null';
const OURS = 'simmim-cpu';
/**
 * The same kernels under a name as long as ours: tfjs joins the backend's name and the kernel's at every look-up, two a call,
 * and V8 keeps results of 13 letters and more as trees, which it must flatten and compare. That is the engine's cost as well.
 */
const NULL_AS_LONG = NULL.padEnd(OURS.length, '-');
const EMPTY = [NULL, NULL_AS_LONG];
/** Timed runs of a backend in each round. */
const SAMPLES = 15;

/** A backend whose kernels do nothing but name their output: what tfjs's engine itself costs. */
class NullBackend extends tf.KernelBackend {
  override write(): tf.DataId {
    return {};
  }
  override move(): void {}
  override incRef(): void {}
  decRef(): void {}
  override refCount(): number {
    return 1;
  }
  override disposeData(): boolean {
    return true;
  }
  override numDataIds(): number {
    return 0;
  }
  override floatPrecision(): 16 | 32 {
    return 32;
  }
  override dispose(): void {}
}

function registerNull(name: string): void {
  tf.registerBackend(name, () => new NullBackend(), 0);
  for (const kernelName of ['Relu', 'Add', 'Multiply', 'BatchMatMul', 'Identity', 'Reshape', 'Sum', 'Cast', 'Step'])
    tf.registerKernel({
      kernelName,
      backendName: name,
      kernelFunc: ({ inputs, attrs }) => {
        const x = (inputs.x ?? inputs.a) as tf.TensorInfo;
        return { dataId: {}, shape: kernelName === 'Reshape' ? (attrs?.shape as number[]) : kernelName === 'Sum' ? [] : x.shape, dtype: kernelName === 'Cast' ? (attrs?.dtype as tf.DataType) : x.dtype };
      },
    });
}

/** A case: what one round runs, given tensors of the backend under the clock. */
const CASES: Record<string, (x: tf.Tensor, m: tf.Tensor2D) => void> = {
  'relu of 4': (x) => tf.relu(x).dispose(),
  'add 4 and 4': (x) => tf.add(x, x).dispose(),
  'reshape': (x) => tf.reshape(x, [2, 2]).dispose(),
  'matmul 4x4': (_x, m) => tf.matMul(m, m).dispose(),
  'sum of 4': (x) => tf.sum(x).dispose(),
  'relu by runKernel': (x) => (tf.engine().runKernel('Relu', { x }) as tf.Tensor).dispose(),
  'chain of 10 multiplications': (x) => tf.tidy(() => { let y = x; for (let i = 0; i < 10; i++) y = tf.mul(y, x); }),
  'gradient of 10 multiplications': (x) => tf.tidy(() => { tf.grad((v) => { let y = v; for (let i = 0; i < 10; i++) y = tf.mul(y, x); return y; })(x, x); }),
};

/** Microseconds a call in small ops, rounds of all backends interleaved in one process, beside an empty kernel. */
export async function dispatch(rounds: number): Promise<unknown[]> {
  require(dist('backend'));
  require('@tensorflow/tfjs-backend-wasm');
  EMPTY.forEach(registerNull);
  const backends = [...EMPTY, OURS, 'cpu', 'wasm'];
  for (const backend of backends) await tf.setBackend(backend);
  const rows: string[][] = [['case', ...backends.map((b) => `${b} us`), ...EMPTY.map((b) => `${OURS} / ${b}`)]];
  const results: unknown[] = [];
  for (const [name, run] of Object.entries(CASES)) {
    const calls = name.includes('10') ? 20 : 200; // short: many samples lie between two interruptions
    const samples = new Map(backends.map((b) => [b, [] as number[]]));
    for (let round = -2; round < rounds; round++) // two rounds to warm up
      for (const backend of backends) {
        await tf.setBackend(backend);
        const [x, m] = [tf.tensor1d([1, 2, 3, 4]), tf.tensor2d(new Float32Array(16), [4, 4])];
        for (let sample = 0; sample < SAMPLES; sample++) {
          const begin = process.hrtime.bigint();
          for (let i = 0; i < calls; i++) run(x, m);
          const us = Number(process.hrtime.bigint() - begin) / 1e3 / calls;
          if (round >= 0) samples.get(backend)?.push(us);
        }
        tf.dispose([x, m]);
        await new Promise((turn) => setImmediate(turn));
      }
    const us = Object.fromEntries([...samples].map(([b, list]) => [b, median(list)]));
    const fastest = Object.fromEntries([...samples].map(([b, list]) => [b, Math.min(...list)]));
    const over = (some: Record<string, number>, empty: string): number => (some[OURS] as number) / (some[empty] as number);
    rows.push([name, ...backends.map((b) => (us[b] as number).toFixed(2)), ...EMPTY.map((b) => `${over(us, b).toFixed(2)} (fastest ${over(fastest, b).toFixed(2)})`)]);
    results.push({ name, us, fastest, ratio: over(us, NULL), ratioToNameAsLong: over(us, NULL_AS_LONG) });
  }
  console.log(table(rows));
  return results;
}
