import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { Context } from '../nn/context';

/** [height, width]. */
export type Pair = readonly [number, number];

/** What SimMIM, probes and classifiers ask of a backbone. */
export interface Encoder {
  /** Preset or family name, for messages. */
  readonly name: string;
  /** Channels C of the output. */
  readonly channels: number;
  /** Pixels per output position. */
  readonly stride: number;
  readonly patchSize: number;
  readonly inChannels: number;
  /** [height, width] in pixels. */
  readonly imageSize: [number, number];
  /**
   * images [B, inChannels, H, W], planar and normalised; mask [B, H/patch, W/patch] float32, 1 = hidden, or
   * null. Returns [B, H/stride, W/stride, C]. Throws `invalid_argument` on any other shape.
   */
  forward(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context): tf.Tensor;
  /** Outputs of each stage (Swin, SwinV2: before its patch merging) or block (ViT), as maps [B, h, w, C_i]. */
  features(images: tf.Tensor, ctx: Context): tf.Tensor[];
}

/** One number for a square, or [height, width]. */
export function pair(size: number | Pair): [number, number] {
  return typeof size === 'number' ? [size, size] : [size[0], size[1]];
}

/** The grid of patches; throws when the patch does not divide the image. */
export function patchGrid(op: string, [height, width]: Pair, patchSize: number): [number, number] {
  if (height % patchSize !== 0 || width % patchSize !== 0) {
    throw new SimmimError('invalid_argument', op, `imageSize ${height}x${width} is not a multiple of patchSize ${patchSize}, so patches cannot cover it`);
  }
  return [height / patchSize, width / patchSize];
}

/** Throws unless images are [B, inChannels, H, W] and mask is null or [B, H/patch, W/patch], for this encoder. */
export function checkInputs(encoder: Encoder, images: tf.Tensor, mask: tf.Tensor | null): void {
  const [height, width] = encoder.imageSize;
  const expected = [encoder.inChannels, height, width];
  if (images.rank !== 4 || expected.some((n, axis) => images.shape[axis + 1] !== n)) {
    throw new SimmimError('invalid_argument', encoder.name, `images are [${images.shape.join(', ')}], expected [B, ${expected.join(', ')}] = [B, inChannels, height, width]`);
  }
  if (!mask) return;
  const cells = [images.shape[0], height / encoder.patchSize, width / encoder.patchSize];
  if (mask.rank !== 3 || cells.some((n, axis) => mask.shape[axis] !== n)) {
    throw new SimmimError('invalid_argument', encoder.name, `mask is [${mask.shape.join(', ')}], expected [${cells.join(', ')}] = [B, H/${encoder.patchSize}, W/${encoder.patchSize}]`);
  }
}

/** Throws unless every head gets the same whole number of channels. */
export function checkHeads(op: string, channels: number, heads: number, where: string): void {
  if (channels % heads !== 0) {
    throw new SimmimError('invalid_argument', op, `${where} has ${channels} channels, which ${heads} heads cannot share evenly`);
  }
}
