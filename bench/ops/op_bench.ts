import * as tf from '@tensorflow/tfjs-core';

/** One case of an op: plain numbers, the same for every contestant. */
export type BenchCase = Record<string, number>;

/** An op under the clock. `op` is also its name in rivals/torch_ops.py. */
export interface OpBench {
  op: string;
  cases: { name: string; case: BenchCase }[];
  /** Floating point operations, a multiply-add counting two; of forward, or of forward and backward. */
  flops(c: BenchCase, backward: boolean): number;
  /** The least bytes that must cross memory. */
  bytes(c: BenchCase, backward: boolean): number;
  /** Activations and the weights they are multiplied with may be stored in bf16; where not, it is measured in f32 only. */
  half?: true;
  /** Prepares inputs (standard normal), those that may be in bf16 in this storage, and gives the timed call. */
  job(c: BenchCase, backward: boolean, storage: Storage): () => null;
}

export type Storage = 'f32' | 'bf16';

/** The compiled package that users install: what is measured. */
export const dist = (name: string): string => `${process.env.SIMMIM_BENCH ?? '.'}/../dist/${name}`;

/** The ops of the compiled package. */
export function compiledOps(): typeof import('../../ts/ops') {
  return require(dist('ops')) as typeof import('../../ts/ops');
}

export function normal(shape: number[], seed = 1, storage: Storage = 'f32'): tf.Tensor {
  return tf.keep(tf.tidy(() => compiledOps().inStorage(tf.randomNormal(shape, 0, 1, 'float32', seed), storage)));
}

/** forward() timed alone, or with its gradient for every input. */
export function differentiated(forward: (inputs: tf.Tensor[]) => tf.Tensor, inputs: tf.Tensor[], backward: boolean): () => null {
  if (!backward) {
    return () => {
      forward(inputs).dispose();
      return null;
    };
  }
  const dy = tf.tidy(() => {
    const y = forward(inputs);
    return normal(y.shape, 9, compiledOps().storageOf(y));
  });
  const gradients = tf.grads((...given: tf.Tensor[]) => forward(given));
  return () => {
    tf.dispose(gradients(inputs, dy));
    return null;
  };
}

/** A number of a case by name; a case without it is a mistake in the bench. */
export function take(c: BenchCase, ...names: string[]): number[] {
  return names.map((name) => {
    const value = c[name];
    if (value === undefined) throw new Error(`the bench case ${JSON.stringify(c)} has no '${name}'`);
    return value;
  });
}

/** The four stages of Swin-B at 192 px, window 6, batch 8: map side, channels, heads. */
export const SWIN_B_STAGES = [
  { side: 48, channels: 128, heads: 4 },
  { side: 24, channels: 256, heads: 8 },
  { side: 12, channels: 512, heads: 16 },
  { side: 6, channels: 1024, heads: 32 },
];
