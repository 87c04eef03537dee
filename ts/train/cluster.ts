import { SimmimError } from '../errors';
import type { ImageStatistics } from '../image_statistics';
import { Rng } from '../rng';
import { imageSizeOf, statisticsOf, type Recipe } from './recipe';
import { openRunData } from './run_data';

/** Philox site of the choice of pixels and patches. */
const SITE = 0x636c7573;
/** Pictures read at a time. */
const BATCH = 16;
/** Most memory that a sample may take. */
export const MAX_SAMPLE_BYTES = 2 ** 31;

/** What to take from the pictures of a recipe. */
export interface SampleOptions {
  /** Side of a patch in pixels; 1 takes single pixels. */
  patch: number;
  /** Points wanted; fewer come back where the pictures do not hold as many. */
  samples: number;
  /** Pictures to look at, each under a random crop as in training; more than there are looks at some again. */
  views: number;
  seed: number;
}

/** Points for clustering. */
export interface PointSample {
  /** [n, d] with d = 3 patch^2, values in 0..1 of whole 8-bit steps; a patch is [3, patch, patch]. */
  points: Float32Array;
  /** d. */
  dimension: number;
  /** In words: what was looked at. */
  description: string;
}

/**
 * A random sample of pixels or patches (on the grid of patches) of a recipe's training pictures, cropped and resized as
 * in training. Depends on seed and data alone. Throws `invalid_argument` for patches that do not tile the image and for
 * samples that would not fit in 2 GiB.
 */
export async function samplePoints(recipe: Recipe, options: SampleOptions, onProgress: (views: number) => void): Promise<PointSample> {
  const { patch, samples, views, seed } = options;
  const [height, width] = imageSizeOf(recipe);
  if (height % patch !== 0 || width % patch !== 0) throw new SimmimError('invalid_argument', 'cluster', `patches of ${patch} px do not tile an image of ${height} x ${width}`);
  const cells = (height / patch) * (width / patch);
  const each = Math.min(cells, Math.ceil(samples / views));
  const dimension = 3 * patch * patch;
  const bytes = 4 * each * views * dimension;
  if (bytes > MAX_SAMPLE_BYTES) throw new SimmimError('invalid_argument', 'cluster', `${each * views} patches of ${patch} px take ${(bytes / 2 ** 30).toFixed(1)} GiB, expected at most ${MAX_SAMPLE_BYTES / 2 ** 30}: take fewer samples`);
  const data = openRunData({ ...recipe, data: { ...recipe.data, samplesPerEpoch: Math.ceil(views / BATCH) * BATCH }, train: { ...recipe.train, seed, batchSize: BATCH } });
  const points = new Float32Array(each * views * dimension);
  const source = data.openTrain(() => undefined);
  try {
    for (let view = 0; view < views;) {
      const { images } = await source.next();
      for (let b = 0; b < BATCH && view < views; b++, view++) {
        const image = images.subarray(b * 3 * height * width, (b + 1) * 3 * height * width);
        takePatches(image, [height, width], patch, chooseCells(cells, each, new Rng(seed, SITE, view)), statisticsOf(recipe), points.subarray(view * each * dimension));
      }
      onProgress(view);
    }
  } finally {
    await source.close();
  }
  return { points, dimension, description: `${each * views} ${patch === 1 ? 'pixels' : `patches of ${patch} px`} from ${views} random crops of the ${data.train.length} pictures in '${data.train.source}'` };
}

/** `some` different cells of `count`, at random (Floyd). */
function chooseCells(count: number, some: number, rng: Rng): number[] {
  const chosen = new Set<number>();
  for (let j = count - some; j < count; j++) {
    const t = rng.below(j + 1);
    chosen.add(chosen.has(t) ? j : t);
  }
  return [...chosen];
}

/** Copies cells of a normalised planar image [3, H, W] as values of 0..1. */
function takePatches(image: Float32Array, [height, width]: readonly [number, number], patch: number, cells: readonly number[], { mean, std }: ImageStatistics, out: Float32Array): void {
  const columns = width / patch;
  let at = 0;
  for (const cell of cells) {
    const [top, left] = [Math.floor(cell / columns) * patch, (cell % columns) * patch];
    for (let c = 0; c < 3; c++) {
      for (let y = top; y < top + patch; y++) {
        for (let x = left; x < left + patch; x++) out[at++] = Math.round(((image[(c * height + y) * width + x] as number) * (std[c] as number) + (mean[c] as number)) * 255) / 255;
      }
    }
  }
}
