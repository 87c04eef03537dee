import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { FeatureSet } from './feature_set';
import { cholesky, solveCholesky } from './cholesky';
import { lbfgs, type LbfgsResult } from './lbfgs';
import { BLOCK_ROWS, forBlocks, RESIDENT_BYTES, standardisation, standardised } from './standardise';

export interface LogisticOptions {
  /** Weight of the penalty: l2 / 2 times the sum of squared weights (biases are free) is added to the mean cross-entropy. Default 1e-4. */
  l2?: number;
  /** Norm of the gradient at which L-BFGS ends. Default 1e-5. */
  gradientNorm?: number;
  /** Default 2000. */
  maxIterations?: number;
}

/** A fitted classifier of standardised features. */
export interface LogisticModel {
  /** [K, C] and [K], for standardised features. */
  weight: Float32Array;
  bias: Float32Array;
  fit: Omit<LbfgsResult, 'x'>;
  /** Logits [rows, K] of a set of raw features, block by block. */
  logits(set: FeatureSet): Float32Array;
}

/**
 * Multinomial logistic regression on standardised features, to convergence (shared protocol: mean cross-entropy plus
 * l2 / 2 |W|^2, L-BFGS on all training rows at once). Products run on the active backend in float32, sums over blocks and
 * the optimiser in double precision. Throws `invalid_argument` for fewer than two classes.
 */
export function logisticRegression(train: FeatureSet, options: LogisticOptions = {}): LogisticModel {
  const { l2 = 1e-4, gradientNorm = 1e-5, maxIterations = 2000 } = options;
  const [classes, channels] = [train.classes.length, train.channels];
  if (classes < 2) throw new SimmimError('invalid_argument', 'logistic', `the features have ${classes} classes, expected at least 2`);
  if (!(l2 > 0)) throw new SimmimError('invalid_argument', 'logistic', `l2 is ${l2}, expected above 0: without it separable classes have no optimum`);
  const statistics = standardisation(train);
  const blocks = new DeviceBlocks(standardised(train, statistics));
  const weights = classes * channels;
  try {
    const { x, ...fit } = lbfgs((point, gradient) => {
      const parameters = Float32Array.from(point);
      gradient.fill(0);
      let loss = 0;
      blocks.forEach((features, targets) => {
        const [value, slope] = blockLoss(features, targets, parameters, classes, channels);
        loss += value;
        for (let i = 0; i < slope.length; i++) gradient[i] = (gradient[i] as number) + (slope[i] as number);
      });
      for (let i = 0; i < gradient.length; i++) gradient[i] = (gradient[i] as number) / train.rows + (i < weights ? l2 * (point[i] as number) : 0);
      let squares = 0;
      for (let i = 0; i < weights; i++) squares += (point[i] as number) ** 2;
      return loss / train.rows + (l2 / 2) * squares;
    }, new Float64Array(weights + classes), { gradientNorm, maxIterations, precondition: inverseCurvature(blocks, train.rows, classes, channels, l2) });
    const weight = Float32Array.from(x.subarray(0, weights));
    const bias = Float32Array.from(x.subarray(weights));
    return { weight, bias, fit, logits: (set) => logitsOf(standardised(set, statistics), weight, bias) };
  } finally {
    blocks.dispose();
  }
}

/**
 * An approximate inverse Hessian: that at equal probabilities without the coupling of classes, (K - 1) / K^2 times the
 * features' covariance plus l2, for every class alike (standardised features have mean 0, so biases stand alone). Features of
 * an encoder are so correlated that L-BFGS takes ten times as many steps without.
 */
function inverseCurvature(blocks: DeviceBlocks, rows: number, classes: number, channels: number, l2: number): (vector: Float64Array) => void {
  const spread = (classes - 1) / classes ** 2;
  const matrix = new Float64Array(channels * channels);
  blocks.forEach((features) => {
    const products = tf.matMul(features, features, true, false);
    products.dataSync().forEach((v, i) => (matrix[i] = (matrix[i] as number) + (spread * v) / rows));
    products.dispose();
  });
  for (let c = 0; c < channels; c++) matrix[c * channels + c] = (matrix[c * channels + c] as number) + l2;
  const factor = cholesky(matrix, channels);
  return (vector) => {
    for (let k = 0; k < classes; k++) {
      solveCholesky(factor, channels, vector, k * channels);
      const bias = classes * channels + k;
      vector[bias] = (vector[bias] as number) / spread;
    }
  };
}

/** Sums over a block of rows: the cross-entropy, and its gradient for [W | b] (W row-major [K, C], then b [K]). */
function blockLoss(features: tf.Tensor2D, targets: tf.Tensor2D, parameters: Float32Array, classes: number, channels: number): [number, Float32Array] {
  let loss = 0;
  const gradient = new Float32Array(parameters.length); // filled by hand: tf.tidy searches what it returns for tensors
  tf.tidy(() => {
    const weight = tf.tensor2d(parameters.subarray(0, classes * channels), [classes, channels]);
    const logits = tf.add(tf.matMul(features, weight, false, true), tf.tensor1d(parameters.subarray(classes * channels)));
    const logProbabilities = tf.logSoftmax(logits);
    for (const value of tf.sum(tf.mul(targets, logProbabilities), 1).dataSync()) loss -= value; // in double precision
    const error = tf.sub(tf.exp(logProbabilities), targets);
    gradient.set(tf.matMul(error, features, true, false).dataSync());
    gradient.set(tf.sum(error, 0).dataSync(), classes * channels);
  });
  return [loss, gradient];
}

/** Blocks of features [rows, C] and one-hot labels [rows, K] on the device. */
class DeviceBlocks {
  private readonly kept: [tf.Tensor2D, tf.Tensor2D][] | null;

  constructor(private readonly set: FeatureSet) {
    this.kept = set.rows * set.channels * 4 <= RESIDENT_BYTES ? [] : null;
    if (this.kept) forBlocks(set, (values, from, count) => void this.kept?.push(this.upload(values, from, count)));
  }

  forEach(use: (features: tf.Tensor2D, targets: tf.Tensor2D) => void): void {
    if (this.kept) this.kept.forEach(([features, targets]) => use(features, targets));
    else forBlocks(this.set, (values, from, count) => {
      const block = this.upload(values, from, count);
      use(...block);
      tf.dispose(block);
    });
  }

  dispose(): void {
    tf.dispose(this.kept ?? []);
  }

  private upload(values: Float32Array, from: number, count: number): [tf.Tensor2D, tf.Tensor2D] {
    const { channels, labels, classes } = this.set;
    const targets = tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d(labels.slice(from, from + count), 'int32'), classes.length), 'float32'));
    return [tf.tensor2d(values, [count, channels]), targets as tf.Tensor2D];
  }
}

function logitsOf(set: FeatureSet, weight: Float32Array, bias: Float32Array): Float32Array {
  const classes = bias.length;
  const out = new Float32Array(set.rows * classes);
  forBlocks(set, (values, from, count) => tf.tidy(() => {
    const features = tf.tensor2d(values, [count, set.channels]);
    const logits = tf.add(tf.matMul(features, tf.tensor2d(weight, [classes, set.channels]), false, true), tf.tensor1d(bias));
    out.set(logits.dataSync(), from * classes);
  }), BLOCK_ROWS);
  return out;
}
