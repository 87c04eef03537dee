import type * as tf from '@tensorflow/tfjs-core';

/** Turns each cell of `patch` x `patch` pixels of an image into the id of a visual token, without gradients. */
export interface VisualTokenizer {
  /** Ids are below this. */
  readonly size: number;
  /** Side of a cell in pixels. */
  readonly patch: number;
  /** images [B, C, H, W], normalised -> ids int32 [B, H/patch, W/patch]. Throws `invalid_argument` when cells do not tile them. */
  tokens(images: tf.Tensor): tf.Tensor;
  /** ids int32 [B, h, w] -> the pictures [B, C, h patch, w patch] that they stand for, normalised. */
  picture(ids: tf.Tensor): tf.Tensor;
}
