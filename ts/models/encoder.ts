import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { Context } from '../nn/context';
import type { AlikeTokens } from '../nn/layers';

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
   * null. Returns [B, H/stride, W/stride, C]; with `hiddenOnly` positions of which nothing is hidden may have any finite values, and no
   * gradient. Throws `invalid_argument` on any other shape.
   */
  forward(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context, hiddenOnly?: boolean): tf.Tensor;
  /** Outputs of each stage (Swin, SwinV2: before its patch merging) or block (ViT), as maps [B, h, w, C_i]. */
  features(images: tf.Tensor, ctx: Context): tf.Tensor[];
}

/** What is known of a block's tokens before they are computed. */
export interface KnownTokens {
  /** Which of those that enter are one and the same. */
  alike: AlikeTokens | null;
  /** Which of those that leave are. */
  next: AlikeTokens | null;
  /** [...], 0 where nobody asks for a token that leaves. */
  counted: tf.Tensor | null;
}

export const NOTHING_KNOWN: KnownTokens = { alike: null, next: null, counted: null };

/** What a checkpointed block takes of it as inputs: it may not hold on to other tensors. */
export const tensorsOf = ({ alike, next, counted }: KnownTokens): tf.Tensor[] => [...[alike, next].flatMap((a) => (a ? [a.others, a.row] : [])), ...(counted ? [counted] : [])];

/** The same knowledge as `known`, of these tensors in place of its own. */
export function knownBy(known: KnownTokens, tensors: readonly tf.Tensor[]): KnownTokens {
  const given = tensors.values();
  const take = (): tf.Tensor => given.next().value as tf.Tensor;
  const tokens = (own: AlikeTokens | null): AlikeTokens | null => own && { others: take(), row: take() };
  return { alike: tokens(known.alike), next: tokens(known.next), counted: known.counted && take() };
}

/** 1 where a map of h x w cells has hidden patches, by the mask [B, H/patch, W/patch], whose grid it divides, else 0: [B, h, w]. */
export function hiddenCells(mask: tf.Tensor, h: number, w: number): tf.Tensor {
  const [batch = 0, rows = 0, columns = 0] = mask.shape;
  return tf.ceil(rows === h && columns === w ? mask : tf.max(tf.reshape(mask, [batch, h, rows / h, w, columns / w]), [2, 4]));
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
