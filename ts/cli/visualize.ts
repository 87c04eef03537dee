import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openImageFolder, openPipeline, type BatchSource } from '../data';
import { SimmimError } from '../errors';
import { checkpointsFolder, type Checkpoint, latestCheckpoint, openCheckpoint, restoreBuffers } from '../train/checkpoint';
import { type BuiltModel, buildBuffers, buildModel } from '../train/model_build';
import { type Recipe, imageSizeOf } from '../train/recipe';
import { openRunData } from '../train/run_data';
import { useBackend } from './backend';
import { type PictureRow, pictureRows, writeGrid, writePage } from './pictures';

/** Options of `simmim visualize`. */
export interface VisualizeOptions {
  images?: string;
  out?: string;
  count: number;
  seed?: number;
  backend: string;
}

/** `simmim visualize RUN`: pictures of what a checkpoint reconstructs. `run` is a run's folder or one checkpoint's. */
export async function visualize(run: string, options: VisualizeOptions, print: (line: string) => void): Promise<void> {
  const checkpoint = findCheckpoint(run, print);
  const { recipe } = checkpoint.state;
  await useBackend(options.backend);
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  restoreBuffers(checkpoint, buffers);
  const files = await writePictures(built, recipe, options.out ?? join(checkpoint.folder, 'reconstruction'), options, { checkpoint: checkpoint.folder, updates: String(checkpoint.state.position.update) });
  buffers.dispose();
  for (const file of files) print(`wrote ${file}`);
}

function findCheckpoint(run: string, warn: (line: string) => void): Checkpoint {
  if (!existsSync(run)) throw new SimmimError('not_found', 'visualize', `no folder '${run}'`);
  if (existsSync(join(run, 'state.json'))) return openCheckpoint(run);
  const latest = latestCheckpoint(checkpointsFolder(run), warn);
  if (!latest) throw new SimmimError('not_found', 'visualize', `'${run}' holds no checkpoint: give the --out folder of a run, or one folder in its checkpoints/`);
  return latest;
}

/**
 * Writes STEM.png and STEM.html of reconstructions of held-out pictures (or of `images`); returns both paths.
 * An ending .png or .html of the stem is dropped.
 */
export async function writePictures(built: BuiltModel, recipe: Recipe, stem: string, options: Pick<VisualizeOptions, 'images' | 'count' | 'seed'>, facts: Record<string, string>): Promise<[string, string]> {
  const size = imageSizeOf(recipe);
  const seed = options.seed ?? recipe.train.seed;
  const source = openPictures(recipe, options.images, options.count);
  const rows: PictureRow[] = [];
  try {
    for (let i = 0; rows.length < options.count && i < source.batchesPerEpoch; i++) {
      rows.push(...pictureRows(built, await source.next(), size, [seed, i, 0]).slice(0, options.count - rows.length));
    }
  } finally {
    await source.close();
  }
  const base = stem.replace(/\.(png|html)$/, '');
  mkdirSync(dirname(base), { recursive: true });
  await writeGrid(`${base}.png`, rows, size);
  await writePage(`${base}.html`, rows, size, `SimMIM: ${recipe.name}`, { ...facts, encoder: recipe.model.encoder, 'image size': size.join(' x '), 'hidden share': built.masking.ratio.toFixed(3) });
  return [`${base}.png`, `${base}.html`];
}

function openPictures(recipe: Recipe, folder: string | undefined, count: number): BatchSource {
  if (folder === undefined) {
    const held = openRunData(recipe).openValidation();
    if (held) return held;
    throw new SimmimError('invalid_argument', 'visualize', 'the run has no validation pictures: give a folder with --images');
  }
  const dataset = openImageFolder(folder, { classes: 'none' });
  const batchSize = Math.min(count, dataset.length);
  return openPipeline(dataset, { transform: { size: imageSizeOf(recipe), crop: 'center', interpolation: 'bicubic' }, batchSize, workers: 0, shuffle: false, dropLast: false, seed: 0 });
}
