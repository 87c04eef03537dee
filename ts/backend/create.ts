import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { StorageDType } from '../native';
import * as kernels from '../native/kernels.gen';
import type { NativeBackend } from './backend';
import { NUMERIC, delegate, requireDtype } from './host';
import type { KernelTable, NativeKernel } from './register';

/** A tensor with one value everywhere. */
export function filled(backend: NativeBackend, shape: readonly number[], dtype: tf.DataType, value: number, storage?: StorageDType): tf.TensorInfo {
  const y = backend.output(shape, dtype, storage);
  kernels.fill({ y: backend.outRef(y), value });
  return y;
}

function like(name: string, value: number): NativeKernel {
  return (backend, inputs) => {
    const x = inputs.x as tf.TensorInfo;
    requireDtype(name, { x }, ...NUMERIC);
    return filled(backend, x.shape, x.dtype, value);
  };
}

const rest = { fill: delegate('Fill'), range: delegate('Range') };

/** How many numbers tf.range counts; what it makes of a step that leads away from `stop` is tfjs's. */
function rangeLength(start: number, stop: number, step: number): number {
  if (start === stop || (start < stop && step < 0) || (stop < start && step > 1)) return 0;
  return Math.abs(Math.ceil((stop - start) / step));
}

/** Tensors from nothing, or from little. */
export const CREATE: KernelTable = {
  Fill: (backend, inputs, attrs) => {
    const value = attrs.value as number | string;
    const dtype = (attrs.dtype as tf.DataType | undefined) ?? tf.util.inferDtype(value);
    if (dtype === 'string') return rest.fill(backend, inputs, attrs);
    if (!Array.isArray(attrs.shape)) throw new SimmimError('invalid_argument', 'Fill', `shape is ${JSON.stringify(attrs.shape)}, expected a list of sizes`);
    if (typeof value !== 'number' || dtype === 'complex64') throw new SimmimError('unsupported', 'Fill', `value is ${JSON.stringify(value)} for dtype ${dtype} and shape [${attrs.shape as number[]}], expected a number for ${NUMERIC.join(', ')}`);
    return filled(backend, attrs.shape as number[], dtype, dtype === 'float32' ? value : dtype === 'bool' ? value & 255 : value | 0);
  },
  ZerosLike: like('ZerosLike', 0),
  OnesLike: like('OnesLike', 1),

  Range: (backend, inputs, attrs) => {
    const { start, stop, step } = attrs as { start: number; stop: number; step: number };
    const dtype = attrs.dtype as tf.DataType;
    // Integers in fractional steps are truncated one after the other.
    if (dtype !== 'float32' && !(dtype === 'int32' && Number.isInteger(start) && Number.isInteger(step))) return rest.range(backend, inputs, attrs);
    const y = backend.output([rangeLength(start, stop, step)], dtype);
    kernels.range({ y: backend.outRef(y), start, step: stop < start && step === 1 ? -1 : step });
    return y;
  },
  LinSpace: (backend, _inputs, attrs) => {
    const { start, stop, num } = attrs as { start: number; stop: number; num: number };
    const y = backend.output([num]);
    kernels.range({ y: backend.outRef(y), start, step: num > 1 ? (stop - start) / (num - 1) : 0 });
    return y;
  },
  Diag: (backend, inputs) => {
    const x = inputs.x as tf.TensorInfo;
    requireDtype('Diag', inputs, ...NUMERIC);
    const n = tf.util.sizeFromShape(x.shape);
    const y = filled(backend, [...x.shape, ...x.shape], x.dtype, 0);
    kernels.stridedCopy({ x: backend.ref(x), y: backend.outRef(y), dims: [n], xStrides: [1], yStrides: [n + 1], xOffset: 0, yOffset: 0 });
    return y;
  },
};
