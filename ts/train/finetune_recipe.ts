import { z } from 'zod';
import { SimmimError } from '../errors';
import { checkpointSection, checkCommon, count, dataSection, logSection, modelSection, optimizerSection, parseAs, parseRecipe, positive, recipeFromYaml, scheduleSection, share, size, taskOf, trainSection, yamlAs, yamlTree, type Recipe, type RecipeKind } from './recipe';

const model = modelSection.extend({
  /** Preset name; null = the architecture of the weights it starts from. */
  encoder: z.string().nullable().default(null),
  /** Pixels, one number or [height, width]; null = as those weights, else as the preset. Positions are resized. */
  imageSize: size.nullable().default(null),
  dropPath: z.number().min(0).max(0.99).default(0.1),
});

const data = dataSection.omit({ validationShare: true }).extend({
  /** `folder`: labelled pictures in `folder`. `demo`: tiles of the six photographs in the package. */
  source: z.enum(['folder', 'demo']).default('folder'),
  /** Share of each class held out when there is no validation part. */
  validationShare: share.default(0.2),
  /** Train on the first so many pictures of each class; null = on all. */
  picturesPerClass: count.nullable().default(null),
  /** `resized`: RandomResizedCrop by cropScale and cropRatio. `padded`: 4 black pixels around and a crop of the old size, as the official code does up to 32 px. */
  crop: z.enum(['resized', 'padded']).default('resized'),
  cropScale: z.tuple([positive, positive]).default([0.08, 1]),
  interpolation: z.enum(['bilinear', 'bicubic']).default('bicubic'),
});

const AUTO_AUGMENT = /^rand-m(\d+(?:\.\d+)?)(?:-n(\d+))?-mstd(\d+(?:\.\d+)?)-inc1$/;

const augment = z.strictObject({
  /** RandAugment in timm's words, `rand-mMAGNITUDE[-nLAYERS]-mstdDEVIATION-inc1`; null = off. */
  autoAugment: z.string().regex(AUTO_AUGMENT, { error: "expected null or timm's words for RandAugment with increasing severity, such as rand-m9-mstd0.5-inc1" }).nullable().default('rand-m9-mstd0.5-inc1'),
  /** Strength of colour jitter; as in the official code it does nothing beside RandAugment. */
  colorJitter: share.default(0.4),
  /** Probability of random erasing by pixels of noise. */
  erasing: share.default(0.25),
  /** Beta parameters of mixup and cutmix; 0 = off. */
  mixup: z.number().min(0).default(0.8),
  cutmix: z.number().min(0).default(1),
  /** Probability of mixing, and of cutmix where both are on. */
  mixProbability: share.default(1),
  switchProbability: share.default(0.5),
  /** One draw for the batch, for each pair or for each picture. */
  mixMode: z.enum(['batch', 'pair', 'elem']).default('batch'),
  labelSmoothing: share.default(0.1),
});

const optimizer = optimizerSection.extend({
  baseLr: positive.default(1.25e-3),
  warmupLr: z.number().min(0).default(2.5e-7),
  minLr: z.number().min(0).default(2.5e-7),
  /** The rate of layer i is the base rate times this to the power of its distance from the head. */
  layerDecay: z.number().positive().max(1).default(0.8),
  /** Moving average of the weights, judged beside them: its decay after many updates, (1 + t) / (10 + t) before; null = none. */
  ema: z.number().positive().max(1).nullable().default(null),
});

const validation = z.strictObject({
  /** Epochs between two validations; the last epoch always validates. */
  everyEpochs: positive.default(1),
  /** The shorter side becomes int(ratio * image size) before the central crop; null = 256/224, or 1 up to 32 px. */
  resizeRatio: z.number().min(1).max(16).nullable().default(null),
  batchSize: count.nullable().default(null),
});

