import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { NativeBackend } from './backend';
import type { KernelTable } from './register';

/** The same dataId under another shape: one more reference, no copy (the engine's leak checks rely on it). */
export function alias(backend: NativeBackend, x: tf.TensorInfo, shape: number[]): tf.TensorInfo {
  backend.incRef(x.dataId);
  return { dataId: x.dataId, shape, dtype: x.dtype };
}

/** Identity, Reshape, ExpandDims: reference counting only. */
export const ALIAS: KernelTable = {
  Identity: (backend, { x }) => alias(backend, x as tf.TensorInfo, (x as tf.TensorInfo).shape),
  Reshape: (backend, { x }, { shape }) => {
    const input = x as tf.TensorInfo;
    const size = tf.util.sizeFromShape(input.shape);
    const wanted = tf.util.inferFromImplicitShape(shape as number[], size);
    if (tf.util.sizeFromShape(wanted) !== size) throw new SimmimError('invalid_argument', 'Reshape', `shape [${wanted}] has ${tf.util.sizeFromShape(wanted)} elements, x of shape [${input.shape}] has ${size}`);
    return alias(backend, input, wanted);
  },
  ExpandDims: (backend, { input }, { dim }) => {
    const x = input as tf.TensorInfo;
    const axis = (dim as number) < 0 ? (dim as number) + x.shape.length + 1 : (dim as number);
    if (!(axis >= 0 && axis <= x.shape.length)) throw new SimmimError('invalid_argument', 'ExpandDims', `axis is ${String(dim)}, expected -${x.shape.length + 1} to ${x.shape.length}`);
    return alias(backend, x, [...x.shape.slice(0, axis), 1, ...x.shape.slice(axis)]);
  },
};
