import * as tf from '@tensorflow/tfjs-core';

const EPS = 1e-6;
const MOMENTUM = 0.1;

/**
 * BatchNorm without scale and shift, eps 1e-6, as in front of MAE's linear probe (torch.nn.BatchNorm1d, affine false): rows
 * [n, C] are standardised by their own mean and biased variance in training, by running averages afterwards (of the
 * unbiased variance, momentum 0.1).
 */
export class BatchNorm {
  private mean: tf.Tensor1D;
  private variance: tf.Tensor1D;

  constructor(readonly channels: number) {
    this.mean = tf.keep(tf.zeros([channels])) as tf.Tensor1D;
    this.variance = tf.keep(tf.ones([channels])) as tf.Tensor1D;
  }

  /** Standardises training rows [n, C] and moves the running averages. A single row is passed on as zeros. */
  train(rows: tf.Tensor2D): tf.Tensor2D {
    const n = rows.shape[0];
    const [normal, mean, variance] = tf.tidy(() => {
      const { mean: m, variance: v } = tf.moments(rows, 0);
      const moved = (old: tf.Tensor, now: tf.Tensor): tf.Tensor => tf.add(tf.mul(old, 1 - MOMENTUM), tf.mul(now, MOMENTUM));
      return [scaled(rows, m, v), moved(this.mean, m), moved(this.variance, tf.mul(v, n > 1 ? n / (n - 1) : 1))];
    }) as [tf.Tensor2D, tf.Tensor1D, tf.Tensor1D];
    tf.dispose([this.mean, this.variance]);
    [this.mean, this.variance] = [tf.keep(mean), tf.keep(variance)];
    return normal;
  }

  /** Standardises rows [n, C] by the running averages. */
  apply(rows: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => scaled(rows, this.mean, this.variance)) as tf.Tensor2D;
  }

  /** The running averages, mean then variance. */
  state(): [Float32Array, Float32Array] {
    return [this.mean.dataSync().slice() as Float32Array, this.variance.dataSync().slice() as Float32Array];
  }
  restore(mean: Float32Array, variance: Float32Array): void {
    tf.dispose([this.mean, this.variance]);
    [this.mean, this.variance] = [tf.keep(tf.tensor1d(mean)), tf.keep(tf.tensor1d(variance))];
  }

  dispose(): void {
    tf.dispose([this.mean, this.variance]);
  }
}

function scaled(rows: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor): tf.Tensor {
  return tf.mul(tf.sub(rows, mean), tf.rsqrt(tf.add(variance, EPS)));
}
