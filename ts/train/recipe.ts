import { z } from 'zod';
import { Document, parse as parseYaml, parseDocument, visit } from 'yaml';
import { distance } from 'fastest-levenshtein';
import type { Normalisation } from '../data';
import { SimmimError } from '../errors';
import { IMAGENET } from '../image_statistics';
import { headNames } from '../simmim/heads';
import { lossNames } from '../simmim/losses';
import { SCHEDULES } from './schedule';

export const positive = z.number().positive();
export const count = z.int().positive();
export const share = z.number().min(0).max(1);
const channels = <T extends z.ZodType>(value: T) => z.tuple([value, value, value], { error: 'expected three numbers, one for each channel' });
export const size = z.union([count, z.tuple([count, count])], { error: 'expected a positive whole number or [height, width]' });

function isPattern(text: string): boolean {
  try {
    return new RegExp(text) instanceof RegExp;
  } catch {
    return false;
  }
}

export const modelSection = z.strictObject({
  /** Preset name: swin_tiny|small|base|large, vit_small|base|large, swinv2_tiny|small|base|large|huge|giant. */
  encoder: z.string().default('swin_tiny'),
  /** Pixels, one number or [height, width]. */
  imageSize: size.default(192),
  /** Stochastic depth of the encoder's last block (earlier ones: linearly less). */
  dropPath: z.number().min(0).max(0.99).default(0),
  /** Recompute each block in the backward pass: less memory, a quarter more time. */
  checkpointing: z.boolean().default(false),
  // null = as the preset says; depth is a ViT's, depths and windowSize are Swin's
  patchSize: count.nullable().default(null),
  embedDim: count.nullable().default(null),
  depth: count.nullable().default(null),
  depths: z.array(count).nullable().default(null),
  heads: z.union([count, z.array(count)], { error: 'expected a positive whole number (ViT) or a list of them (Swin)' }).nullable().default(null),
  windowSize: count.nullable().default(null),
  mlpRatio: positive.nullable().default(null),
  absolutePosition: z.boolean().nullable().default(null),
  relativeBias: z.enum(['shared', 'per_block', 'none']).nullable().default(null),
});

const masking = z.strictObject({
  /** random: single cells; square: one square of them; block: BEiT's rectangles; explicit: always the same cells. */
  strategy: z.enum(['random', 'square', 'block', 'explicit']).default('random'),
  /** Side of a mask cell in pixels: a multiple of the encoder's patch size that divides the image. */
  patchSize: count.default(32),
  /** Share of the cells that is hidden; the number of cells is rounded up. */
  ratio: share.default(0.6),
  /** block: fewest cells of a rectangle; null = as many as make 64 x 64 pixels. */
  minCells: count.nullable().default(null),
  /** block: smallest ratio of the sides. */
  minAspect: share.default(0.3),
  /** explicit: a picture (white = hidden) of the image's size or of one pixel a cell, or an .npy grid (non-zero = hidden). */
  file: z.string().nullable().default(null),
  /** explicit: rows of 0 and 1 (hidden). A run writes those of `file` here, so that its checkpoints hold the mask. */
  grid: z.array(z.array(z.union([z.literal(0), z.literal(1)], { error: 'expected 0 (visible) or 1 (hidden)' }))).nullable().default(null),
});

const target = z.strictObject({
  /** rgb: colours; bins: classes of each channel; clusters: nearest palette colour; tokens: ids of a visual tokenizer. */
  kind: z.enum(['rgb', 'bins', 'clusters', 'tokens']).default('rgb'),
  /** Pixels, one number or [height, width]; null = the image's (tokens: one for each cell of the tokenizer). */
  resolution: size.nullable().default(null),
  /** rgb: standardise each patch (MAE) or each pixel by the window around it (SwinV2). */
  normalise: z.enum(['none', 'patch', 'window']).default('none'),
  /** Side of that patch or window in pixels; null = 16 or 47. */
  normaliseSize: count.nullable().default(null),
  /** bins: classes of each channel's 8-bit value. */
  bins: z.int().min(2).max(256).default(8),
  /** clusters: .npy of [K, 3] colours in 0..1, as `simmim cluster` writes. */
  palette: z.string().nullable().default(null),
  /** tokens: .npy of [K, 3, P, P] patches in 0..1, as `simmim cluster --patch P` writes. */
  codebook: z.string().nullable().default(null),
  /** tokens: a dVAE's weights, as `simmim tokenizer` writes, or DALL-E's encoder as a state dict. */
  tokenizer: z.string().nullable().default(null),
});

