import * as tf from '@tensorflow/tfjs-core';
import sharp from 'sharp';
import type { Normalisation } from '../data';
import type { Context } from '../nn/context';
import type { BuiltModel } from '../train/model_build';

/** One picture as interleaved RGB bytes, H * W * 3. */
export type Rgb = Uint8Array;

/** Rows of equally large pictures under headings. */
export interface Figure {
  title: string;
  /** What is to be seen, for the reader. */
  caption: string;
  /** One heading for each column. */
  headings: readonly string[];
  rows: readonly { name: string; cells: readonly Rgb[] }[];
  /** [height, width] of every picture. */
  size: readonly [number, number];
}

/** A batch of pictures on the host: [count, 3, height, width], planar and normalised. */
export interface Pictures {
  images: Float32Array;
  files: readonly string[];
}

/** What a model makes of one picture under one mask. */
export interface Reconstruction {
  name: string;
  original: Rgb;
  /** Hidden parts grey. */
  masked: Rgb;
  /** The model's output everywhere. */
  predicted: Rgb;
  /** The model's output where hidden, else the original. */
  pasted: Rgb;
}

/** Colour of hidden pixels. */
const GREY = 128;
const GAP = 4;
/** Small pictures are enlarged by whole factors to about this size, and to less in figures of many columns. */
const SHOWN_SIZE = 160;
const SHOWN_SIZE_OF_MANY = 112;
const MANY_COLUMNS = 7;

/** Reconstructs pictures [count, 3, H, W] under masks [count, H/patch, W/patch] (1 = hidden) of the model's patches. */
export function reconstruct({ model, statistics }: BuiltModel, { images, files }: Pictures, hidden: Float32Array): Reconstruction[] {
  const [height, width] = model.encoder.imageSize;
  const patch = model.encoder.patchSize;
  const [rows, columns] = [height / patch, width / patch];
  const values = 3 * height * width;
  let predicted = new Float32Array(0); // not returned: tf.tidy would search typed arrays for tensors, element by element
  tf.tidy(() => {
    const ctx: Context = { training: false, precision: 'f32', clock: tf.tensor1d(new Int32Array(4), 'int32') };
    const mask = tf.tensor(hidden, [files.length, rows, columns], 'float32');
    const made = model.reconstruct(tf.tensor(images, [files.length, 3, height, width], 'float32'), mask, ctx);
    predicted = new Float32Array(atFullSize(made, [height, width]).dataSync());
  });
  return files.map((name, b) => {
    const part = (all: Float32Array): Rgb => toRgb(all.subarray(b * values, (b + 1) * values), statistics);
    const [original, output] = [part(images), part(predicted)];
    const where = hiddenPixels(hidden.subarray(b * rows * columns, (b + 1) * rows * columns), [rows, columns], patch);
    return { name, original, masked: greyed(original, where), predicted: output, pasted: original.map((v, i) => (where[Math.floor(i / 3)] ? (output[i] as number) : v)) };
  });
}

/** Which of the H * W pixels a mask of patches [rows, columns] hides. */
export function hiddenPixels(mask: ArrayLike<number>, [rows, columns]: readonly [number, number], patch: number): boolean[] {
  const width = columns * patch;
  return Array.from({ length: rows * patch * width }, (_, i) => mask[Math.floor(Math.floor(i / width) / patch) * columns + Math.floor((i % width) / patch)] === 1);
}

/** A picture with its hidden pixels grey. */
export function greyed(picture: Rgb, hidden: readonly boolean[]): Rgb {
  return picture.map((v, i) => (hidden[Math.floor(i / 3)] ? GREY : v));
}

/** A picture [B, C, R, S] of lower resolution with its pixels repeated to [B, C, H, W]. */
function atFullSize(picture: tf.Tensor, [height, width]: readonly [number, number]): tf.Tensor {
  const [batch = 0, channels = 0, rows = 0, columns = 0] = picture.shape;
  if (rows === height && columns === width) return picture;
  const spread = tf.mul(tf.reshape(picture, [batch, channels, rows, 1, columns, 1]), tf.ones([1, 1, 1, height / rows, 1, width / columns]));
  return tf.reshape(spread, [batch, channels, height, width]);
}

/** Planar normalised values to interleaved bytes. */
export function toRgb(planar: Float32Array, { mean, std }: Normalisation): Rgb {
  const pixels = planar.length / 3;
  const out = new Uint8Array(planar.length);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < pixels; i++) {
      const value = ((planar[c * pixels + i] as number) * (std[c] as number) + (mean[c] as number)) * 255;
      out[i * 3 + c] = Math.max(0, Math.min(255, Math.round(value)));
    }
  }
  return out;
}

/** The whole factor by which the pictures of a figure are enlarged for showing. */
export function enlargement({ size: [height, width], headings }: Pick<Figure, 'size' | 'headings'>): number {
  return Math.max(1, Math.round((headings.length > MANY_COLUMNS ? SHOWN_SIZE_OF_MANY : SHOWN_SIZE) / Math.max(height, width)));
}

/** A picture as PNG, enlarged by a whole factor without smoothing. */
export function png(rgb: Rgb, [height, width]: readonly [number, number], scale = 1): Promise<Buffer> {
  return sharp(rgb, { raw: { width, height, channels: 3 } }).resize(width * scale, height * scale, { kernel: 'nearest' }).png().toBuffer();
}

/** All pictures of a figure in one PNG, without words. */
export async function figurePng(figure: Figure): Promise<Buffer> {
  const { rows, size, headings } = figure;
  const scale = enlargement(figure);
  const [h, w] = [size[0] * scale + GAP, size[1] * scale + GAP];
  const tiles = await Promise.all(rows.flatMap((row, y) => row.cells.map(async (rgb, x) => ({ input: await png(rgb, size, scale), top: GAP + y * h, left: GAP + x * w }))));
  return sharp({ create: { width: GAP + headings.length * w, height: GAP + rows.length * h, channels: 3, background: '#ffffff' } }).composite(tiles).png().toBuffer();
}
