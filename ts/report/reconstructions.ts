/** Reconstructions in the layouts of the paper's figures 4 to 6. */
import { Masking, type MaskStrategy } from '../simmim';
import { disposeModel } from '../nn/module';
import { latestCheckpoint, checkpointsFolder, recipeOf, restoreBuffers } from '../train/checkpoint';
import { buildBuffers, buildModel, type BuiltModel } from '../train/model_build';
import { imageSizeOf, type Recipe } from '../train/recipe';
import { maskStrategy } from '../train/task';
import { SimmimError } from '../errors';
import { reconstruct, type Figure, type Pictures, type Reconstruction } from './pictures';
import { isPretraining, type RunRecord } from './run_record';
import { inChunks, shownPictures, underOwnMasks } from './shown_pictures';

type PretrainRun = RunRecord<Recipe>;

export interface FigureOptions {
  /** Pictures instead of the runs' held-out ones. */
  images?: string;
  /** Rows of each figure. Default 6. */
  count?: number;
  /** Told of figures that cannot be had, a sentence each. */
  note: (sentence: string) => void;
}

/** The figures of all pre-training runs. Weights come from the newest checkpoints; the active backend computes. */
export async function reconstructionFigures(runs: readonly RunRecord[], options: FigureOptions): Promise<Figure[]> {
  const figures: Figure[] = [];
  const beside: { run: PretrainRun; found: Reconstruction[] }[] = [];
  for (const run of runs.filter(isPretraining)) {
    try {
      const pictures = await shownPictures(run.recipe, options.images, options.count ?? 6);
      await withModel(run, options.note, (built) => {
        figures.push(maskKinds(run, built, pictures), maskSizes(run, built, pictures));
        beside.push({ run, found: underOwnMasks(built, pictures, run.recipe.train.seed) });
      });
    } catch (error) {
      if (!(error instanceof SimmimError)) throw error;
      options.note(`${run.name}: no reconstructions: ${error.message}`);
    }
  }
  return [...sideBySide(beside), ...figures];
}

async function withModel(run: PretrainRun, note: (sentence: string) => void, use: (built: BuiltModel) => void): Promise<void> {
  const checkpoint = latestCheckpoint(checkpointsFolder(run.folder), note);
  if (!checkpoint) throw new SimmimError('not_found', 'report', `'${run.folder}' holds no complete checkpoint`);
  const recipe = recipeOf(checkpoint, 'pretrain');
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  try {
    restoreBuffers(checkpoint, buffers);
    use(built);
  } finally {
    buffers.dispose();
    disposeModel(built.model);
  }
}

/** Figure 4: random cells, most of the middle, and the whole middle; original, masked and reconstructed each time. */
function maskKinds({ name, recipe }: PretrainRun, built: BuiltModel, pictures: Pictures): Figure {
  const kinds: [string, MaskStrategy][] = [
    ['random', maskStrategy(recipe)],
    ['most of the middle', { kind: 'explicit', grid: middle(built, 3) }],
    ['the whole middle', { kind: 'explicit', grid: middle(built, Infinity) }],
  ];
  const found = kinds.map(([, strategy]) => underStrategy(built, pictures, strategy, recipe.train.seed));
  return {
    title: `${name}: three kinds of mask`, size: imageSizeOf(recipe),
    headings: kinds.flatMap(([kind]) => [kind, 'masked', 'reconstructed']),
    rows: pictures.files.map((file, i) => ({ name: file, cells: found.flatMap((all) => cellsOf(all[i] as Reconstruction)) })),
    caption: `As in the paper's figure 4: cells at random (as in training), all but every third cell of a central square of half the image's sides, and the whole of that square. What nothing visible hints at cannot be predicted.`,
  };
}

const cellsOf = (r: Reconstruction): Reconstruction['original'][] => [r.original, r.masked, r.pasted];

/** A grid of the model's patches with the central square hidden, but for every `keep`-th of its patches. */
function middle({ model }: BuiltModel, keep: number): (0 | 1)[][] {
  const [rows, columns] = [model.encoder.imageSize[0] / model.encoder.patchSize, model.encoder.imageSize[1] / model.encoder.patchSize];
  const inside = (at: number, length: number): boolean => at >= Math.floor(length / 4) && at < length - Math.floor(length / 4);
  return Array.from({ length: rows }, (_, y) => Array.from({ length: columns }, (_, x) => (inside(y, rows) && inside(x, columns) && (keep === Infinity || (2 * y + x) % keep !== 0) ? 1 : 0)));
}

