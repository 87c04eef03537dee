import { join } from 'node:path';
import { findSplits, type ImageDataset, openDataset, openImageFolder, openPipeline, sharedPictures, type BatchSource, type PipelineOptions, type Region } from '../data';
import { SimmimError } from '../errors';
import { type Recipe, imageSizeOf, statisticsOf } from './recipe';

/** The photographs in the package; the path holds from ts/train and from dist/train. */
export const DEMO_PHOTOS = join(__dirname, '../../ts/data/demo');
/** Of each demo photograph the left part is trained on and the rest only validated on. */
const DEMO_TRAIN: Region = { top: 0, left: 0, bottom: 1, right: 0.68 };
const DEMO_VALIDATION: Region = { top: 0, left: 0.7, bottom: 1, right: 1 };

/** The pictures of a run. */
export interface RunData {
  train: ImageDataset;
  validation: ImageDataset | null;
  /** In words, for the user. */
  description: string;
  /** What the user should know of them, a sentence each. */
  warnings: string[];
  openTrain(onBroken: (name: string, reason: string) => void): BatchSource;
  /** A fixed sequence of validation batches, or null without validation. */
  openValidation(): BatchSource | null;
}

/** Finds the recipe's pictures. Throws one sentence when there are none. */
export function openRunData(recipe: Recipe): RunData {
  const { data } = recipe;
  const demo = data.source === 'demo';
  const { train, validation, description } = demo ? demoSets() : folderSets(recipe);
  const warnings = validation && !demo ? sharedPictures(train, validation) : []; // the demo's parts are of the same photographs by design
  const [size, normalisation] = [imageSizeOf(recipe), statisticsOf(recipe)];
  const crop = { size, normalisation, crop: 'random', interpolation: data.interpolation, scale: data.cropScale, ratio: data.cropRatio, flip: data.flip } as const;
  const common: Pick<PipelineOptions, 'maxBrokenShare' | 'onBroken'> = { maxBrokenShare: data.maxBrokenShare };
  return {
    train, validation, description, warnings,
    openTrain: (onBroken) => openPipeline(train, {
      ...common, onBroken, batchSize: recipe.train.batchSize, seed: recipe.train.seed, transform: crop,
      ...(data.samplesPerEpoch === null ? {} : { samplesPerEpoch: data.samplesPerEpoch }), ...(data.workers === null ? {} : { workers: data.workers }),
    }),
    openValidation: () => {
      if (!validation) return null;
      // Few photographs: fixed random crops of them, the same at every validation, instead of one central crop each.
      const transform = demo ? crop : ({ size, normalisation, crop: 'center', interpolation: 'bicubic' } as const);
      return openPipeline(validation, {
        ...common, transform, workers: 0, shuffle: false, dropLast: false, seed: recipe.train.seed,
        batchSize: recipe.train.batchSize, samplesPerEpoch: demo ? recipe.validation.images : Math.min(validation.length, recipe.validation.images),
      });
    },
  };
}

type Sets = Pick<RunData, 'train' | 'validation' | 'description'>;

function demoSets(): Sets {
  const photos = openImageFolder(DEMO_PHOTOS, { classes: 'none' });
  return {
    train: photos.withRegion(DEMO_TRAIN), validation: photos.withRegion(DEMO_VALIDATION),
    description: `the ${photos.length} photographs of the package (random crops of the left of each; the right is held out)`,
  };
}

function folderSets({ data, train: { seed } }: Recipe): Sets {
  if (data.folder === null) {
    throw new SimmimError('invalid_argument', 'data.folder', 'is not set: give the folder of your pictures with --data FOLDER (or --recipe demo to try the six photographs of the package)');
  }
  const splits = findSplits(data.folder);
  const all = openDataset(splits.train, { classes: 'none' });
  const held = data.validationFolder ?? splits.val;
  if (held !== null) {
    const validation = openDataset(held, { classes: 'none' });
    return { train: all, validation, description: `${all.length} pictures of '${splits.train}', ${validation.length} of '${held}' for validation` };
  }
  if (data.validationShare === 0 || all.length < 2) return { train: all, validation: null, description: `${all.length} pictures of '${splits.train}', no validation` };
  const [train, validation] = all.holdOut(data.validationShare, seed);
  return { train, validation, description: `${train.length} pictures of '${splits.train}', ${validation.length} more held out for validation` };
}
