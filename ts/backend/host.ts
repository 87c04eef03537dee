import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { SimmimError } from '../errors';
import type { NativeKernel } from './register';

/** Kernels that need a canvas. */
const BROWSER_ONLY = ['Draw', 'FromPixels'];

/**
 * Kernels that run in JavaScript on host values. The criterion: what they work on is not in native memory, or nothing grows
 * with the data. That is
 * - strings, which live as Uint8Array[] on the JavaScript heap, and ragged tensors, whose kernels are about row lengths;
 * - BroadcastArgs, which joins two shapes; tensors without elements; integer ranges in fractional steps.
 * Any other combination of dtypes that the native kernels do not take is an error.
 *
 * They are @tensorflow/tfjs-backend-cpu's own kernel functions, called with our backend in its place; they read
 * `data.get(id).values` (a host copy of native memory) and write fresh typed arrays, which cross to native memory at their
 * first native use.
 */
export function delegatedKernels(backendName: string, isNative: (kernel: string) => boolean): tf.KernelConfig[] {
  return tf
    .getKernelsForBackend('cpu')
    .filter(({ kernelName }) => !isNative(kernelName) && !BROWSER_ONLY.includes(kernelName))
    .map((config) => ({ ...config, backendName, kernelFunc: named(config) }));
}

/** What the inputs of the kernels that always run in JavaScript may be: those do not look at dtypes themselves. */
const ACCEPTED: Record<string, Record<string, readonly tf.DataType[]>> = {
  BroadcastArgs: { s0: ['int32'], s1: ['int32'] },
  RaggedGather: { indices: ['int32'] },
  RaggedRange: { starts: ['float32', 'int32'], limits: ['float32', 'int32'], deltas: ['float32', 'int32'] },
  RaggedTensorToTensor: { shape: ['int32'] },
  StaticRegexReplace: { x: ['string'] },
  StringNGrams: { data: ['string'], dataSplits: ['int32'] },
  StringSplit: { input: ['string'], delimiter: ['string'] },
  StringToHashBucketFast: { input: ['string'] },
};

const delegated = new WeakSet<tf.KernelFunc>();

/** Whether a kernel that is registered on one of our backends runs in JavaScript. */
export function runsInJavaScript({ kernelFunc }: tf.KernelConfig): boolean {
  return delegated.has(kernelFunc);
}

/** The kernel function, whose refusal to be part of a recorded program names the kernel. */
function named({ kernelName, kernelFunc }: tf.KernelConfig): tf.KernelFunc {
  const func: tf.KernelFunc = (call) => {
    for (const [name, dtypes] of Object.entries(ACCEPTED[kernelName] ?? {})) requireDtype(kernelName, { [name]: call.inputs[name] as tf.TensorInfo }, ...dtypes);
    try {
      return kernelFunc(call);
    } catch (error) {
      if (!(error instanceof SimmimError) || error.code !== 'not_recordable') throw namedError(kernelName, call.inputs as tf.NamedTensorInfoMap, error);
      throw new SimmimError('not_recordable', kernelName, 'runs in JavaScript on host values, which cannot be part of a recorded program', { cause: error });
    }
  };
  delegated.add(func);
  return func;
}

/** One kernel of @tensorflow/tfjs-backend-cpu, for what a native kernel leaves to it by the criterion above. */
export function delegate(kernelName: string): NativeKernel {
  let found: tf.KernelConfig | undefined;
  return (backend, inputs, attrs) => {
    found ??= tf.getKernelsForBackend('cpu').find((config) => config.kernelName === kernelName);
    if (!found) throw new SimmimError('unsupported', kernelName, `${describe(inputs)} is not supported, and @tensorflow/tfjs-backend-cpu has no such kernel`);
    return named(found)({ inputs, attrs, backend });
  };
}

/** Whether the inputs are string tensors. Throws `unsupported` where only some of them are. */
export function areStrings(op: string, inputs: tf.NamedTensorInfoMap): boolean {
  const given = Object.values(inputs).filter((x) => x);
  const strings = given.filter((x) => x?.dtype === 'string').length;
  if (strings > 0 && strings < given.length) throw new SimmimError('unsupported', op, `${describe(inputs)}: expected strings in all of them or in none`);
  return strings > 0;
}

/** dtypes with native storage. */
export const NUMERIC = ['float32', 'int32', 'bool'] as const satisfies readonly tf.DataType[];

/** Names, dtypes and shapes of inputs. */
export function describe(inputs: tf.NamedTensorInfoMap): string {
  return Object.entries(inputs).filter(([, x]) => x).map(([name, x]) => `${name} of dtype ${x?.dtype} and shape [${x?.shape}]`).join(', ');
}

/**
 * What a tfjs kernel throws for an error on the way to its native kernels: its own name, and the dtypes and shapes it was
 * called with. Errors of the kernel itself, and those in tfjs's words, say what is needed already.
 */
export function namedError(kernelName: string, inputs: tf.NamedTensorInfoMap, error: unknown): unknown {
  if (error instanceof Error && error.constructor !== Error && !(error instanceof SimmimError)) return new SimmimError('invalid_argument', kernelName, `an input or attribute is missing or not of its kind (${error.message}); called with ${describe(inputs)}`, { cause: error });
  if (!(error instanceof SimmimError) || error.op === kernelName || !error.message.startsWith(`${error.op}: `)) return error;
  if (error.code === 'not_recordable' && error.op === 'readInto') return new SimmimError(error.code, kernelName, 'the shape of its result depends on values, which a recorded program cannot follow', { cause: error });
  if (error.code !== 'invalid_argument' && error.code !== 'unsupported') return error;
  return new SimmimError(error.code, kernelName, `${error.message}; called with ${describe(inputs)}`, { cause: error });
}

/** Throws `unsupported` for an input of another dtype, naming it with its dtype and shape. */
export function requireDtype(op: string, inputs: tf.NamedTensorInfoMap, ...expected: tf.DataType[]): void {
  for (const name in inputs) { // no list of entries: this is on the way of every call
    const x = inputs[name];
    if (x && !expected.includes(x.dtype)) throw new SimmimError('unsupported', op, `${name} has dtype ${x.dtype} and shape [${x.shape}], expected ${expected.join(' or ')}`);
  }
}

/** An error in tfjs's own words, without the name of the operation before them, because programs compare them. */
export function inTfjsWords(op: string, message: string): SimmimError {
  const error = new SimmimError('invalid_argument', op, message);
  error.message = message;
  return error;
}

/** Runs a native kernel whose checks speak in tfjs's words. */
export function withTfjsWords(op: string, run: () => void): void {
  try {
    run();
  } catch (error) {
    throw error instanceof SimmimError && error.code === 'invalid_argument' ? inTfjsWords(op, error.message.slice(`${error.op}: `.length)) : error;
  }
}
