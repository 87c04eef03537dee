import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { IMAGENET, type ImageStatistics } from '../image_statistics';
import type { Pair } from '../models/encoder';
import { Constant } from '../nn/module';
import { pixelShuffle } from '../ops/pixel_shuffle';
import type { VisualTokenizer } from './tokenizer';

/**
 * What the head predicts (paper sections 3.4 and 4.1.4, Table 6). `resolution` is the target's side in pixels (or
 * [height, width]); default: the image's.
 * - rgb: the normalised pixels. `normalise: 'patch'` standardises each `size` x `size` patch over its pixels and
 *   channels (MAE), `'window'` each pixel by the mean and deviation of its channel in the `size` x `size`
 *   neighbourhood (SwinV2's recipe, size 47); both at full size only.
 * - bins: each channel's 8-bit value cut into `bins` equal classes.
 * - clusters: the nearest of K palette colours (iGPT; rows of RGB in [0, 1]).
 * - tokens: ids below `vocabulary` from a visual tokenizer (BEiT), one for each cell of a `resolution` grid,
 *   given to `loss` with each batch, or found by `tokenizer` in the image, or in a smaller copy of it (area means) of
 *   `resolution` times its cells, as BEiT does.
 */
export type TargetSpec =
  | { kind: 'rgb'; resolution?: number | Pair; normalise?: 'patch' | 'window'; size?: number }
  | { kind: 'bins'; bins: number; resolution?: number | Pair }
  | { kind: 'clusters'; palette: readonly (readonly number[])[]; resolution?: number | Pair }
  | { kind: 'tokens'; vocabulary: number; resolution: number | Pair; tokenizer?: VisualTokenizer };

/** Added to the variance of normalised targets (both official codes). */
const VARIANCE_EPS = 1e-6;

/** Makes the target of a batch and turns predictions back into pictures. */
export interface Target {
  /** [height, width] of the target. */
  readonly resolution: [number, number];
  /** Values per target pixel that the head must give. */
  readonly values: number;
  /** Whether the target is classes (cross-entropy) or colours (regression). */
  readonly classes: boolean;
  /** images [B, C, H, W] -> colours [B, C, R, S] or classes int32 [B, G, R, S]. `tokens` int32 [B, R, S] for token targets. */
  make(images: tf.Tensor, tokens?: tf.Tensor): tf.Tensor;
  /** Head output [B, h, w, values r r] -> picture [B, C, R, S] in the images' normalised scale (normalised targets: as predicted). */
  picture(pred: tf.Tensor): tf.Tensor;
}

function refuse(message: string): never {
  throw new SimmimError('invalid_argument', 'target', message);
}

/** The mean of each cell: [B, C, H, W] -> [B, C, R, S]. */
function areaMean(images: tf.Tensor, [rows, columns]: Pair): tf.Tensor {
  const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
  if (height === rows && width === columns) return images;
  const cells = tf.reshape(images, [batch * channels, rows, height / rows, columns, width / columns]);
  return tf.reshape(tf.mean(cells, [2, 4]), [batch, channels, rows, columns]);
}

/** Per channel constants [1, C, 1, 1]. */
function planes(values: readonly number[]): tf.Tensor {
  return tf.tensor(values as number[], [1, values.length, 1, 1], 'float32');
}

/** Raw colours, or colours at a lower resolution. */
class RgbTarget implements Target {
  readonly classes = false;

  constructor(
    readonly resolution: [number, number],
    readonly values: number,
  ) {}

  make(images: tf.Tensor): tf.Tensor {
    return areaMean(images, this.resolution);
  }

  picture(pred: tf.Tensor): tf.Tensor {
    return pixelShuffle(pred, this.resolution[0] / (pred.shape[1] as number));
  }
}

/** MAE's target: each patch less its mean, over its deviation (unbiased, all channels together). */
class PatchNormalisedTarget extends RgbTarget {
  constructor(
    resolution: [number, number],
    channels: number,
    private readonly size: number,
  ) {
    super(resolution, channels);
    if (resolution[0] % size !== 0 || resolution[1] % size !== 0) {
      refuse(`size is ${size}, expected a divisor of the ${resolution[0]}x${resolution[1]} target: patches tile it`);
    }
    if (size * size * channels < 2) refuse('size is 1 with one channel: a single value has no deviation');
  }

