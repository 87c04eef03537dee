import type * as tf from '@tensorflow/tfjs-core';
import type { FloatStorage } from '../ops/in_storage';

/** The part of a context that dense layers read. */
export interface Policy {
  /**
   * What fused ops store activations and saved tensors in and multiply with. Under bf16, weights, sums of products, statistics,
   * softmax, losses, parameter gradients and the optimizer stay f32. Backends other than ours compute in f32 whatever it says.
   */
  precision: FloatStorage;
}

/** The policy of what computes in f32 always: heads of classifiers and probes, the network behind SwinV2's position bias. */
export const FLOAT32: Policy = { precision: 'f32' };

/** What a forward pass needs besides its input. Passed down, never global. */
export interface Context extends Policy {
  /** Switches drop path on. */
  training: boolean;
  /** int32 [4] = seed, step, micro-step, 0: the counter of every random draw on the device. */
  clock: tf.Tensor;
  /** Called with the name and value of each intermediate result: `patch_embed`, `tokens`, `layers.0.blocks.1`, ... */
  observe?: (name: string, value: tf.Tensor) => void;
}

/** Philox sites of the model's random draws: two sites never share a stream. */
export const rngSites = {
  /** Masks of pre-training. */
  mask: 0x4d41534b,
  /** Parameter initialisation; parameter number i of an encoder uses `initial + i`, of a head `headInitial + i`. */
  initial: 0x10000000,
  headInitial: 0x18000000,
  /** Drop path; residual branch number i of an encoder uses `dropPath + i`, of a head `headDropPath + i`. */
  dropPath: 0x20000000,
  headDropPath: 0x28000000,
} as const;
