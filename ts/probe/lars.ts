import * as tf from '@tensorflow/tfjs-core';

/** Settings of {@link larsUpdate}; the defaults are MAE's. */
export interface LarsOptions {
  weightDecay?: number;
  momentum?: number;
  trustCoefficient?: number;
}

/**
 * One step of LARS (You et al. 2017) as MoCo v3 and MAE define it (`util/lars.py`): for parameters of at least two
 * dimensions the gradient, decay included, is scaled by trust * |w| / |gradient|; then momentum, then the rate. Returns
 * the new [weights, momentum], of the weights' shape.
 */
export function larsUpdate(weights: tf.Tensor, gradient: tf.Tensor, momentum: tf.Tensor, lr: number, options: LarsOptions = {}): [tf.Tensor, tf.Tensor] {
  const { weightDecay = 0, momentum: keep = 0.9, trustCoefficient = 0.001 } = options;
  return tf.tidy(() => {
    const step = weights.rank > 1 ? trusted(weights, weightDecay === 0 ? gradient : tf.add(gradient, tf.mul(weights, weightDecay)), trustCoefficient) : gradient;
    const moved = tf.add(tf.mul(momentum, keep), step);
    return [tf.sub(weights, tf.mul(moved, lr)), moved];
  });
}

/** step * trust * |w| / |step|, and the step as it is where either norm is zero. */
function trusted(weights: tf.Tensor, step: tf.Tensor, trust: number): tf.Tensor {
  const length = (x: tf.Tensor): number => Math.sqrt(tf.sum(tf.square(x)).dataSync()[0] as number);
  const [own, other] = [length(weights), length(step)];
  return own > 0 && other > 0 ? tf.mul(step, (trust * own) / other) : step;
}