  override make(images: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
      const p = this.size;
      const x = tf.reshape(images, [batch, channels, height / p, p, width / p, p]);
      const centred = tf.sub(x, tf.mean(x, [1, 3, 5], true));
      const variance = tf.div(tf.sum(tf.square(centred), [1, 3, 5], true), channels * p * p - 1);
      return tf.reshape(tf.div(centred, tf.sqrt(tf.add(variance, VARIANCE_EPS))), images.shape);
    });
  }
}

/** Band matrix [n, n]: 1 where |i - j| <= reach. A product with it sums each neighbourhood. */
function band(n: number, reach: number): tf.Tensor {
  const values = new Float32Array(n * n);
  for (let i = 0; i < n; i++) values.fill(1, i * n + Math.max(0, i - reach), i * n + Math.min(n, i + reach + 1));
  return tf.tensor2d(values, [n, n]);
}

/** SwinV2's target: (x - mean) / sqrt(var + 1e-6) over the neighbourhood inside the image, unbiased variance clamped at 0. */
class WindowNormalisedTarget extends RgbTarget {
  private readonly across: Constant;
  private readonly down: Constant;
  private readonly count: Constant;

  constructor(resolution: [number, number], channels: number, size: number) {
    super(resolution, channels);
    if (size % 2 !== 1 || size < 3) refuse(`size is ${size}, expected an odd number of at least 3: the window is centred on its pixel`);
    const [height, width] = resolution;
    const reach = (size - 1) / 2;
    this.across = new Constant(() => band(width, reach));
    this.down = new Constant(() => band(height, reach));
    this.count = new Constant(() => {
      const inside = (i: number, n: number): number => Math.min(n, i + reach + 1) - Math.max(0, i - reach);
      const counts = Float32Array.from({ length: height * width }, (_, k) => inside(Math.floor(k / width), height) * inside(k % width, width));
      return tf.tensor(counts, [1, 1, height, width]);
    });
  }

  override make(images: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const count = this.count.value;
      const mean = tf.div(this.windowSum(images), count);
      const meanOfSquares = tf.div(this.windowSum(tf.square(images)), count);
      const biased = tf.sub(meanOfSquares, tf.square(mean));
      const variance = tf.relu(tf.mul(biased, tf.div(count, tf.sub(count, 1))));
      return tf.div(tf.sub(images, mean), tf.sqrt(tf.add(variance, VARIANCE_EPS)));
    });
  }

  /** Sum over each pixel's window: [B, C, H, W] -> the same. */
  private windowSum(x: tf.Tensor): tf.Tensor {
    const [batch = 0, channels = 0, height = 0, width = 0] = x.shape;
    const rows = tf.matMul(tf.reshape(x, [-1, width]) as tf.Tensor2D, this.across.value as tf.Tensor2D);
    const turned = tf.transpose(tf.reshape(rows, [batch * channels, height, width]), [0, 2, 1]);
    const sums = tf.matMul(tf.reshape(turned, [-1, height]) as tf.Tensor2D, this.down.value as tf.Tensor2D);
    return tf.reshape(tf.transpose(tf.reshape(sums, [batch * channels, width, height]), [0, 2, 1]), x.shape);
  }
}

/** Images [B, C, H, W] back in [0, 1], rounded to 8 bits: what the classes are defined on. */
function eightBit(images: tf.Tensor, mean: Constant, std: Constant): tf.Tensor {
  const unit = tf.add(tf.mul(images, std.value), mean.value);
  return tf.clipByValue(tf.round(tf.mul(unit, 255)), 0, 255);
}

/** The class with the largest logit: pred [B, h, w, G K r r] -> int32 [B, G, R, S]. */
function bestClass(pred: tf.Tensor, groups: number, count: number, [height, width]: Pair): tf.Tensor {
  const logits = pixelShuffle(pred, height / (pred.shape[1] as number));
  return tf.argMax(tf.reshape(logits, [-1, groups, count, height, width]), 2);
}

/** Equal bins of each channel's 8-bit value: class floor(u8 * K / 256). */
class BinTarget implements Target {
  readonly classes = true;
  readonly values: number;
  private readonly mean: Constant;
  private readonly std: Constant;

