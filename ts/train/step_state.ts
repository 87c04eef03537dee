import * as tf from '@tensorflow/tfjs-core';
import type { NativeBackend } from '../backend/backend';
import { hyperValues, type AdamwHyper } from '../ops';
import { onOwnBackend } from '../ops/fused_op';

/**
 * Everything that changes from step to step, in two device tensors, so that the step itself is the same
 * program every time: `hyper` float32 [8] (see `hyperValues`) and `clock` int32 [4] = seed, update, micro step, 0.
 */
export class StepState {
  private hyperTensor: tf.Tensor1D;
  private clockTensor: tf.Tensor1D;

  constructor(private readonly seed: number) {
    this.hyperTensor = tf.keep(tf.tensor1d(new Float32Array(8)));
    this.clockTensor = tf.keep(tf.tensor1d(new Int32Array([seed, 0, 0, 0]), 'int32'));
  }

  get hyper(): tf.Tensor1D {
    return this.hyperTensor;
  }
  get clock(): tf.Tensor1D {
    return this.clockTensor;
  }

  /** Sets the numbers of the coming update. */
  writeHyper(values: AdamwHyper): void {
    this.hyperTensor = overwrite(this.hyperTensor, hyperValues(values));
  }

  /** Sets the clock; the random draws of a step depend on nothing else. */
  writeClock(update: number, micro: number): void {
    this.clockTensor = overwrite(this.clockTensor, Int32Array.of(this.seed, update, micro, 0));
  }

  dispose(): void {
    tf.dispose([this.hyperTensor, this.clockTensor]);
  }
}

/** The tensor with new values: the same memory on our backends, a new tensor elsewhere. */
function overwrite(tensor: tf.Tensor1D, values: Float32Array | Int32Array): tf.Tensor1D {
  if (onOwnBackend()) {
    (tf.backend() as NativeBackend).writeInto(tensor, values);
    return tensor;
  }
  tensor.dispose();
  return tf.keep(tf.tensor1d(values, tensor.dtype as 'float32' | 'int32'));
}
