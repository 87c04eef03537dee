import * as tf from '@tensorflow/tfjs-core';
import { standIn } from '../autodiff';
import type { NativeBackend } from '../backend/backend';
import { kernels, type StorageDType } from '../native';
import { refuse, requireShape, requireTensor } from './arguments';
import { fusedOp, sameData } from './fused_op';

const OP = 'in_storage';

/** How float32 values may lie in native memory. */
export type FloatStorage = 'f32' | 'bf16';

interface Inputs {
  x: tf.Tensor;
  copy: tf.Tensor | null;
}

/** x with its values in another storage type: the same data where they are so already. */
function converted(b: NativeBackend, x: tf.TensorInfo, storage: StorageDType): tf.TensorInfo {
  if (b.storageOf(x) === storage) return sameData(b, x);
  const y = b.output(x.shape, 'float32', storage);
  kernels.cast({ x: b.ref(x), y: b.outRef(y), boolean: false });
  return y;
}

const inStorageOp = fusedOp<Inputs, { storage: FloatStorage; from: StorageDType }>({
  name: 'InStorage',
  composed: ({ x }) => tf.clone(x),
  native: {
    kernel: (b, { x, copy }, { storage }) => [copy ? sameData(b, copy) : converted(b, x, storage)],
    differentiable: ['x'],
    save: [],
    gradient: (b, dy, _saved, { from }) => ({ x: converted(b, dy, from) }),
  },
});

/**
 * The same float32 tensor with its values stored as bf16 (rounded to nearest even) or f32. Where the policy of a forward
 * pass asks for bf16, weights enter products this way and results leave them for what computes in f32.
 *
 * x of any shape -> the same shape; `copy`, when given, holds the values already (the copy of the weights that AdamW writes)
 * and is used instead of converting. Differentiable in x: the gradient is stored as x is. On backends that know one
 * storage only this is the identity. Throws `invalid_argument` for a storage of another name.
 */
export function inStorage(x: tf.Tensor, storage: FloatStorage, copy: tf.Tensor | null = null): tf.Tensor {
  requireTensor(OP, 'x', x);
  if (storage !== 'f32' && storage !== 'bf16') refuse(OP, `storage is '${String(storage)}', expected 'f32' or 'bf16'`);
  if (copy) requireShape(OP, 'copy', copy, x.shape, 'the shape of x');
  const from = storageOf(x);
  const y = inStorageOp({ x, copy }, { storage, from });
  if (from === 'f32') standIn(y, x); // gradients of weights are f32 whatever the weights are multiplied in
  return y;
}

/** How a tensor's values lie in native memory; 'f32' on backends that know one storage only. */
export function storageOf(x: tf.Tensor): FloatStorage {
  const backend = tf.backend() as Partial<NativeBackend>;
  return backend.storageOf?.(x) === 'bf16' ? 'bf16' : 'f32';
}