/** Figure 6: the model under random cells of several sizes, with the share of its own recipe. */
function maskSizes({ name, recipe }: PretrainRun, built: BuiltModel, pictures: Pictures): Figure {
  const [height, width] = imageSizeOf(recipe);
  const { patchSize } = built.model.encoder;
  const sizes = [1, 2, 4, 8, 16].map((factor) => factor * patchSize).filter((s) => height % s === 0 && width % s === 0 && 2 * s <= Math.min(height, width));
  const ratio = built.masking.ratio;
  const found = sizes.map((patch) => underStrategy(built, pictures, { kind: 'random', patch, ratio: Math.min(recipe.masking.ratio, ratio) }, recipe.train.seed));
  return {
    title: `${name}: mask patch sizes`, size: [height, width],
    headings: ['original', ...sizes.flatMap((s) => [`${s} px, masked`, 'reconstructed'])],
    rows: pictures.files.map((file, i) => ({ name: file, cells: [(found[0]?.[i] as Reconstruction).original, ...found.flatMap((all) => cellsOf(all[i] as Reconstruction).slice(1))] })),
    caption: `As in the paper's figure 6, but one model under all masks: it was trained with cells of ${recipe.masking.patchSize} px.`,
  };
}

interface Found {
  run: PretrainRun;
  found: Reconstruction[];
}

/** Figure 5: what runs predict on the same pictures, of the hidden patches beside the visible ones, and everywhere. */
function sideBySide(all: readonly Found[]): Figure[] {
  const groups = new Map<string, Found[]>();
  for (const entry of all) {
    const key = JSON.stringify([imageSizeOf(entry.run.recipe), entry.found.map((r) => r.name)]);
    groups.set(key, [...(groups.get(key) ?? []), entry]);
  }
  return [...groups.values()].map(groupFigure);
}

function groupFigure(group: readonly Found[]): Figure {
  const first = group[0] as Found;
  const masksAgree = group.every(({ found }) => found.every((r, i) => Buffer.compare(r.masked, (first.found[i] as Reconstruction).masked) === 0));
  const title = (run: PretrainRun): string => (group.length === 1 ? '' : `${run.name}: `);
  const of = ({ run, found }: Found): { heading: string; cell: (i: number) => Reconstruction['original'] }[] => [
    ...(masksAgree ? [] : [{ heading: `${title(run)}masked`, cell: (i: number) => (found[i] as Reconstruction).masked }]),
    { heading: `${title(run)}hidden patches`, cell: (i) => (found[i] as Reconstruction).pasted },
    { heading: `${title(run)}all patches${run.recipe.loss.maskedOnly ? '' : ' (loss on all)'}`, cell: (i) => (found[i] as Reconstruction).predicted },
  ];
  const columns = [
    { heading: 'original', cell: (i: number) => (first.found[i] as Reconstruction).original },
    ...(masksAgree ? [{ heading: 'masked', cell: (i: number) => (first.found[i] as Reconstruction).masked }] : []),
    ...group.flatMap(of),
  ];
  return {
    title: group.length === 1 ? `${first.run.name}: hidden patches, and all patches` : 'Runs side by side: hidden patches, and all patches',
    size: imageSizeOf(first.run.recipe), headings: columns.map((c) => c.heading), rows: first.found.map((r, i) => ({ name: r.name, cells: columns.map((c) => c.cell(i)) })),
    caption: "As in the paper's figure 5: the prediction of the hidden patches beside the visible ones, and the output for all patches. A model whose loss counts hidden pixels only learns nothing about the visible ones; one with loss.maskedOnly=false reconstructs all.",
  };
}

function underStrategy(built: BuiltModel, pictures: Pictures, strategy: MaskStrategy, seed: number): Reconstruction[] {
  const { encoder } = built.model;
  const masking = new Masking(strategy, encoder.imageSize, encoder.patchSize);
  return inChunks(pictures, (part, i) => reconstruct(built, part, masking.onHost({ seed, step: i, micro: 0 }, part.files.length)));
}
