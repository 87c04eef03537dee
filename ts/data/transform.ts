/**
 * From a decoded picture of any size to a network input: which rectangle to take (RandomResizedCrop of
 * torchvision, or the evaluation's resize and centre crop) from given random draws.
 */
import { SimmimError } from '../errors';
import { IMAGENET } from '../image_statistics';
import { erasing, type Erasing, type ErasingOptions } from './erasing';
import { roundHalfEven, type Uniform } from './draws';
import { randAugment, type RandAugment, type RandAugmentOptions } from './rand_augment';
import type { Box, Interpolation, Normalisation, ResampleGeometry } from './resample';

/** How pictures become inputs. Ranges are inclusive; sizes in pixels. */
export interface TransformOptions {
  /** [H, W] of the result. */
  size: readonly [number, number];
  /**
   * `random`: RandomResizedCrop and flip; `center`: resize and centre crop; `padded`: resize and centre crop without margin, then
   * 4 black pixels on every side and a random crop of the same size, and flip (timm's way with CIFAR, which the official
   * fine-tuning takes up to 32 px). Default `random`.
   */
  crop?: 'random' | 'center' | 'padded';
  /** Default bilinear for `random`, bicubic for the others (as the official pre-training and evaluation). */
  interpolation?: Interpolation;
  /** Share of the picture's area that a random crop covers. Default [0.67, 1]. */
  scale?: readonly [number, number];
  /** Width / height of a random crop. Default [3/4, 4/3]. */
  ratio?: readonly [number, number];
  /** Probability of mirroring left to right. Default 0 for `center`, 0.5 for the others. */
  flip?: number;
  /** `center`: the shorter side becomes int(resizeRatio * size) before the crop. Default 256 / 224. */
  resizeRatio?: number;
  /** Default ImageNet. */
  normalisation?: Normalisation;
  /** RandAugment after crop and flip, on 8 bits. Default off. */
  randAugment?: RandAugmentOptions | null;
  /** Strength of colour jitter after crop and flip; 0 is off. Default 0. */
  colorJitter?: number;
  /** Random erasing of the normalised image. Default off. */
  erasing?: ErasingOptions | null;
}

/** {@link TransformOptions} with every default filled in. */
export type Transform = Required<Omit<TransformOptions, 'randAugment' | 'erasing'>> & { randAugment: RandAugment | null; erasing: Erasing | null };

const OP = 'transform';
const bad = (message: string): SimmimError => new SimmimError('invalid_argument', OP, message);

function checkRange(name: string, [low, high]: readonly [number, number], limit: number): void {
  if (!(low > 0 && low <= high && high <= limit)) throw bad(`${name} is [${low}, ${high}], expected 0 < low <= high${limit === Infinity ? '' : ` <= ${limit}`}`);
}

/** Fills in the defaults and checks every value. Throws invalid_argument naming the option. */
export function transform(options: TransformOptions): Transform {
  const crop = options.crop ?? 'random';
  const t: Transform = {
    size: options.size,
    crop,
    interpolation: options.interpolation ?? (crop === 'random' ? 'bilinear' : 'bicubic'),
    scale: options.scale ?? [0.67, 1],
    ratio: options.ratio ?? [3 / 4, 4 / 3],
    flip: options.flip ?? (crop === 'center' ? 0 : 0.5),
    resizeRatio: options.resizeRatio ?? 256 / 224,
    normalisation: options.normalisation ?? IMAGENET,
    randAugment: options.randAugment ? randAugment(options.randAugment) : null,
    colorJitter: options.colorJitter ?? 0,
    erasing: options.erasing ? erasing(options.erasing) : null,
  };
  if (!t.size.every((n) => Number.isInteger(n) && n >= 1 && n <= 16384)) throw bad(`size is [${t.size.join(', ')}], expected two integers from 1 to 16384`);
  if (!['random', 'center', 'padded'].includes(t.crop)) throw bad(`crop is '${String(t.crop)}', expected 'random', 'center' or 'padded'`);
  if (t.interpolation !== 'bilinear' && t.interpolation !== 'bicubic') throw bad(`interpolation is '${String(t.interpolation)}', expected 'bilinear' or 'bicubic'`);
  checkRange('scale', t.scale, 1);
  checkRange('ratio', t.ratio, Infinity);
  if (!(t.flip >= 0 && t.flip <= 1)) throw bad(`flip is ${t.flip}, expected a probability from 0 to 1`);
  if (!(t.colorJitter >= 0 && t.colorJitter <= 1)) throw bad(`colorJitter is ${t.colorJitter}, expected a strength from 0 to 1`);
  if (!(t.resizeRatio >= 1 && t.resizeRatio <= 16)) throw bad(`resizeRatio is ${t.resizeRatio}, expected 1 to 16: the crop must fit into the resized picture`);
  if (!t.normalisation.std.every((s) => s > 0) || !t.normalisation.mean.every(Number.isFinite)) throw bad('normalisation needs three finite means and three positive stds');
  return t;
}

