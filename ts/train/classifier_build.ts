import type { Normalisation } from '../data';
import { SimmimError } from '../errors';
import { IMAGENET } from '../image_statistics';
import { encoderConfig, encoderFromConfig, encoderPreset, gridsOf, loadPretrained, modelConfig, planWindow, stageGeometry, type LoadReport, type ModelConfig, type Pair } from '../models';
import { namedParameters, type Parameter } from '../nn/module';
import { Classifier } from '../simmim';
import type { RunIdentity } from './checkpoint';
import type { FinetuneRecipe } from './finetune_recipe';
import { finetuneGroups, type ParamGroup } from './param_groups';
import type { FoundWeights } from './weights_source';

/** A classifier and what training needs of it. */
export interface BuiltClassifier {
  model: Classifier;
  /** What a checkpoint keeps of it. */
  identity: NonNullable<RunIdentity['classifier']>;
  parameters: Map<string, Parameter>;
  groups: ParamGroup[];
  statistics: Normalisation;
  /** What became of the weights that it starts from; null for a random start or a resumed run. */
  load: LoadReport | null;
  /** What the user should know, a sentence each. */
  notes: string[];
}

const OP = 'finetune';
const bad = (message: string): SimmimError => new SimmimError('invalid_argument', OP, message);

/** Parts of a classifier that pre-training does not have. */
const HEAD = /^(head|fc_norm)\./;

/**
 * The classifier of a recipe for these classes, with the weights that it starts from (null: at its random start). Throws
 * `invalid_argument` for an architecture that the weights do not fit, and `corrupt` for weights that lack a part of the encoder.
 */
export function buildClassifier(recipe: FinetuneRecipe, names: readonly string[], weights: FoundWeights | null): BuiltClassifier {
  const notes: string[] = [];
  const config = classifierConfig(recipe, weights?.config ?? null, names.length, notes);
  const statistics = recipe.data.statistics ?? threeChannels(weights) ?? IMAGENET;
  const built = assemble(recipe, { ...config, statistics, names: [...names] });
  if (!weights || recipe.fromScratch) return { ...built, notes };
  const load = loadPretrained(built.parameters, weights.state, gridsOf(built.model.encoder, weights.config));
  const lacking = load.missing.filter((name) => !HEAD.test(name));
  if (lacking.length > 0) throw new SimmimError('corrupt', OP, `'${weights.path}' lacks ${lacking.length} parts of the encoder: ${lacking.slice(0, 5).join(', ')}`);
  const heads = load.mismatched.map(({ got }) => got[0] ?? 0);
  if (heads.length > 0) notes.push(`the weights have a head of ${heads[0] ?? 0} classes, the data ${names.length}: the head starts anew`);
  if (load.resized.length > 0) notes.push(`${load.resized.length} tables of positions were resized, such as ${load.resized[0]?.name ?? ''}`);
  return { ...built, load, notes };
}

/** The classifier of a checkpoint, without its weights. */
export function rebuildClassifier(recipe: FinetuneRecipe, identity: NonNullable<RunIdentity['classifier']>): BuiltClassifier {
  return assemble(recipe, identity);
}

function assemble(recipe: FinetuneRecipe, identity: NonNullable<RunIdentity['classifier']>): BuiltClassifier {
  const { train: { seed }, model: { dropPath, checkpointing }, quirks } = recipe;
  const config = { ...identity, encoder: { ...identity.encoder, seed, dropPath, checkpointing } } as ModelConfig;
  const model = new Classifier(encoderFromConfig(config), { classes: identity.names.length, seed });
  const parameters = namedParameters(model);
  const { weightDecay, layerDecay, decayRules } = recipe.optimizer;
  const groups = finetuneGroups([...parameters].map(([name, { shape }]) => ({ name, shape })), {
    weightDecay, layerDecay, depths: config.family === 'vit' ? config.encoder.depth : config.encoder.depths, officialCode: quirks.absolutePositionAsHead,
    quirks: { decayBiasTables: quirks.decayBiasTables, decayMaskToken: false }, extra: decayRules.map(({ pattern, maxRank, value }) => ({ pattern: new RegExp(pattern), maxRank, value })),
  });
  return { model, identity, parameters, groups, statistics: identity.statistics as Normalisation, load: null, notes: [] };
}

/** The architecture: the recipe's preset, else that of the weights, with the recipe's values on top, as the official code fine-tunes it. */
function classifierConfig(recipe: FinetuneRecipe, source: ModelConfig | null, classes: number, notes: string[]): ModelConfig {
  const { encoder: preset, ...given } = recipe.model;
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
  const base = preset === null ? source : presetConfig(preset, classes);
  if (!base) throw bad("model.encoder is not set and no weights are given: name the encoder with --set model.encoder=PRESET, or the weights to start from with --init");
  if (source && source.family !== base.family) throw bad(`model.encoder is ${preset ?? ''}, but the weights are a ${source.family}'s`);
  const merged: Record<string, unknown> = { ...base.encoder, ...options };
  if (base.family === 'vit') {
    if (base.encoder.relativeBias === 'shared' && options.relativeBias === undefined) merged.relativeBias = 'per_block';
    merged.finalNorm = false; // its norm comes after the mean of the tokens
  } else if (source && preset === null && options.windowSize === undefined && options.imageSize !== undefined) {
    merged.windowSize = scaledWindow(source.encoder as { windowSize: number }, source.encoder.imageSize, merged.imageSize as number | Pair, notes);
  }
  if (base.family === 'swinv2' && source?.family === 'swinv2') merged.pretrainedWindowSizes = pretrainedWindows(source, merged);
  return modelConfig(base.family, merged, classes);
}

function presetConfig(name: string, classes: number): ModelConfig {
  const preset = encoderPreset(name);
  const family = preset.startsWith('vit') ? 'vit' : preset.startsWith('swinv2') ? 'swinv2' : 'swin';
  return modelConfig(family, encoderConfig(preset), classes);
}

const sides = (size: number | Pair): Pair => (typeof size === 'number' ? [size, size] : size);

/** The window grows with the image where that gives a whole number (192 px, window 6 -> 224 px, window 7). */
function scaledWindow({ windowSize }: { windowSize: number }, from: number | Pair, to: number | Pair, notes: string[]): number {
  const factor = sides(to)[0] / sides(from)[0];
  const scaled = windowSize * factor;
  if (!Number.isInteger(scaled) || scaled === windowSize || sides(to)[1] / sides(from)[1] !== factor) return windowSize;
  notes.push(`the window grows with the image from ${windowSize} to ${scaled} tokens (model.windowSize sets another)`);
  return scaled;
}

/** The windows that the weights' position networks were trained with, as long as the model's own differ from them. */
function pretrainedWindows(source: Extract<ModelConfig, { family: 'swinv2' }>, merged: Record<string, unknown>): readonly number[] {
  const { encoder } = source;
  if (encoder.pretrainedWindowSizes.some((w) => w > 0)) return encoder.pretrainedWindowSizes;
  const windows = (config: typeof encoder): number[] => stageGeometry(OP, config).map(({ resolution }) => planWindow(resolution, config.windowSize, false).window[0]);
  const [before, after] = [windows(encoder), windows(merged as unknown as typeof encoder)];
  return before.join() === after.join() ? encoder.pretrainedWindowSizes : before;
}

function threeChannels(weights: FoundWeights | null): Normalisation | null {
  if (!weights?.statistics) return null;
  if (weights.statistics.mean.length !== 3) throw new SimmimError('unsupported', OP, `the weights are for images of ${weights.statistics.mean.length} channels, pictures have 3`);
  return weights.statistics as Normalisation;
}
