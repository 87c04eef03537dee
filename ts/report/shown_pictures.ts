import { openDataset, openPipeline, type BatchSource } from '../data';
import { SimmimError } from '../errors';
import type { BuiltModel } from '../train/model_build';
import { imageSizeOf, statisticsOf, type Recipe } from '../train/recipe';
import { openRunData } from '../train/run_data';
import { reconstruct, type Pictures, type Reconstruction } from './pictures';

/** Pictures that go through the model at a time. */
const CHUNK = 16;

/** The first `count` held-out pictures of a run, or of a dataset instead. Throws `invalid_argument` when there are none. */
export async function shownPictures(recipe: Recipe, images: string | undefined, count: number): Promise<Pictures> {
  const source = openPictures(recipe, images, count);
  const files: string[] = [];
  const parts: Float32Array[] = [];
  try {
    for (let i = 0; files.length < count && i < source.batchesPerEpoch; i++) {
      const batch = await source.next();
      const taken = Math.min(batch.files.length, count - files.length);
      files.push(...batch.files.slice(0, taken));
      parts.push(batch.images.subarray(0, (batch.images.length / batch.files.length) * taken));
    }
  } finally {
    await source.close();
  }
  const all = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return { images: all, files };
}

function openPictures(recipe: Recipe, images: string | undefined, count: number): BatchSource {
  if (images === undefined) {
    const held = openRunData(recipe).openValidation();
    if (held) return held;
    throw new SimmimError('invalid_argument', 'visualize', 'the run has no validation pictures: give a folder with --images');
  }
  const dataset = openDataset(images, { classes: 'none' });
  const transform = { size: imageSizeOf(recipe), normalisation: statisticsOf(recipe), crop: 'center', interpolation: 'bicubic' } as const;
  return openPipeline(dataset, { transform, batchSize: Math.min(count, dataset.length), workers: 0, shuffle: false, dropLast: false, seed: 0 });
}

/** Reconstructs pictures under the run's own masks: those of (seed, 0), (seed, 1), ... for each sixteen of them. */
export function underOwnMasks(built: BuiltModel, pictures: Pictures, seed: number): Reconstruction[] {
  return inChunks(pictures, (part, i) => reconstruct(built, part, built.masking.onHost({ seed, step: i, micro: 0 }, part.files.length)));
}

/** Calls `work` for each sixteen pictures and joins the results. */
export function inChunks<T>({ images, files }: Pictures, work: (part: Pictures, index: number) => T[]): T[] {
  const values = images.length / files.length;
  const results: T[] = [];
  for (let from = 0; from < files.length; from += CHUNK) {
    const to = Math.min(files.length, from + CHUNK);
    results.push(...work({ images: images.subarray(from * values, to * values), files: files.slice(from, to) }, from / CHUNK));
  }
  return results;
}