  constructor(
    readonly resolution: [number, number],
    private readonly channels: number,
    private readonly bins: number,
    statistics: ImageStatistics,
  ) {
    if (!Number.isInteger(bins) || bins < 2 || bins > 256) refuse(`bins is ${bins}, expected a whole number from 2 to 256`);
    this.values = channels * bins;
    this.mean = new Constant(() => planes(statistics.mean));
    this.std = new Constant(() => planes(statistics.std));
  }

  make(images: tf.Tensor): tf.Tensor {
    return tf.tidy(() => tf.cast(tf.floor(tf.mul(eightBit(areaMean(images, this.resolution), this.mean, this.std), this.bins / 256)), 'int32'));
  }

  picture(pred: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const unit = tf.div(tf.add(tf.cast(bestClass(pred, this.channels, this.bins, this.resolution), 'float32'), 0.5), this.bins);
      return tf.div(tf.sub(unit, this.mean.value), this.std.value);
    });
  }
}

/** The nearest palette colour of each pixel. */
class ClusterTarget implements Target {
  readonly classes = true;
  readonly values: number;
  private readonly mean: Constant;
  private readonly std: Constant;
  private readonly colours: Constant;
  /** Twice the centred colours [C, K] and their squared lengths [1, K]. */
  private readonly directions: Constant;
  private readonly lengths: Constant;

  constructor(
    readonly resolution: [number, number],
    channels: number,
    palette: readonly (readonly number[])[],
    statistics: ImageStatistics,
  ) {
    if (palette.length < 2) refuse(`palette has ${palette.length} colours, expected at least 2`);
    const odd = palette.find((colour) => colour.length !== channels || colour.some((v) => !(v >= 0 && v <= 1)));
    if (odd) refuse(`palette has the colour [${odd.join(', ')}], expected ${channels} values between 0 and 1, one for each channel`);
    this.values = palette.length;
    this.mean = new Constant(() => planes(statistics.mean));
    this.std = new Constant(() => planes(statistics.std));
    const centred = palette.map((colour) => colour.map((v) => v - 0.5));
    this.colours = new Constant(() => tf.tensor2d(palette.map((c) => [...c])));
    this.directions = new Constant(() => tf.tensor2d(Array.from({ length: channels }, (_, c) => centred.map((colour) => 2 * (colour[c] as number)))));
    this.lengths = new Constant(() => tf.tensor2d([centred.map((colour) => colour.reduce((sum, v) => sum + v * v, 0))]));
  }

  make(images: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const unit = tf.div(eightBit(areaMean(images, this.resolution), this.mean, this.std), 255);
      const batch = unit.shape[0] as number;
      // One image at a time: K scores for each pixel of a batch would not fit.
      return tf.concat(Array.from({ length: batch }, (_, b) => this.nearest(tf.slice(unit, [b, 0, 0, 0], [1, -1, -1, -1]))));
    });
  }

  /** argmax of 2 x.c - |c|^2, around the middle grey to keep rounding small: [1, C, R, S] -> int32 [1, 1, R, S]. */
  private nearest(unit: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const [, channels = 0, height = 0, width = 0] = unit.shape;
      const x = tf.sub(tf.transpose(tf.reshape(unit, [channels, height * width])), 0.5) as tf.Tensor2D;
      const scores = tf.sub(tf.matMul(x, this.directions.value as tf.Tensor2D), this.lengths.value);
      return tf.reshape(tf.argMax(scores, 1), [1, 1, height, width]);
    });
  }

  picture(pred: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const best = tf.squeeze(bestClass(pred, 1, this.values, this.resolution), [1]) as tf.Tensor3D;
      const unit = tf.transpose(tf.gather(this.colours.value, best), [0, 3, 1, 2]);
      return tf.div(tf.sub(unit, this.mean.value), this.std.value);
    });
  }
}

/** Ids of a visual tokenizer. */
class TokenTarget implements Target {
  readonly classes = true;

  constructor(
    readonly resolution: [number, number],
    readonly values: number,
    private readonly tokenizer?: VisualTokenizer,
  ) {
    if (tokenizer && tokenizer.size !== values) refuse(`vocabulary is ${values}, but the tokenizer has ${tokenizer.size} tokens`);
    if (!Number.isInteger(values) || values < 2) refuse(`vocabulary is ${values}, expected a whole number of at least 2`);
  }

