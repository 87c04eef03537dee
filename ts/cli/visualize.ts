import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { writeWhole } from '../formats/whole_file';
import { factList, figureHtml, htmlPage } from '../report/page';
import { figurePng, type Figure } from '../report/pictures';
import { shownPictures, underOwnMasks } from '../report/shown_pictures';
import { checkpointsFolder, type Checkpoint, latestCheckpoint, openCheckpoint, recipeOf, restoreBuffers } from '../train/checkpoint';
import { type BuiltModel, buildBuffers, buildModel } from '../train/model_build';
import { type Recipe, imageSizeOf } from '../train/recipe';
import { useBackend } from './backend';

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
  const recipe = recipeOf(checkpoint, 'pretrain');
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

const COLUMNS = ['original', 'masked', 'reconstruction', 'with visible pixels'];

/**
 * Writes STEM.png and STEM.html of reconstructions of held-out pictures (or of `images`); returns both paths.
 * An ending .png or .html of the stem is dropped.
 */
export async function writePictures(built: BuiltModel, recipe: Recipe, stem: string, options: Pick<VisualizeOptions, 'images' | 'count' | 'seed'>, facts: Record<string, string>): Promise<[string, string]> {
  const size = imageSizeOf(recipe);
  const found = underOwnMasks(built, await shownPictures(recipe, options.images, options.count), options.seed ?? recipe.train.seed);
  const figure: Figure = { title: '', caption: '', size, headings: COLUMNS, rows: found.map((r) => ({ name: r.name, cells: [r.original, r.masked, r.predicted, r.pasted] })) };
  const base = stem.replace(/\.(png|html)$/, '');
  writeWhole(`${base}.png`, 'visualize', await figurePng(figure));
  const list = factList({ ...facts, encoder: recipe.model.encoder, 'image size': size.join(' x '), 'hidden share': built.masking.ratio.toFixed(3) });
  writeWhole(`${base}.html`, 'visualize', htmlPage(`SimMIM: ${recipe.name}`, [{ title: '', content: `${list}\n${await figureHtml(figure)}` }]));
  return [`${base}.png`, `${base}.html`];
}
