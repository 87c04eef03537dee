import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { Pair } from '../models/encoder';
import { inStorage } from '../ops/in_storage';
import { maskedLoss, type LossKind } from '../ops/masked_loss';
import { pixelShuffle } from '../ops/pixel_shuffle';

/** Regression losses (paper Table 5) and cross-entropy for targets that are classes. */
export type LossName = LossKind | 'cross_entropy';
export const lossNames: readonly LossName[] = ['l1', 'l2', 'smooth_l1', 'cross_entropy'];

/** A loss; `beta` is where smooth_l1 turns from square to linear (default 1). */
export interface LossSpec {
  kind: LossName;
  beta?: number;
}

/**
 * The mask of a model [B, h, w] at a target of [R, S] pixels: unchanged when whole pixels make a cell,
 * else the hidden share of each target pixel, [B, R, S]. Throws when neither grid divides the other.
 */
export function maskForTarget(mask: tf.Tensor, [height, width]: Pair): tf.Tensor {
  const [batch = 0, rows = 0, columns = 0] = mask.shape;
  if (height % rows === 0 && width % columns === 0) return mask;
  if (rows % height !== 0 || columns % width !== 0) {
    throw new SimmimError('invalid_argument', 'loss', `a target of ${height}x${width} pixels and a mask of ${rows}x${columns} patches have no common cells: one grid must divide the other`);
  }
  return tf.mean(tf.reshape(mask, [batch, height, rows / height, width, columns / width]), [2, 4]);
}

/** The mask [B, h, w] repeated to pixels, [B, R, S]. */
function maskPixels(mask: tf.Tensor, [height, width]: Pair): tf.Tensor {
  const [batch = 0, rows = 0, columns = 0] = mask.shape;
  const [down, across] = [height / rows, width / columns];
  const spread = tf.mul(tf.reshape(mask, [batch, rows, 1, columns, 1]), tf.fill([1, 1, down, 1, across], 1));
  return tf.reshape(spread, [batch, height, width]);
}

/** Sum over w * (logsumexp(x) - x[class]) for logits x [n, K], classes int32 [n], weights w [n]; keeps only the logits for the gradient. */
function weightedCrossEntropy(logits: tf.Tensor, classes: tf.Tensor, weights: tf.Tensor): tf.Tensor {
  const count = logits.shape[1] as number;
  const pick = (): tf.Tensor => tf.oneHot(classes as tf.Tensor1D, count, 1, 0, 'float32');
  const op = tf.customGrad((...args: unknown[]) => {
    const x = args[0] as tf.Tensor2D;
    (args[1] as tf.GradSaveFunc)([x, classes, weights]);
    const value = tf.tidy(() => {
      const perPixel = tf.sub(tf.logSumExp(x, 1), tf.sum(tf.mul(x, pick()), 1));
      return tf.sum(tf.mul(weights, perPixel));
    });
    const gradFunc = (dy: tf.Tensor): tf.Tensor =>
      tf.tidy(() => tf.mul(tf.sub(tf.softmax(x), pick()), tf.reshape(tf.mul(weights, dy), [-1, 1])));
    return { value, gradFunc };
  });
  return op(logits);
}

/**
 * Cross-entropy over hidden pixels: sum(ce * m) / (sum(m) + 1e-5) / G, the classification twin of `maskedLoss`.
 *
 * pred [B, h, w, G K r r], channels in PixelShuffle order, group g's K logits at gK..gK+K-1; classes int32
 * [B, G, R, S]; mask [B, rows, columns], 1 = hidden, of a grid that divides [R, S].
 */
export function maskedCrossEntropy(pred: tf.Tensor, classes: tf.Tensor, mask: tf.Tensor): tf.Scalar {
  return tf.tidy(() => {
    const [batch, groups, height, width] = classes.shape as [number, number, number, number];
    const r = height / (pred.shape[1] as number);
    const planes = inStorage(pixelShuffle(pred, r), 'f32'); // [B, G K, R, S]
    const count = (planes.shape[1] as number) / groups;
    const logits = tf.transpose(tf.reshape(planes, [batch, groups, count, height * width]), [0, 1, 3, 2]);
    const pixels = maskPixels(mask, [height, width]);
    const weights = tf.mul(tf.reshape(pixels, [batch, 1, height * width]), tf.fill([1, groups, 1], 1));
    const sum = weightedCrossEntropy(tf.reshape(logits, [-1, count]), tf.reshape(classes, [-1]), tf.reshape(weights, [-1]));
    return tf.div(tf.div(sum, tf.add(tf.sum(pixels), 1e-5)), groups) as tf.Scalar;
  });
}

/** The loss of `spec` over the hidden pixels of a target: [B, I, R, S] colours, or int32 [B, G, R, S] classes. */
export function targetLoss(spec: LossSpec, pred: tf.Tensor, target: tf.Tensor, mask: tf.Tensor): tf.Scalar {
  const cells = maskForTarget(mask, [target.shape[2] as number, target.shape[3] as number]);
  if (spec.kind === 'cross_entropy') return maskedCrossEntropy(pred, target, cells);
  return maskedLoss(pred, target, cells, { kind: spec.kind, beta: spec.beta });
}