  make(images: tf.Tensor, given?: tf.Tensor): tf.Tensor {
    const tokens = given ?? this.found(images);
    const shape = [images.shape[0] as number, ...this.resolution];
    if (!tokens) refuse(`a token target needs the batch's tokens, int32 [${shape.join(', ')}]`);
    if (tokens.shape.length !== 3 || shape.some((n, axis) => tokens.shape[axis] !== n)) {
      refuse(`tokens are [${tokens.shape.join(', ')}], expected [${shape.join(', ')}] = [B, rows, columns]`);
    }
    return tf.reshape(tokens, [shape[0] as number, 1, ...this.resolution]);
  }

  private found(images: tf.Tensor): tf.Tensor | undefined {
    if (!this.tokenizer) return undefined;
    const { patch } = this.tokenizer;
    return this.tokenizer.tokens(areaMean(images, [this.resolution[0] * patch, this.resolution[1] * patch]));
  }

  picture(pred: tf.Tensor): tf.Tensor {
    if (this.tokenizer) return this.tokenizer.picture(tf.squeeze(bestClass(pred, 1, this.values, this.resolution), [1]));
    return refuse('token ids have no picture without their decoder');
  }
}

function resolutionOf(spec: TargetSpec, [height, width]: Pair): [number, number] {
  const given = spec.resolution ?? [height, width];
  const [rows, columns] = typeof given === 'number' ? [given, given] : given;
  if (!(rows >= 1 && columns >= 1) || height % rows !== 0 || width % columns !== 0 || height / rows !== width / columns) {
    refuse(`resolution is ${rows}x${columns}, expected one that divides the image ${height}x${width} by the same whole number in both directions`);
  }
  return [rows, columns];
}

/** Refuses a grid of tokens whose cells are no whole number of times larger than the tokenizer's. */
function checkCells({ tokenizer }: { tokenizer?: VisualTokenizer }, [rows, columns]: Pair, [height, width]: Pair): void {
  if (!tokenizer || (height % (rows * tokenizer.patch) === 0 && width % (columns * tokenizer.patch) === 0)) return;
  refuse(`resolution is ${rows}x${columns} tokens of ${tokenizer.patch} px, but the image of ${height}x${width} is no whole number of times larger`);
}

/**
 * The target of `spec` for images of a size and number of channels. `statistics` are those of the images'
 * normalisation (default: ImageNet's for 3 channels, else images are taken to be in [0, 1]).
 * Throws `invalid_argument` for values that do not fit.
 */
export function createTarget(spec: TargetSpec, imageSize: Pair, channels: number, statistics?: ImageStatistics): Target {
  const known = statistics ?? (channels === 3 ? IMAGENET : { mean: new Array<number>(channels).fill(0), std: new Array<number>(channels).fill(1) });
  if (known.mean.length !== channels || known.std.length !== channels) {
    refuse(`statistics have ${known.mean.length} means and ${known.std.length} deviations, expected ${channels}, one for each channel`);
  }
  const resolution = resolutionOf(spec, imageSize);
  switch (spec.kind) {
    case 'bins':
      return new BinTarget(resolution, channels, spec.bins, known);
    case 'clusters':
      return new ClusterTarget(resolution, channels, spec.palette, known);
    case 'tokens':
      checkCells(spec, resolution, imageSize);
      return new TokenTarget(resolution, spec.vocabulary, spec.tokenizer);
    case 'rgb':
      break;
    default:
      refuse(`kind is '${String((spec as { kind: unknown }).kind)}', expected rgb, bins, clusters or tokens`);
  }
  if (spec.normalise === undefined) return new RgbTarget(resolution, channels);
  if (resolution[0] !== imageSize[0]) refuse(`normalised targets are defined at full size, but resolution is ${resolution.join('x')}`);
  if (spec.normalise === 'patch') return new PatchNormalisedTarget(resolution, channels, spec.size ?? 16);
  if (spec.normalise === 'window') return new WindowNormalisedTarget(resolution, channels, spec.size ?? 47);
  return refuse(`normalise is '${String(spec.normalise)}', expected 'patch' or 'window'`);
}
