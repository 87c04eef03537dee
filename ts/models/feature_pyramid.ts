import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { Context } from '../nn/context';
import type { Encoder } from './encoder';
import { VisionTransformer } from './vit';

/** Which maps of an encoder, and at which strides. */
export interface PyramidOptions {
  /**
   * Swin, SwinV2: stages from 0 (default: all). ViT: blocks from 0 (default: four, at the ends of the quarters of the
   * depth, as BEiT's and MAE's segmentation models take them).
   */
  levels?: readonly number[];
  /**
   * ViT with four levels: resample them to strides p/4, p/2, p and 2p of patch size p (bilinear x4 and x2, as it is, 2 x 2
   * maximum), without parameters. Default false: all have stride p.
   */
  resample?: boolean;
}

/** One map of the pyramid. */
export interface PyramidLevel {
  /** `layers.1` (a Swin stage, in front of its patch merging) or `blocks.5`. */
  name: string;
  /** Pixels per position. */
  stride: number;
  channels: number;
  /** [height, width] in positions. */
  size: [number, number];
}

const OP = 'featurePyramid';
/** Strides of a resampled ViT over its patch size. */
const RESAMPLED = [1 / 4, 1 / 2, 1, 2];

/** Names, strides, channels and sizes of the maps that {@link featurePyramid} gives; runs nothing. */
export function pyramidLevels(encoder: Encoder, options: PyramidOptions = {}): PyramidLevel[] {
  const maps = mapsOf(encoder);
  const chosen = options.levels ?? (encoder instanceof VisionTransformer ? [1, 2, 3, 4].map((q) => Math.ceil((q * maps.length) / 4) - 1) : maps.map((_, i) => i));
  const levels = chosen.map((i) => maps[i] ?? refuse(`level ${i} does not exist: ${encoder.name} has ${maps.length} (0 to ${maps.length - 1})`));
  if (!options.resample) return levels;
  if (!(encoder instanceof VisionTransformer)) refuse(`resample is for plain encoders: the stages of ${encoder.name} have their own strides`);
  if (levels.length !== RESAMPLED.length || encoder.patchSize % 4 !== 0) refuse(`resample needs four levels and a patch size that 4 divides, got ${levels.length} levels and patches of ${encoder.patchSize} px`);
  return levels.map((level, i) => {
    const factor = RESAMPLED[i] as number;
    return { ...level, stride: level.stride * factor, size: [Math.ceil(level.size[0] / factor), Math.ceil(level.size[1] / factor)] };
  });
}

/**
 * The encoder's intermediate maps for detection and segmentation: for each level a tensor [B, height, width, channels],
 * not normalised (detectors put a norm of their own behind each). images [B, inChannels, H, W].
 *
 * ```ts
 * const maps = featurePyramid(createEncoder('swin_tiny', { imageSize: [256, 384] }), images, ctx); // strides 4, 8, 16, 32
 * ```
 * Throws `invalid_argument` for levels that do not exist and images of another shape.
 */
export function featurePyramid(encoder: Encoder, images: tf.Tensor, ctx: Context, options: PyramidOptions = {}): tf.Tensor[] {
  const levels = pyramidLevels(encoder, options);
  return tf.tidy(() => {
    const maps = encoder.features(images, ctx);
    const names = mapsOf(encoder).map(({ name }) => name);
    return levels.map(({ name, size }, i) => {
      const map = maps[names.indexOf(name)] as tf.Tensor4D;
      const factor = options.resample ? (RESAMPLED[i] as number) : 1;
      if (factor < 1) return tf.image.resizeBilinear(map, size, false, true);
      return factor > 1 ? tf.maxPool(map, factor, factor, 'same') : map.clone();
    });
  });
}

/** Every map that `encoder.features` gives. */
function mapsOf(encoder: Encoder): PyramidLevel[] {
  const at = (stride: number): [number, number] => [encoder.imageSize[0] / stride, encoder.imageSize[1] / stride];
  if (encoder instanceof VisionTransformer) return encoder.blocks.map((_, i) => ({ name: `blocks.${i}`, stride: encoder.patchSize, channels: encoder.channels, size: at(encoder.patchSize) }));
  const { layers } = encoder as Encoder & { layers: readonly unknown[] };
  return layers.map((_, i) => {
    const stride = encoder.patchSize * 2 ** i;
    return { name: `layers.${i}`, stride, channels: encoder.channels / 2 ** (layers.length - 1 - i), size: at(stride) };
  });
}

function refuse(message: string): never {
  throw new SimmimError('invalid_argument', OP, message);
}