const loss = z.strictObject({
  /** l1, l2 and smooth_l1 compare colours, cross_entropy compares classes (bins, clusters, tokens). */
  kind: z.enum(lossNames).default('l1'),
  /** Where smooth_l1 turns from square to linear. */
  beta: positive.default(1),
  /** Count hidden pixels only (prediction), or all of them (reconstruction). */
  maskedOnly: z.boolean().default(true),
});

export const dataSection = z.strictObject({
  /** `folder`: pictures below `folder`. `demo`: the six photographs in the package. */
  source: z.enum(['folder', 'demo']).default('folder'),
  folder: z.string().nullable().default(null),
  /** Pictures for the validation loss; null = a share of `folder` is held out. */
  validationFolder: z.string().nullable().default(null),
  /** Share of the pictures held out when there is no `validationFolder`; 0 = no validation. */
  validationShare: share.default(0.02),
  /** Length of an epoch; null = each picture once. More walks through the set again (for very small sets). */
  samplesPerEpoch: count.nullable().default(null),
  cropScale: z.tuple([positive, positive]).default([0.67, 1]),
  cropRatio: z.tuple([positive, positive]).default([3 / 4, 4 / 3]),
  interpolation: z.enum(['bilinear', 'bicubic']).default('bilinear'),
  flip: share.default(0.5),
  /** Mean and std of each channel (R, G, B) of values in 0..1, as `simmim stats` measures them; null = ImageNet's. */
  statistics: z.strictObject({ mean: channels(z.number()), std: channels(positive) }).nullable().default(null),
  /** Threads that decode and crop; null = as many as cores, at most 8; 0 = none beside the training itself. */
  workers: z.int().min(0).nullable().default(null),
  /** The run stops when more than this share of the pictures is broken. */
  maxBrokenShare: share.default(0.05),
});

export const trainSection = z.strictObject({
  epochs: count.default(100),
  /** Images of one micro step. */
  batchSize: count.default(64),
  /** Micro steps of one update. */
  accumulation: count.default(1),
  seed: z.int().min(0).max(0xffffffff).default(0),
  /** Ends after this many updates although epochs are left; null = never. The schedule is not shortened. */
  stopAfter: count.nullable().default(null),
  /** bf16: activations and products in bfloat16, with float32 sums, norms, softmax, losses, gradients of weights and optimizer. Our backends only. */
  precision: z.enum(['f32', 'bf16']).default('f32'),
  /** Record the step and replay it behind the event loop (the same bits); false runs it eagerly. Our backends only. */
  recorded: z.boolean().default(true),
  /** Stops with an error after this many losses or gradients in a row that are not finite. */
  maxNonFinite: count.default(5),
});

export const optimizerSection = z.strictObject({
  /** Rates for a batch of 512; the run uses them times batchSize * accumulation / 512. */
  baseLr: positive.default(2e-4),
  warmupLr: z.number().min(0).default(1e-6),
  minLr: z.number().min(0).default(1e-5),
  /** false takes the three rates as they are. */
  scaleLr: z.boolean().default(true),
  betas: z.tuple([share, share]).default([0.9, 0.999]),
  eps: positive.default(1e-8),
  weightDecay: z.number().min(0).default(0.05),
  /** Largest norm of the whole gradient; null = no clipping. */
  clip: positive.nullable().default(5),
  /** Own decay rules, first match wins, before the built-in ones: pattern is a regular expression on names. */
  decayRules: z.array(z.strictObject({ pattern: z.string().refine(isPattern, { error: 'expected a regular expression' }), maxRank: z.int().min(0).optional(), value: z.number().min(0) })).default([]),
});

