import { firstOfEachClass, openLabelledSplits, openPipeline, usualResizeRatio, type BatchSource, type ImageDataset, type LabelledSplits, type Normalisation } from '../data';
import { SimmimError } from '../errors';
import { demoSplits } from './demo_set';
import { randAugmentOf, type FinetuneRecipe } from './finetune_recipe';

/** Validation sets from this size on are decoded by threads of their own. */
const WORTH_WORKERS = 256;
/** Pictures of a batch in evaluation, at most. */
const EVALUATION_BATCH = 64;

/** How pictures are prepared for a classifier. */
export interface ClassifierImages {
  /** [height, width] in pixels. */
  size: readonly [number, number];
  normalisation: Normalisation;
}

/** The labelled pictures of a recipe. Throws one sentence when there are none or they do not fit each other. */
export function openLabelledData({ data, train: { seed } }: FinetuneRecipe): LabelledSplits & { description: string } {
  const { train: whole, validation, warnings } = labelledSplits(data, seed);
  const train = data.picturesPerClass === null ? whole : firstOfEachClass(whole, data.picturesPerClass);
  return { train, validation, warnings, description: `${train.length} pictures of ${train.classes.length} classes, ${validation.length} for validation${data.source === 'demo' ? ' (tiles of the photographs of the package)' : ''}` };
}

function labelledSplits(data: FinetuneRecipe['data'], seed: number): LabelledSplits {
  if (data.source === 'demo') return demoSplits();
  if (data.folder === null) throw new SimmimError('invalid_argument', 'data.folder', 'is not set: give the folder of your labelled pictures with --data FOLDER');
  return openLabelledSplits(data.folder, { validation: data.validationFolder, validationShare: data.validationShare, seed });
}

/** Training batches with the recipe's augmentation; mixing comes after, see `ClassifyTask`. */
export function openTraining(recipe: FinetuneRecipe, train: ImageDataset, { size, normalisation }: ClassifierImages, onBroken: (name: string, reason: string) => void): BatchSource {
  const { data, augment, train: { batchSize, seed } } = recipe;
  if (batchSize > (data.samplesPerEpoch ?? train.length)) {
    throw new SimmimError('invalid_argument', 'train.batchSize', `is ${batchSize}, but an epoch has ${data.samplesPerEpoch ?? train.length} pictures and only whole batches are trained on: make it smaller, or set data.samplesPerEpoch`);
  }
  return openPipeline(train, {
    maxBrokenShare: data.maxBrokenShare, onBroken, batchSize, seed,
    transform: {
      size, normalisation, crop: data.crop === 'padded' ? 'padded' : 'random', interpolation: data.interpolation, scale: data.cropScale, ratio: data.cropRatio, flip: data.flip,
      randAugment: randAugmentOf(augment), colorJitter: augment.colorJitter, erasing: augment.erasing > 0 ? { probability: augment.erasing } : null,
    },
    ...(data.samplesPerEpoch === null ? {} : { samplesPerEpoch: data.samplesPerEpoch }), ...(data.workers === null ? {} : { workers: data.workers }),
  });
}

export interface EvaluationOptions extends ClassifierImages {
  /** Resize to this times the image size before the central crop; null = `usualResizeRatio`. */
  resizeRatio: number | null;
  batchSize: number | null;
  workers: number | null;
  maxBrokenShare: number;
}

/** Every picture once, in order: resized (bicubic) and cropped in the middle. */
export function openEvaluation(set: ImageDataset, o: EvaluationOptions, onBroken?: (name: string, reason: string) => void): BatchSource {
  const workers = set.length < WORTH_WORKERS ? 0 : o.workers;
  return openPipeline(set, {
    maxBrokenShare: o.maxBrokenShare, batchSize: Math.min(o.batchSize ?? EVALUATION_BATCH, set.length), shuffle: false, dropLast: false, seed: 0,
    transform: { size: o.size, normalisation: o.normalisation, crop: 'center', interpolation: 'bicubic', resizeRatio: o.resizeRatio ?? usualResizeRatio(o.size) },
    ...(workers === null ? {} : { workers }), ...(onBroken ? { onBroken } : {}),
  });
}
