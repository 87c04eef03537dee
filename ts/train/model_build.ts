import type { Normalisation } from '../data';
import { createEncoder, type EncoderOptions } from '../models';
import { namedParameters, type Parameter } from '../nn/module';
import { Masking, SimMIM } from '../simmim';
import { flatBuffers, type FlatBuffers } from './flat_buffers';
import { type ParamGroup, pretrainGroups } from './param_groups';
import { type Recipe, imageSizeOf, statisticsOf } from './recipe';
import { maskStrategy, targetSpec } from './task';

/** The model of a recipe and what training needs of it; no parameter takes memory yet. */
export interface BuiltModel {
  model: SimMIM;
  masking: Masking;
  parameters: Map<string, Parameter>;
  groups: ParamGroup[];
  /** What its images are normalised by. */
  statistics: Normalisation;
}

/**
 * Builds encoder, head, target, masking and parameter groups. Throws `invalid_argument` for an unknown encoder or
 * option (naming the nearest) and for head, target, loss and sizes that do not fit each other.
 */
export function buildModel(recipe: Recipe): BuiltModel {
  const { encoder: name, imageSize, ...options } = recipe.model;
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null)) as EncoderOptions;
  const encoder = createEncoder(name, { ...given, imageSize, seed: recipe.train.seed } as EncoderOptions);
  const { kind, beta, maskedOnly } = recipe.loss;
  const model = new SimMIM(encoder, { head: recipe.head, target: targetSpec(recipe), loss: { kind, beta }, maskedOnly, statistics: statisticsOf(recipe), seed: recipe.train.seed });
  const masking = new Masking(maskStrategy(recipe), imageSizeOf(recipe), encoder.patchSize);
  const parameters = namedParameters(model);
  const { weightDecay, decayRules } = recipe.optimizer;
  const extra = decayRules.map(({ pattern, maxRank, value }) => ({ pattern: new RegExp(pattern), maxRank, value }));
  const groups = pretrainGroups([...parameters].map(([p, { shape }]) => ({ name: p, shape })), weightDecay, recipe.quirks, extra);
  return { model, masking, parameters, groups, statistics: statisticsOf(recipe) };
}

/** Moves the model's parameters into the flat buffers of the active backend. */
export function buildBuffers(built: BuiltModel, recipe: Recipe): FlatBuffers {
  return flatBuffers(built.parameters, built.groups, recipe.optimizer.weightDecay, { precision: recipe.train.precision });
}
