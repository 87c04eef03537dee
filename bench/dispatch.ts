import * as tf from '@tensorflow/tfjs-core';
import { median, table } from './harness';
import { dist } from './ops/op_bench';

const NULL = 'null';
const OURS = 'simmim-cpu';
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

function registerNull(): void {
  tf.registerBackend(NULL, () => new NullBackend(), 0);
  for (const kernelName of ['Relu', 'Add', 'Multiply', 'BatchMatMul', 'Identity', 'Reshape', 'Sum', 'Cast', 'Step'])
    tf.registerKernel({
      kernelName,
      backendName: NULL,
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
  registerNull();
  const backends = [NULL, OURS, 'cpu', 'wasm'];
  for (const backend of backends) await tf.setBackend(backend);
  const rows: string[][] = [['case', ...backends.map((b) => `${b} us`), `${OURS} / ${NULL}`]];
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
    const ratio = (us[OURS] as number) / (us[NULL] as number);
    rows.push([name, ...backends.map((b) => (us[b] as number).toFixed(2)), `${ratio.toFixed(2)} (fastest ${((fastest[OURS] as number) / (fastest[NULL] as number)).toFixed(2)})`]);
    results.push({ name, us, fastest, ratio });
  }
  console.log(table(rows));
  return results;
}
