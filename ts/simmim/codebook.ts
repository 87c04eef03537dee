import * as tf from '@tensorflow/tfjs-core';
import { untaped } from '../autodiff';
import { SimmimError } from '../errors';
import { Constant } from '../nn/module';
import type { VisualTokenizer } from './tokenizer';

/** Normalisation of the images that a codebook sees. */
interface Statistics {
  mean: readonly number[];
  std: readonly number[];
}

/**
 * A visual tokenizer without a network: K patches [K, C, P, P] in [0, 1]; a patch of an image has the id of the
 * nearest of them (least squares). It needs nothing but `simmim cluster --patch P`.
 */
export class Codebook implements VisualTokenizer {
  /** K. */
  readonly size: number;
  /** P, in pixels. */
  readonly patch: number;
  private readonly channels: number;
  /** Codes in the images' normalised scale [K, C P P]; twice them, weighted for the search, [C P P, K]; lengths [1, K]. */
  private readonly codes: Constant;
  private readonly directions: Constant;
  private readonly lengths: Constant;

  /** `values` are the codes, row-major. Throws `invalid_argument` when there are fewer than 2 or values leave [0, 1]. */
  constructor(values: Float32Array, shape: readonly number[], statistics: Statistics) {
    const [size = 0, channels = 0, patch = 0, across = 0] = shape;
    if (shape.length !== 4 || patch !== across || patch < 1) refuse(`codebook is [${shape.join(', ')}], expected [K, C, P, P]`);
    if (size < 2) refuse(`codebook has ${size} patches, expected at least 2`);
    if (channels !== statistics.mean.length) refuse(`codebook has ${channels} channels, the images have ${statistics.mean.length}`);
    if (values.some((v) => !(v >= 0 && v <= 1))) refuse('codebook has values outside 0..1');
    [this.size, this.patch, this.channels] = [size, patch, channels];
    const plane = patch * patch;
    const inner = channels * plane;
    const channelOf = (i: number): number => Math.floor((i % inner) / plane);
    const std = (i: number): number => statistics.std[channelOf(i)] as number;
    const scaled = values.map((v, i) => (v - (statistics.mean[channelOf(i)] as number)) / std(i));
    this.codes = new Constant(() => tf.tensor2d(scaled, [size, inner]));
    // Distances are those of [0, 1]: each channel counts by the square of its deviation.
    this.directions = new Constant(() => tf.tidy(() => tf.transpose(tf.tensor2d(scaled.map((v, i) => 2 * v * std(i) ** 2), [size, inner]))));
    const lengths = Float32Array.from({ length: size }, (_, k) => scaled.subarray(k * inner, (k + 1) * inner).reduce((sum, v, i) => sum + (v * std(i)) ** 2, 0));
    this.lengths = new Constant(() => tf.tensor2d(lengths, [1, size]));
  }

  /** images [B, C, H, W], normalised -> ids int32 [B, H/P, W/P]. */
  tokens(images: tf.Tensor): tf.Tensor {
    return untaped(images, (given) => this.nearest(given));
  }

  private nearest(images: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
      const p = this.patch;
      const [rows, columns] = [height / p, width / p];
      if (channels !== this.channels || !Number.isInteger(rows) || !Number.isInteger(columns)) {
        refuse(`images are [${images.shape.join(', ')}], the codebook has patches of ${this.channels} x ${p} x ${p}, which must tile them`);
      }
      const cells = tf.transpose(tf.reshape(images, [batch, channels, rows, p, columns, p]), [0, 2, 4, 1, 3, 5]);
      const flat = tf.reshape(cells, [batch * rows * columns, channels * p * p]) as tf.Tensor2D;
      const scores = tf.sub(tf.matMul(flat, this.directions.value as tf.Tensor2D), this.lengths.value);
      return tf.reshape(tf.argMax(scores, 1), [batch, rows, columns]);
    });
  }

  /** ids int32 [B, h, w] -> the pictures [B, C, h P, w P] that they stand for, normalised. */
  picture(ids: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const [batch = 0, rows = 0, columns = 0] = ids.shape;
      const p = this.patch;
      const cells = tf.reshape(tf.gather(this.codes.value, ids as tf.Tensor3D), [batch, rows, columns, this.channels, p, p]);
      return tf.reshape(tf.transpose(cells, [0, 3, 1, 4, 2, 5]), [batch, this.channels, rows * p, columns * p]);
    });
  }
}

function refuse(message: string): never {
  throw new SimmimError('invalid_argument', 'codebook', message);
}
