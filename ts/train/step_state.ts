import * as tf from '@tensorflow/tfjs-core';
import type { NativeBackend } from '../backend/backend';
import type { HostArray } from '../native';
import { hyperValues, type AdamwHyper } from '../ops';
import { onOwnBackend } from '../ops/fused_op';

/** Bytes up to which a copy costs less than a promise. */
const SMALL = 1 << 16;

/**
 * A tensor whose values come from the host before each run of a program: the same memory on our backends, a new
 * tensor elsewhere.
 */
export class DeviceInput {
  private tensor: tf.Tensor;

  constructor(readonly shape: readonly number[], readonly dtype: 'float32' | 'int32') {
    this.tensor = tf.keep(tf.fill([...shape], 0, dtype));
  }

  get value(): tf.Tensor {
    return this.tensor;
  }

  /** Replaces the values, after the work asked for so far; they are copied aside where that is not done yet. */
  set(values: HostArray): void {
    if (onOwnBackend()) (tf.backend() as NativeBackend).writeInto(this.tensor, values);
    else this.replace(values);
  }

  /** The same, without a copy of values in shared memory: they must not change until the promise resolves. */
  async write(values: HostArray): Promise<void> {
    if (!onOwnBackend()) this.replace(values);
    else if (values.byteLength <= SMALL) this.set(values);
    else await (tf.backend() as NativeBackend).writeLater(this.tensor, values);
  }

  private replace(values: HostArray): void {
    this.tensor.dispose();
    this.tensor = tf.keep(tf.tensor(values.slice(), [...this.shape], this.dtype));
  }

  dispose(): void {
    this.tensor.dispose();
  }
}

/**
 * Everything that changes from step to step, in two device tensors, so that the step itself is the same
 * program every time: `hyper` float32 [8] (see `hyperValues`) and `clock` int32 [4] = seed, update, micro step, 0.
 */
export class StepState {
  private readonly hyperInput = new DeviceInput([8], 'float32');
  private readonly clockInput = new DeviceInput([4], 'int32');
  private readonly emaDecayInput = new DeviceInput([1], 'float32');

  constructor(private readonly seed: number) {
    this.writeClock(0, 0);
  }

  get hyper(): tf.Tensor1D {
    return this.hyperInput.value as tf.Tensor1D;
  }
  get clock(): tf.Tensor1D {
    return this.clockInput.value as tf.Tensor1D;
  }

  /** Decay of the weights' moving average at the coming update, [1]. */
  get emaDecay(): tf.Tensor {
    return this.emaDecayInput.value;
  }
  writeEmaDecay(decay: number): void {
    this.emaDecayInput.set(Float32Array.of(decay));
  }

  /** Sets the numbers of the coming update. */
  writeHyper(values: AdamwHyper): void {
    this.hyperInput.set(hyperValues(values));
  }

  /** Sets the clock; the random draws of a step depend on nothing else. */
  writeClock(update: number, micro: number): void {
    this.clockInput.set(Int32Array.of(this.seed, update, micro, 0));
  }

  dispose(): void {
    this.hyperInput.dispose();
    this.clockInput.dispose();
    this.emaDecayInput.dispose();
  }
}