export const scheduleSection = z.strictObject({
  name: z.enum(SCHEDULES).default('cosine'),
  warmupEpochs: z.number().min(0).default(10),
  /** cosine: start it after warm-up (true) or at step 0, so that the rate jumps when warm-up ends (false). */
  warmupPrefix: z.boolean().default(true),
  /** step: epochs between two decays by `decayRate`. */
  decayEpochs: positive.default(30),
  decayRate: positive.default(0.1),
  /** multistep: epochs at which the rate is multiplied by `gamma`. */
  milestones: z.array(positive).default([]),
  gamma: positive.default(0.1),
});

const validation = z.strictObject({
  /** Epochs between two validations; the last epoch always validates. */
  everyEpochs: positive.default(1),
  /** At most this many pictures, always the same, under masks that never change. */
  images: count.default(256),
});

export const checkpointSection = z.strictObject({
  /** Updates between two checkpoints; the end of the run and Ctrl-C always write one. */
  everySteps: count.default(500),
  /** How many of the newest are kept. */
  keep: count.default(3),
});

export const logSection = z.strictObject({
  /** Updates between two progress lines (the JSONL log has every update). */
  everySteps: count.default(10),
});

/** The official code's slips, by name. Off by default: the sound behaviour. */
const quirks = z.strictObject({
  /** The rate of an update is the schedule's value of the update before it. */
  lrLag: z.boolean().default(false),
  /** Clip the sum of gradients after every micro step instead of once. */
  clipEveryMicroStep: z.boolean().default(false),
  /** Weight decay on relative position tables, cpb_mlp weights and logit_scale. */
  decayBiasTables: z.boolean().default(false),
  /** Weight decay on the mask token (ViT). */
  decayMaskToken: z.boolean().default(false),
  /** The schedule counts micro steps, those at an epoch's end that never become an update included. */
  schedulerCountsDroppedSteps: z.boolean().default(false),
});

const recipe = z.strictObject({
  name: z.string().default('unnamed'),
  task: z.literal('pretrain').default('pretrain'),
  model: modelSection.prefault({}),
  /** Prediction head (paper Table 2). */
  head: z.enum(headNames).default('linear'),
  masking: masking.prefault({}),
  target: target.prefault({}),
  loss: loss.prefault({}),
  data: dataSection.prefault({}),
  train: trainSection.prefault({}),
  optimizer: optimizerSection.prefault({}),
  schedule: scheduleSection.prefault({}),
  validation: validation.prefault({}),
  checkpoint: checkpointSection.prefault({}),
  log: logSection.prefault({}),
  quirks: quirks.prefault({}),
});

/** One pre-training run, complete: every value that has an influence on its result. */
export type Recipe = z.output<typeof recipe>;
/** What every run needs of its recipe, whatever it trains. */
export type RunRecipe = Pick<Recipe, 'name' | 'train' | 'optimizer' | 'schedule' | 'checkpoint' | 'log'> & {
  validation: Pick<Recipe['validation'], 'everyEpochs'>;
  quirks: Pick<Recipe['quirks'], 'lrLag' | 'clipEveryMicroStep' | 'schedulerCountsDroppedSteps'>;
};
/** A recipe with the parts left out that keep their defaults. */
export type PartialRecipe = z.input<typeof recipe>;

/** The candidate closest to `wanted` if it is close enough to be a slip of the finger, else null. */
export function nearest(wanted: string, candidates: Iterable<string>): string | null {
  let best: string | null = null;
  let least = Infinity;
  for (const candidate of candidates) {
    const d = distance(wanted.toLowerCase(), candidate.toLowerCase());
    if (d < least) [best, least] = [candidate, d];
  }
  return best !== null && least <= Math.max(2, Math.ceil(best.length / 2)) ? best : null;
}

/** A kind of recipe: what `simmim pretrain` or `simmim finetune` runs. */
export interface RecipeKind<R> {
  task: Task;
  schema: z.ZodType<R>;
  /** Conditions between keys. */
  check(recipe: R, origin: string): R;
}

/** Commands by the `task` of the recipes that they run. */
const COMMANDS = { pretrain: 'simmim pretrain', finetune: 'simmim finetune' } as const;
export type Task = keyof typeof COMMANDS;

