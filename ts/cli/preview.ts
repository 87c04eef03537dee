import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { Sampler, type BatchSource } from '../data';
import { SimmimError } from '../errors';
import { writeWhole } from '../formats/whole_file';
import { factList, figureHtml, htmlPage } from '../report/page';
import { figurePng, greyed, hiddenPixels, toRgb, type Figure } from '../report/pictures';
import { Masking } from '../simmim';
import { imageSizeOf, statisticsOf, type Recipe } from '../train/recipe';
import { loadFinetune, loadRecipe, recipeTask } from '../train/recipe_files';
import { openRunData } from '../train/run_data';
import { maskStrategy, modelPatch, withMaskGrid } from '../train/task';
import { collect, wholeNumber, wholeOrZero } from './arguments';
import { useBackend } from './backend';
import { writeFinetunePreview } from './preview_finetune';

/** Options of `simmim preview`. */
interface Options {
  recipe?: string;
  data?: string;
  set: string[];
  count: number;
  draws: number;
  epoch: number;
  out: string;
  backend: string;
}

/** Adds `simmim preview` to the command line. */
export function registerPreview(cli: Command, print: (line: string) => void): Command {
  return cli.command('preview')
    .description('show what training really sees: the first pictures of an epoch after crop, flip and normalisation and under their masks, or for fine-tuning after augmentation and mixing, as PNG and HTML')
    .option('--recipe <name>', "recipe of the package (see 'simmim recipes') or a .yaml file")
    .option('--data <folder>', 'folder of pictures (train/ and val/ inside it are used as such); for fine-tuning labelled ones')
    .option('--set <key=value>', 'override one value of the recipe; may be repeated', collect, [])
    .option('--count <n>', 'number of pictures', wholeNumber, 8)
    .option('--draws <n>', 'pre-training: epochs to show of the same pictures: each crops and hides anew', wholeNumber, 3)
    .option('--epoch <n>', 'epoch to begin with, from 0', wholeOrZero, 0)
    .option('--out <path>', 'PATH.png and PATH.html are written', 'preview')
    .option('--backend <name>', 'tfjs backend', 'simmim-cpu')
    .action((options: Options) => preview(options, print));
}

/** `simmim preview --recipe NAME`. */
async function preview(options: Options, print: (line: string) => void): Promise<void> {
  if (options.recipe === undefined) throw new SimmimError('invalid_argument', 'preview', "give --recipe NAME (see 'simmim recipes')");
  const overrides = options.data === undefined ? [] : ['data.source=folder', `data.folder=${JSON.stringify(resolve(options.data))}`];
  await useBackend(options.backend);
  const base = options.out.replace(/\.(png|html)$/, '');
  if (recipeTask(options.recipe) === 'finetune') {
    await writeFinetunePreview(loadFinetune(options.recipe, [...options.set, ...overrides]), options, base);
    print(`wrote ${base}.png and ${base}.html`);
    return;
  }
  const recipe = await withMaskGrid(loadRecipe(options.recipe, [...options.set, ...overrides]));
  const figure = await trainingPictures(recipe, options);
  const { masking, data, model } = recipe;
  const facts = {
    recipe: recipe.name, encoder: model.encoder, 'image size': imageSizeOf(recipe).join(' x '),
    crop: `${data.cropScale.join(' to ')} of the area, sides ${data.cropRatio.map((r) => r.toFixed(2)).join(' to ')}, ${data.interpolation}`,
    masks: `${masking.strategy}, cells of ${masking.patchSize} px, ratio ${masking.ratio}`,
  };
  writeWhole(`${base}.png`, 'preview', await figurePng(figure));
  writeWhole(`${base}.html`, 'preview', htmlPage(`What ${recipe.name} trains on`, [{ title: '', content: `${factList(facts)}\n${await figureHtml(figure)}` }]));
  print(`wrote ${base}.png and ${base}.html`);
}

/** The first pictures of an epoch as they come in some epochs: cropped, and under their mask of the update that takes them. */
async function trainingPictures(recipe: Recipe, { count, draws, epoch }: Options): Promise<Figure> {
  const size = imageSizeOf(recipe);
  const { train: { batchSize, seed }, data } = recipe;
  const pictures = openRunData({ ...recipe, data: { ...data, workers: 0 } });
  const sampler = new Sampler({ length: pictures.train.length, batchSize, seed, ...(data.samplesPerEpoch === null ? {} : { samplesPerEpoch: data.samplesPerEpoch }) });
  const shown = firstPictures(sampler, epoch, count);
  const source = pictures.openTrain(() => undefined);
  const cells = new Map(shown.map((index) => [index, [] as Uint8Array[]]));
  const blank = new Uint8Array(size[0] * size[1] * 3).fill(255);
  try {
    for (let e = epoch; e < epoch + draws; e++) {
      const found = await picturesOfEpoch(recipe, source, sampler, e, shown);
      for (const [index, list] of cells) list.push(...(found.get(index) ?? [blank, blank]));
    }
  } finally {
    await source.close();
  }
  return {
    title: '', size, headings: Array.from({ length: draws }, (_, i) => [`epoch ${epoch + i}`, 'with its mask']).flat(),
    rows: [...cells].map(([index, list]) => ({ name: pictures.train.sample(index).name, cells: list })),
    caption: `These are the crops and masks of the updates that a run of this recipe makes. A picture that an epoch of fewer samples leaves out is white.`,
  };
}

/** Dataset indices of the first `count` different pictures of an epoch. */
function firstPictures(sampler: Sampler, epoch: number, count: number): number[] {
  const found = new Set<number>();
  for (let step = 0; step < sampler.batchesPerEpoch && found.size < count; step++) for (const { index } of sampler.batch(epoch, step)) if (found.size < count) found.add(index);
  return [...found];
}

/** Input and masked input of the wanted pictures in an epoch; only batches that hold one are made. */
async function picturesOfEpoch(recipe: Recipe, source: BatchSource, sampler: Sampler, epoch: number, wanted: readonly number[]): Promise<Map<number, [Uint8Array, Uint8Array]>> {
  const size = imageSizeOf(recipe);
  const patch = modelPatch(recipe);
  const masks = new Masking(maskStrategy(recipe), size, patch);
  const { accumulation, seed } = recipe.train;
  const found = new Map<number, [Uint8Array, Uint8Array]>();
  for (let step = 0; step < sampler.batchesPerEpoch && found.size < wanted.length; step++) {
    const rows = sampler.batch(epoch, step).flatMap(({ index }, row) => (wanted.includes(index) && !found.has(index) ? [[index, row] as const] : []));
    if (rows.length === 0) continue;
    source.restore({ epoch, step, broken: source.state().broken });
    const { images, files } = await source.next();
    const i = epoch * source.batchesPerEpoch + step;
    const mask = masks.onHost({ seed, step: Math.floor(i / accumulation), micro: i % accumulation }, files.length);
    const [values, cells] = [images.length / files.length, mask.length / files.length];
    for (const [index, row] of rows) {
      const input = toRgb(images.subarray(row * values, (row + 1) * values), statisticsOf(recipe));
      found.set(index, [input, greyed(input, hiddenPixels(mask.subarray(row * cells, (row + 1) * cells), [size[0] / patch, size[1] / patch], patch))]);
    }
  }
  return found;
}
