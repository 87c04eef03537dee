import { dirname, join } from 'node:path';
import { buildSync } from 'esbuild';
import type * as Tf from '@tensorflow/tfjs-core';
import type * as Ops from '../../ts/ops';
import { toBf16 } from './compare';

/** tfjs-core, its CPU backend and our composed ops, all in float64. */
export interface Reference64 {
  tf: typeof Tf;
  ops: typeof Ops;
  /** Runs `f` with the result of every kernel rounded to bf16: the composed form in a framework that stores bf16 throughout. */
  inBf16<T>(f: () => T): T;
}

const root = dirname(dirname(__dirname));

/**
 * The exact erf, for the reference only: tfjs's CPU kernel is a polynomial good to 1.5e-7.
 * Maclaurin series below 3, Lentz-free continued fraction of erfc above (Abramowitz & Stegun 7.1.5, 7.1.14).
 */
export function erf(x: number): number {
  const a = Math.abs(x);
  let result = 0;
  if (a < 3) {
    let term = a;
    for (let n = 0; Math.abs(term) > 1e-18; n++) {
      result += term / (2 * n + 1);
      term *= (-a * a) / (n + 1);
    }
    result *= 2 / Math.sqrt(Math.PI);
  } else {
    let fraction = 0;
    for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
    result = 1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction);
  }
  return x < 0 ? -result : result;
}

let loaded: Reference64 | undefined;

/**
 * Bundles tfjs-core, tfjs-backend-cpu and ts/ops afresh with every Float32Array replaced by Float64Array and a
 * global namespace of its own, so its engine is separate. The composed forms then run in double precision:
 * that is the truth that float32 results are measured against, and what finite differences are taken of.
 */
export function reference64(): Reference64 {
  if (loaded) return loaded;
  const bundle = buildSync({
    stdin: {
      contents: [
        "import * as tf from '@tensorflow/tfjs-core';",
        "import '@tensorflow/tfjs-core/dist/register_all_gradients';",
        "import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';",
        "import '@tensorflow/tfjs-backend-cpu/dist/index';",
        "import * as ops from './ts/ops';",
        'export { tf, ops };',
      ].join('\n'),
      resolveDir: root,
    },
    write: false,
    bundle: true,
    format: 'iife',
    globalName: 'bundle',
    platform: 'node',
    mainFields: ['module', 'main'],
    target: 'node20',
    define: { Float32Array: 'Float64Array' },
    logLevel: 'error',
  });
  const code = `${(bundle.outputFiles[0] as { text: string }).text}\nreturn bundle;`;
  const own = {};
  const build = new Function('require', 'global', 'globalThis', '__dirname', code) as (...args: unknown[]) => Pick<Reference64, 'tf' | 'ops'>;
  // The bundle registered the gradients of its own tfjs-core; those of ts/backend/gradients.ts compute in the shared engine.
  const load = (id: string): unknown => (id.endsWith('core_gradients.cjs') ? { configs: [] } : require(id));
  const { tf, ops } = build(load, own, own, __dirname);
  const { platform } = tf.env();
  platform.isTypedArray = ((array: unknown) => ArrayBuffer.isView(array)) as typeof platform.isTypedArray;
  tf.unregisterKernel('Erf', 'cpu');
  tf.registerKernel({
    kernelName: 'Erf',
    backendName: 'cpu',
    kernelFunc: ({ inputs, backend }) => {
      const x = inputs.x as Tf.TensorInfo;
      const cpu = backend as { data: { get(id: object): { values: Float64Array } }; makeTensorInfo(shape: number[], dtype: string, values: Float64Array): Tf.TensorInfo };
      return cpu.makeTensorInfo(x.shape, x.dtype, cpu.data.get(x.dataId).values.map(erf));
    },
  });
  loaded = { tf, ops, inBf16: roundingOf(tf) };
  return loaded;
}

/** Kernels that pass data on under another shape: what they pass was rounded where it was made, or is an f32 input. */
const ALIASES = ['Identity', 'Reshape', 'ExpandDims', 'Cast'];

/** Wraps all kernels of the float64 engine so that they can be made to round. */
function roundingOf(tf: typeof Tf): Reference64['inBf16'] {
  let rounds = false;
  for (const config of tf.getKernelsForBackend('cpu')) {
    if (ALIASES.includes(config.kernelName)) continue;
    tf.unregisterKernel(config.kernelName, 'cpu');
    tf.registerKernel({
      ...config,
      kernelFunc: (call) => {
        const outputs = config.kernelFunc(call);
        if (rounds) for (const output of [outputs].flat()) roundValues(call.backend, output);
        return outputs;
      },
    });
  }
  return (f) => {
    rounds = true;
    try {
      return f();
    } finally {
      rounds = false;
    }
  };
}

function roundValues(backend: unknown, info: Tf.TensorInfo): void {
  if (info.dtype !== 'float32') return;
  const { values } = (backend as { data: { get(id: object): { values: Float64Array } } }).data.get(info.dataId);
  for (let i = 0; i < values.length; i++) values[i] = toBf16(values[i] as number);
}