/** The task of a recipe that is not checked yet; without one it is pre-training. */
export function taskOf(value: unknown): Task {
  const task = typeof value === 'object' && value !== null && 'task' in value ? value.task : 'pretrain';
  return task === 'finetune' ? 'finetune' : 'pretrain';
}

/** Checks a value against a kind of recipe. Throws `invalid_argument` naming the key, what was got and expected. */
export function parseAs<R>(kind: RecipeKind<R>, value: unknown, origin: string): R {
  const task = taskOf(value);
  if (task !== kind.task) throw new SimmimError('invalid_argument', origin, `is a recipe for '${COMMANDS[task]}' (task: ${task}), expected one for '${COMMANDS[kind.task]}'`);
  const result = kind.schema.safeParse(value ?? {});
  if (result.success) return kind.check(result.data, origin);
  const issue = result.error.issues[0];
  if (!issue) throw new SimmimError('internal', origin, 'refused without a reason');
  throw new SimmimError('invalid_argument', origin, explain(issue, value, kind.schema.parse({ task: kind.task })));
}

/** Checks a value against the type of pre-training's recipes; throws as {@link parseAs}. */
export function parseRecipe(value: unknown, origin = 'recipe'): Recipe {
  return parseAs(PRETRAIN, value, origin);
}

function explain(issue: z.core.$ZodIssue, value: unknown, complete: unknown): string {
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    return unknownKey([...path, key], complete);
  }
  const got = path.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], value);
  return `${path.join('.') || 'the recipe'} is ${JSON.stringify(got) ?? 'missing'}: ${issue.message.replace(/^Invalid (input|option): /, '')}`;
}

/** Says that a dotted key does not exist in a `complete` recipe, and which one was probably meant. */
function unknownKey(path: string[], complete: unknown): string {
  const section = path.slice(0, -1);
  const known = keysAt(section, complete);
  const key = path[path.length - 1] ?? '';
  const guess = nearest(key, known) ?? nearestAnywhere(key, complete);
  const full = guess?.includes('.') || section.length === 0 ? guess : guess && [...section, guess].join('.');
  return `unknown key '${path.join('.')}'${full ? `, did you mean '${full}'?` : `; ${section.join('.') || 'a recipe'} has ${known.join(', ')}`}`;
}

function keysAt(section: string[], complete: unknown): string[] {
  const at = section.reduce<unknown>((node, key) => (node as Record<string, unknown> | undefined)?.[key], complete);
  return at && typeof at === 'object' ? Object.keys(at) : [];
}

function nearestAnywhere(key: string, complete: unknown): string | null {
  const all = new Map(Object.entries(complete as object).flatMap(([section, node]) =>
    typeof node === 'object' && node !== null ? Object.keys(node as object).map((k): [string, string] => [k, `${section}.${k}`]) : []));
  const guess = nearest(key, all.keys());
  return guess ? (all.get(guess) ?? null) : null;
}

const PRETRAIN: RecipeKind<Recipe> = { task: 'pretrain', schema: recipe, check: checkTogether };

/** Conditions between keys that every kind of recipe has. */
export function checkCommon(r: Pick<Recipe, 'schedule' | 'train'> & { data: Pick<Recipe['data'], 'cropScale' | 'cropRatio'> }, origin: string): void {
  const refuse = (message: string): never => {
    throw new SimmimError('invalid_argument', origin, message);
  };
  if (r.schedule.warmupEpochs > r.train.epochs) refuse(`schedule.warmupEpochs is ${r.schedule.warmupEpochs}, expected at most train.epochs = ${r.train.epochs}`);
  if (r.data.cropScale[0] > r.data.cropScale[1] || r.data.cropScale[1] > 1) refuse(`data.cropScale is [${r.data.cropScale.join(', ')}], expected two shares of the area in ascending order, at most 1`);
  if (r.data.cropRatio[0] > r.data.cropRatio[1]) refuse(`data.cropRatio is [${r.data.cropRatio.join(', ')}], expected ascending order`);
}