/** The official code's slips, by name. Off by default: the sound behaviour. */
const quirks = z.strictObject({
  /** The rate of an update is the schedule's value of the update before it. */
  lrLag: z.boolean().default(false),
  /** Clip the sum of gradients after every micro step instead of once. */
  clipEveryMicroStep: z.boolean().default(false),
  /** Weight decay on a ViT's relative position tables. */
  decayBiasTables: z.boolean().default(false),
  /** Swin's absolute position embedding has the head's rate instead of the first layer's. */
  absolutePositionAsHead: z.boolean().default(false),
  /** The schedule counts micro steps, those at an epoch's end that never become an update included. */
  schedulerCountsDroppedSteps: z.boolean().default(false),
});

const finetune = z.strictObject({
  name: z.string().default('unnamed'),
  task: z.literal('finetune'),
  /** Where the weights come from: a run, a checkpoint, or a file or folder that `simmim convert` reads; null = the random start of `model.encoder`. */
  init: z.string().nullable().default(null),
  /** Only the architecture of `init`, at its random start: the baseline that pre-training is compared with. */
  fromScratch: z.boolean().default(false),
  model: model.prefault({}),
  data: data.prefault({}),
  augment: augment.prefault({}),
  train: trainSection.prefault({}),
  optimizer: optimizer.prefault({}),
  schedule: scheduleSection.extend({ warmupEpochs: z.number().min(0).default(20) }).prefault({}),
  validation: validation.prefault({}),
  checkpoint: checkpointSection.prefault({}),
  log: logSection.prefault({}),
  quirks: quirks.prefault({}),
});

/** One fine-tuning run, complete but for what its weights and labels say. */
export type FinetuneRecipe = z.output<typeof finetune>;
/** A recipe with the parts left out that keep their defaults. */
export type PartialFinetuneRecipe = z.input<typeof finetune>;
/** A recipe of either task. */
export type AnyRecipe = Recipe | FinetuneRecipe;

const FINETUNE: RecipeKind<FinetuneRecipe> = {
  task: 'finetune',
  schema: finetune,
  check(r, origin) {
    checkCommon(r, origin);
    const mixes = r.augment.mixup > 0 || r.augment.cutmix > 0;
    if (mixes && r.augment.mixProbability > 0 && r.train.batchSize % 2 !== 0) throw new SimmimError('invalid_argument', origin, `train.batchSize is ${r.train.batchSize}, expected an even number: mixup and cutmix pair the pictures of a batch (augment.mixup=0 and augment.cutmix=0 switch them off)`);
    return r;
  },
};

/** Checks a value against the type of fine-tuning's recipes; throws as `parseAs`. */
export const parseFinetune = (value: unknown, origin = 'recipe'): FinetuneRecipe => parseAs(FINETUNE, value, origin);

/** Parses the text of a recipe file (YAML) of fine-tuning. `origin` names it in errors. */
export const finetuneFromYaml = (text: string, origin: string, overrides: readonly string[] = []): FinetuneRecipe => yamlAs(FINETUNE, text, origin, overrides);

/** Checks a recipe of either task. */
export const parseAnyRecipe = (value: unknown, origin: string): AnyRecipe => (taskOf(value) === 'finetune' ? parseFinetune(value, origin) : parseRecipe(value, origin));

/** Parses the text of a recipe file of either task. */
export const anyRecipeFromYaml = (text: string, origin: string): AnyRecipe => (taskOf(yamlTree(text, origin)) === 'finetune' ? finetuneFromYaml : recipeFromYaml)(text, origin);

/** RandAugment's numbers out of timm's words for it. */
export function randAugmentOf({ autoAugment }: FinetuneRecipe['augment']): { magnitude: number; magnitudeStd: number; layers: number } | null {
  const match = autoAugment === null ? null : AUTO_AUGMENT.exec(autoAugment);
  return match && { magnitude: Number(match[1]), layers: Number(match[2] ?? 2), magnitudeStd: Number(match[3]) };
}
