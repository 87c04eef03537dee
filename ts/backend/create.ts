import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import type { NativeBackend } from './backend';
import { delegate } from './host';
import type { KernelTable, NativeKernel } from './register';

/** A tensor with one value everywhere. */
export function filled(backend: NativeBackend, shape: readonly number[], dtype: tf.DataType, value: number): tf.TensorInfo {
  const y = backend.output(shape, dtype);
  kernels.fill({ y: backend.outRef(y), value });
  return y;
}

function like(name: string, value: number): NativeKernel {
  const rest = delegate(name);
  return (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    return x.dtype === 'string' || x.dtype === 'complex64' ? rest(backend, inputs, attrs) : filled(backend, x.shape, x.dtype, value);
  };
}

const delegatedFill = delegate('Fill');

/** Tensors from nothing. */
export const CREATE: KernelTable = {
  Fill: (backend, inputs, attrs) => {
    const value = attrs.value as number | string;
    const dtype = (attrs.dtype as tf.DataType | undefined) ?? tf.util.inferDtype(value);
    if (typeof value !== 'number' || !Number.isFinite(value) || dtype === 'string' || dtype === 'complex64') return delegatedFill(backend, inputs, attrs);
    return filled(backend, attrs.shape as number[], dtype, dtype === 'float32' ? value : dtype === 'bool' ? value & 255 : value | 0);
  },
  ZerosLike: like('ZerosLike', 0),
  OnesLike: like('OnesLike', 1),
};
