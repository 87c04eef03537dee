import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireRank, requireShape } from './arguments';
import { inPlaceOp } from './fused_op';

const OP = 'adamw';

/** The flat buffers that AdamW updates, each a variable [n]. */
export interface AdamwState {
  weights: tf.Variable;
  /** First moment. */
  m: tf.Variable;
  /** Second moment. */
  v: tf.Variable;
  /** The weights once more in bf16, for products that read them so; only on our backends. Default none. */
  shadow?: tf.Tensor | null;
}

/** Parameter groups as S consecutive segments of the flat buffers. They are tensors, so a schedule may rewrite them. */
export interface AdamwSegments {
  /** int32 [S], ascending: segment s is [ends[s-1], ends[s]), and ends[S-1] = n. */
  ends: tf.Tensor;
  /** float32 [S]: the segment's learning rate is hyper.lr * lrScale. */
  lrScale: tf.Tensor;
  /** float32 [S]: the segment's weight decay is hyper.weightDecay * decayScale, usually 1 or 0. */
  decayScale: tf.Tensor;
}

/** The numbers of one AdamW step, see {@link hyperValues}. */
export interface AdamwHyper {
  lr: number;
  weightDecay: number;
  beta1: number;
  beta2: number;
  eps: number;
  /** Updates so far including this one, from 1. */
  t: number;
  /** Largest gradient norm; 0 = no clipping. */
  clip: number;
}

/**
 * The float32 [8] that `adamw` reads: lr, weight decay, 1 - beta1, 1 - beta2, eps, 1 - beta1^t, 1 - beta2^t, clip.
 * The complements are stored because 1 - float32(0.999) is off by 1.3e-5, float32(1 - 0.999) by 6e-8.
 */
export function hyperValues({ lr, weightDecay, beta1, beta2, eps, t, clip }: AdamwHyper): Float32Array {
  return Float32Array.of(lr, weightDecay, 1 - beta1, 1 - beta2, eps, 1 - beta1 ** t, 1 - beta2 ** t, clip);
}

interface Inputs {
  weights: tf.Variable;
  m: tf.Variable;
  v: tf.Variable;
  shadow: tf.Tensor | null;
  gradient: tf.Tensor; // [n]
  norm: tf.Tensor; // scalar
  ends: tf.Tensor; // int32 [S]
  lrScale: tf.Tensor; // [S]
  decayScale: tf.Tensor; // [S]
  hyper: tf.Tensor; // [8]
}

/** The value of each element of the flat buffer, from one value per segment. */
function spread(perSegment: tf.Tensor, ends: ArrayLike<number>): tf.Tensor {
  const parts = Array.from(ends, (end, s) => tf.mul(tf.ones([end - (s > 0 ? (ends[s - 1] as number) : 0)]), tf.slice(perSegment, [s], [1])));
  return tf.concat(parts);
}

/** min(1, clip / (norm + 1e-6)), or 1 without clipping (torch.nn.utils.clip_grad_norm_). */
function clipFactor(norm: tf.Tensor, clip: tf.Tensor): tf.Tensor {
  return tf.where(tf.greater(clip, 0), tf.minimum(1, tf.div(clip, tf.add(norm, 1e-6))), tf.onesLike(clip));
}

const adamwOp = inPlaceOp<Inputs, object>({
  name: 'AdamW',
  composed({ weights, m, v, gradient, norm, ends, lrScale, decayScale, hyper }) {
    const at = (i: number): tf.Tensor => tf.reshape(tf.slice(hyper, [i], [1]), []);
    const segmentEnds = ends.dataSync();
    const lr = tf.mul(at(0), spread(lrScale, segmentEnds));
    const decay = tf.mul(at(1), spread(decayScale, segmentEnds));
    const g = tf.mul(gradient, clipFactor(norm, at(7)));
    const nextM = tf.add(m, tf.mul(at(2), tf.sub(g, m)));
    const nextV = tf.add(tf.mul(v, tf.sub(1, at(3))), tf.mul(at(3), tf.square(g)));
    const denominator = tf.add(tf.div(tf.sqrt(nextV), tf.sqrt(at(6))), at(4));
    const decayed = tf.mul(weights, tf.sub(1, tf.mul(lr, decay)));
    const next = tf.sub(decayed, tf.mul(tf.div(lr, at(5)), tf.div(nextM, denominator)));
    const usable = tf.isFinite(norm);
    weights.assign(tf.where(usable, next, weights));
    m.assign(tf.where(usable, nextM, m));
    v.assign(tf.where(usable, nextV, v));
  },
  native: {
    kernel(b, { weights, m, v, shadow, gradient, norm, ends, lrScale, decayScale, hyper }) {
      kernels.adamw({
        weights: b.refInPlace(weights),
        m: b.refInPlace(m),
        v: b.refInPlace(v),
        gradient: b.ref(gradient),
        norm: b.ref(norm),
        ends: b.ref(ends),
        lrScale: b.ref(lrScale),
        decayScale: b.ref(decayScale),
        hyper: b.ref(hyper),
        shadow: shadow && b.refInPlace(shadow),
      });
    },
  },
});

/**
 * One step of AdamW on flat buffers, in PyTorch's order (Loshchilov & Hutter 2019; torch.optim.AdamW):
 *
 *   g = gradient * min(1, clip / (norm + 1e-6))         clip 0: g = gradient
 *   w *= 1 - lr * decay;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g²
 *   w -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 *
 * with lr = hyper[0] lrScale[s] and decay = hyper[1] decayScale[s] in segment s. A norm that is not finite
 * leaves weights and moments as they are.
 *
 * state of variables [n], gradient [n], norm the scalar of `gradNorm`, segments [S], hyper [8] of
 * {@link hyperValues}. In place on our backends, where a clone or view of a buffer sees the change; elsewhere
 * computed and assigned, and `ends` is read synchronously. Throws `invalid_argument` for shapes that do not fit.
 */
export function adamw(state: AdamwState, gradient: tf.Tensor, norm: tf.Tensor, segments: AdamwSegments, hyper: tf.Tensor): void {
  const { weights, m, v, shadow = null } = state;
  const { ends, lrScale, decayScale } = segments;
  requireRank(OP, 'weights', weights, '[n]');
  requireShape(OP, 'm', m, weights.shape, 'the shape of weights');
  requireShape(OP, 'v', v, weights.shape, 'the shape of weights');
  if (shadow) requireShape(OP, 'shadow', shadow, weights.shape, 'the shape of weights');
  requireShape(OP, 'gradient', gradient, weights.shape, 'the shape of weights');
  requireShape(OP, 'norm', norm, [], 'a scalar');
  requireShape(OP, 'ends', ends, [ends.size], 'one for each segment', 'int32');
  if (ends.size === 0) refuse(OP, 'ends has no entry, expected at least one segment');
  requireShape(OP, 'lrScale', lrScale, ends.shape, 'one for each segment');
  requireShape(OP, 'decayScale', decayScale, ends.shape, 'one for each segment');
  requireShape(OP, 'hyper', hyper, [8], 'the numbers of hyperValues');
  adamwOp({ weights, m, v, shadow, gradient, norm, ends, lrScale, decayScale, hyper }, {});
}