/** What evaluation resizes to before the central crop, over the crop's side: 256 / 224, and 1 for pictures of up to 32 px (official `build_transform`). */
export function usualResizeRatio(imageSize: readonly number[]): number {
  return Math.min(...imageSize) <= 32 ? 1 : 256 / 224;
}

/** Black pixels on each side of a `padded` picture. */
const PADDING = 4;
const ATTEMPTS = 10;

/**
 * The box of torchvision's RandomResizedCrop.get_params: up to 10 attempts (draws: area, log-ratio, and
 * when it fits top, left), then the largest central box with a ratio inside the range.
 */
export function randomResizedCrop(height: number, width: number, scale: readonly [number, number], ratio: readonly [number, number], uniform: Uniform): Box {
  const logLow = Math.log(ratio[0]);
  const logHigh = Math.log(ratio[1]);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const area = height * width * (scale[0] + (scale[1] - scale[0]) * uniform());
    const aspect = Math.exp(logLow + (logHigh - logLow) * uniform());
    const w = roundHalfEven(Math.sqrt(area * aspect));
    const h = roundHalfEven(Math.sqrt(area / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      const top = Math.floor(uniform() * (height - h + 1));
      const left = Math.floor(uniform() * (width - w + 1));
      return { top, left, height: h, width: w };
    }
  }
  let w = width;
  let h = height;
  if (width / height < ratio[0]) h = Math.max(1, roundHalfEven(width / ratio[0]));
  else if (width / height > ratio[1]) w = Math.max(1, roundHalfEven(height * ratio[1]));
  return { top: Math.floor((height - h) / 2), left: Math.floor((width - w) / 2), height: h, width: w };
}

function centerCrop(height: number, width: number, t: Transform, ratio = t.resizeRatio): ResampleGeometry {
  const [outHeight, outWidth] = t.size;
  const short = Math.trunc(ratio * Math.min(outHeight, outWidth));
  // A rectangular output needs both sides covered: scale up by what the shorter rule lacks.
  const byRule = height <= width ? [short, Math.trunc((short * width) / height)] : [Math.trunc((short * height) / width), short];
  const lack = Math.max(1, outHeight / (byRule[0] as number), outWidth / (byRule[1] as number));
  const resized: [number, number] = lack === 1 ? [byRule[0] as number, byRule[1] as number] : [Math.ceil((byRule[0] as number) * lack), Math.ceil((byRule[1] as number) * lack)];
  const top = roundHalfEven((resized[0] - outHeight) / 2);
  const left = roundHalfEven((resized[1] - outWidth) / 2);
  return { box: { top: 0, left: 0, height, width }, resized, window: { top, left, height: outHeight, width: outWidth }, flip: false, interpolation: t.interpolation };
}

/** A geometry, and by how many pixels [down, right] the result then moves over black. */
export interface DrawnGeometry extends ResampleGeometry {
  shift?: readonly [number, number];
}

/**
 * The geometry for a picture of height x width. Draws, in order: those of {@link randomResizedCrop}, or top and left of a `padded`
 * crop; then one for the flip (mirrored when below `flip`; not drawn when `flip` is 0).
 */
export function drawGeometry(height: number, width: number, t: Transform, uniform: Uniform): DrawnGeometry {
  const geometry = drawCrop(height, width, t, uniform);
  if (t.flip === 0) return geometry;
  const flip = uniform() < t.flip;
  // The mirror comes after the crop: a picture mirrored first moves the other way.
  return { ...geometry, flip, ...(flip && geometry.shift ? { shift: [geometry.shift[0], -geometry.shift[1]] } : {}) };
}

function drawCrop(height: number, width: number, t: Transform, uniform: Uniform): DrawnGeometry {
  if (t.crop === 'center') return centerCrop(height, width, t);
  if (t.crop === 'padded') {
    const [top, left] = [Math.floor(uniform() * (2 * PADDING + 1)), Math.floor(uniform() * (2 * PADDING + 1))];
    return { ...centerCrop(height, width, t, 1), shift: [PADDING - top, PADDING - left] };
  }
  return {
    box: randomResizedCrop(height, width, t.scale, t.ratio, uniform),
    resized: t.size,
    window: { top: 0, left: 0, height: t.size[0], width: t.size[1] },
    flip: false,
    interpolation: t.interpolation,
  };
}
