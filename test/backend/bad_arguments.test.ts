import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import '../../ts/backend';
import { SimmimError } from '../../ts/errors';
import { KERNEL_CALLS } from './kernel_calls';

type Values = Float32Array | Int32Array | Uint8Array | string[];
interface Given {
  shape: number[];
  dtype: tf.DataType;
  values: Values;
}
interface Call {
  kernel: string;
  inputs: Record<string, Given>;
  attrs: Record<string, unknown>;
}

const BACKEND = 'simmim-cpu';
const kernels = (): tf.KernelConfig[] => tf.getKernelsForBackend(BACKEND);

/** The kernels that KERNEL_CALLS reach, and the first call of each with the values of its inputs, but for those that take lists of tensors (ragged ones). */
function recordCalls(): { calls: Map<string, Call>; reached: Set<string> } {
  const reached = new Set<string>();
  const calls = new Map<string, Call>();
  const originals = kernels().map((config) => [config, config.kernelFunc] as const);
  let inside = false;
  for (const [config, original] of originals)
    config.kernelFunc = (call) => {
      if (inside) return original(call);
      inside = true;
      try {
        reached.add(config.kernelName);
        const given = Object.entries(call.inputs).filter(([, x]) => x);
        if (!calls.has(config.kernelName) && !given.some(([, x]) => Array.isArray(x)))
          calls.set(config.kernelName, {
            kernel: config.kernelName,
            inputs: Object.fromEntries(given.map(([name, x]) => [name, hostOf(call.backend as tf.KernelBackend, x as tf.TensorInfo)])),
            attrs: { ...call.attrs },
          });
        return original(call);
      } finally {
        inside = false;
      }
    };
  try {
    for (const call of Object.values(KERNEL_CALLS)) tf.tidy(() => { call(); return undefined as never; });
  } finally {
    for (const [config, original] of originals) config.kernelFunc = original;
  }
  return { calls, reached };
}

function hostOf(backend: tf.KernelBackend, { dataId, shape, dtype }: tf.TensorInfo): Given {
  const values = backend.readSync(dataId);
  return { shape: [...shape], dtype, values: dtype === 'string' ? (values as unknown as Uint8Array[]).map((v) => tf.util.decodeString(v)) : (values.slice() as Values) };
}

function tensorOf({ shape, dtype, values }: Given): tf.Tensor {
  const size = tf.util.sizeFromShape(shape);
  const numbers = Array.from({ length: size }, (_, i) => Number(values[i % Math.max(values.length, 1)]) || 0);
  if (dtype === 'string') return tf.tensor(numbers.map(String), shape, dtype);
  if (dtype === 'complex64') return tf.complex(tf.tensor(numbers, shape), tf.tensor(numbers, shape));
  return tf.tensor(numbers, shape, dtype);
}

/** undefined when the call gives tensors of the size that they say, else its error. */
function errorOf({ kernel, inputs, attrs }: Call): Error | undefined {
  return tf.tidy(() => {
    try {
      const tensors = Object.entries(inputs).map(([name, x]) => [name, tensorOf(x)] as const);
      const list = Object.keys(inputs).every((name) => /^\d+$/.test(name));
      const out: tf.Tensor | tf.Tensor[] = tf.engine().runKernel(kernel, (list ? tensors.map(([, t]) => t) : Object.fromEntries(tensors)) as unknown as tf.NamedTensorMap, attrs as tf.NamedAttrMap);
      for (const t of Array.isArray(out) ? out : [out]) expect(t.dataSync().length).toBe(tf.util.sizeFromShape(t.shape) * (t.dtype === 'complex64' ? 2 : 1));
      return undefined as never;
    } catch (error) {
      return error as never;
    }
  }) as unknown as Error | undefined;
}

/** What is wrong with the outcome of a call: it should be a result of the size that it says, or an error in words of ours or of tfjs that holds `words`. */
function complaintsOf(label: string, call: Call, words: string[] = []): string[] {
  const error = errorOf(call);
  if (error === undefined) return [];
  const known = error instanceof SimmimError ? error.code !== 'internal' : error.constructor === Error;
  return known && words.every((word) => error.message.includes(word)) ? [] : [`${label}: ${error.constructor.name}: ${error.message}`];
}

const DTYPES: tf.DataType[] = ['float32', 'int32', 'bool', 'complex64', 'string'];

describe('bad arguments to every kernel of the backend', () => {
  let calls: Map<string, Call>;
  let reached: Set<string>;
  beforeAll(async () => {
    await tf.setBackend(BACKEND);
    ({ calls, reached } = recordCalls());
  });

  it('the calls reach every kernel', () => {
    expect(kernels().map(({ kernelName }) => kernelName).filter((name) => !reached.has(name))).toEqual([]);
  });
  it('the calls are right as they were recorded', () => {
    for (const call of calls.values()) expect(errorOf(call), call.kernel).toBeUndefined();
  });

  it('another dtype is served, or refused with its name and the shape', () => {
    eachVariant(({ kernel, inputs }, name) => DTYPES.map((dtype) => [`${kernel} with ${name} of ${dtype}`, { ...inputs, [name]: { ...(inputs[name] as Given), dtype } }, dtype, `[${inputs[name]?.shape}]`]));
  });

  it('another shape is served, or refused in words of ours or of tfjs', () => {
    eachVariant(({ kernel, inputs }, name) => {
      const x = inputs[name] as Given;
      return [[], [0], [3], [...x.shape, 2], x.shape.slice(1), x.shape.map((d) => d + 1), x.shape.map(() => 0)].map((shape) => [`${kernel} with ${name} of shape [${shape}]`, { ...inputs, [name]: { ...x, shape } }]);
    });
  });

  it('an input that is missing is optional, or its lack is refused', () => {
    eachVariant(({ kernel, inputs }, name) => [[`${kernel} without ${name}`, Object.fromEntries(Object.entries(inputs).filter(([other]) => other !== name))]]);
  });

  it('another attribute is served, or refused', () => {
    const variants = (value: unknown): unknown[] => [-1, NaN, 0, 50, 'x', undefined].flatMap((other) => (Array.isArray(value) ? [other, value.map((v, i) => (i === 0 ? other : v)), value.slice(1), [...value, 1]] : [other]));
    const complaints = [...calls.values()].flatMap((call) => Object.entries(call.attrs).flatMap(([name, value]) => variants(value).flatMap((other) => complaintsOf(`${call.kernel} with ${name} ${JSON.stringify(other)}`, { ...call, attrs: { ...call.attrs, [name]: other } }))));
    expect(complaints).toEqual([]);
  });

  it('one number is a row of one along any axis, as programs for cpu expect', () => {
    for (const scan of [tf.cumsum, tf.cumprod]) expect([scan(tf.scalar(5), 2).dataSync()[0], scan(tf.scalar(5), 0, true, true).dataSync()[0]]).toEqual([5, scan === tf.cumsum ? 0 : 1]);
  });

  function eachVariant(variants: (call: Call, input: string) => [label: string, inputs: Call['inputs'], ...words: string[]][]): void {
    const complaints = [...calls.values()].flatMap((call) => Object.keys(call.inputs).flatMap((name) => variants(call, name).flatMap(([label, inputs, ...words]) => complaintsOf(label, { ...call, inputs }, words))));
    expect(complaints).toEqual([]);
  }
});