function checkTogether(r: Recipe, origin: string): Recipe {
  const refuse = (message: string): never => {
    throw new SimmimError('invalid_argument', origin, message);
  };
  checkCommon(r, origin);
  if (r.masking.strategy === 'explicit') {
    if (r.masking.file === null && r.masking.grid === null) refuse('masking.strategy is explicit: give the cells with masking.file or masking.grid');
    return r;
  }
  const [h, w] = imageSizeOf(r);
  if (h % r.masking.patchSize !== 0 || w % r.masking.patchSize !== 0) {
    refuse(`masking.patchSize is ${r.masking.patchSize}, expected a divisor of the image size ${h} x ${w}: mask cells tile the image`);
  }
  return r;
}

/** [height, width] of the training images. */
export function imageSizeOf(r: Recipe): [number, number] {
  return typeof r.model.imageSize === 'number' ? [r.model.imageSize, r.model.imageSize] : r.model.imageSize;
}

/** What images are normalised by: `data.statistics`, else ImageNet's. */
export function statisticsOf({ data: { statistics } }: Pick<Recipe, 'data'>): Normalisation {
  return statistics ?? IMAGENET;
}

/** The tree of a recipe file (YAML), not yet checked. `origin` names it in errors. */
export function yamlTree(text: string, origin: string): unknown {
  let tree: unknown;
  try {
    tree = parseYaml(text);
  } catch (error) {
    throw new SimmimError('invalid_argument', origin, `is not YAML: ${(error as Error).message.split('\n')[0] ?? ''}`);
  }
  if (tree !== null && (typeof tree !== 'object' || Array.isArray(tree))) throw new SimmimError('invalid_argument', origin, 'is a list or a single value, expected keys and values');
  return tree;
}

/** Parses the text of a recipe file of one kind, with `key=value` overrides. */
export function yamlAs<R extends object>(kind: RecipeKind<R>, text: string, origin: string, overrides: readonly string[] = []): R {
  const complete = parseAs(kind, yamlTree(text, origin), origin);
  return overrides.length === 0 ? complete : parseAs(kind, applyOverrides(complete, overrides), '--set');
}

/** Parses the text of a recipe file (YAML) of pre-training. `origin` names it in errors. */
export function recipeFromYaml(text: string, origin: string, overrides: readonly string[] = []): Recipe {
  return yamlAs(PRETRAIN, text, origin, overrides);
}

/**
 * A copy of a recipe with `a.b=value` overrides applied, not yet checked: parse the result.
 * Values are YAML (`64`, `true`, `null`, `[2, 2]`, text). Throws on a key that does not exist.
 */
export function applyOverrides(base: object, overrides: readonly string[]): unknown {
  const copy = structuredClone(base) as unknown as Record<string, unknown>;
  for (const override of overrides) {
    const at = override.indexOf('=');
    if (at < 1) throw new SimmimError('invalid_argument', '--set', `got '${override}', expected key=value such as train.batchSize=64`);
    const path = override.slice(0, at).trim().split('.');
    let node = copy;
    path.slice(0, -1).forEach((key, depth) => {
      const next = Object.hasOwn(node, key) ? node[key] : undefined;
      if (next === undefined) throw new SimmimError('invalid_argument', '--set', unknownKey(path.slice(0, depth + 1), base));
      if (typeof next !== 'object' || next === null || Array.isArray(next)) {
        throw new SimmimError('invalid_argument', '--set', `'${path.slice(0, depth + 1).join('.')}' is a value: '${path.join('.')}' does not exist below it`);
      }
      node = next as Record<string, unknown>;
    });
    const last = path[path.length - 1] as string;
    if (!Object.hasOwn(node, last)) throw new SimmimError('invalid_argument', '--set', unknownKey(path, base));
    node[last] = parseDocument(override.slice(at + 1)).toJS() as unknown;
  }
  return copy;
}

/** The whole recipe as YAML, as `--print-config` shows it. */
export function recipeToYaml(r: object): string {
  const document = new Document(r);
  visit(document, { Seq: (_, node) => void (node.flow = true) });
  return document.toString({ flowCollectionPadding: false, lineWidth: 0 });
}
