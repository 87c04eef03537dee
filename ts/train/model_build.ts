import { createEncoder, type EncoderOptions } from '../models';
import { namedParameters, type Parameter } from '../nn/module';
import { Masking, SimMIM } from '../simmim';
import { flatBuffers, type FlatBuffers } from './flat_buffers';
import { type ParamGroup, pretrainGroups } from './param_groups';
import { type Recipe, imageSizeOf } from './recipe';
import type { MaskSource } from './step';

/** The model of a recipe and what training needs of it; no parameter takes memory yet. */
export interface BuiltModel {
  model: SimMIM;
  masking: Masking;
  masks: MaskSource;
  parameters: Map<string, Parameter>;
  groups: ParamGroup[];
}

/**
 * Builds encoder, head, masking and parameter groups. Throws `invalid_argument` for an unknown encoder or
 * option (naming the nearest) and for sizes that do not fit each other.
 */
export function buildModel(recipe: Recipe): BuiltModel {
  const { encoder: name, imageSize, ...options } = recipe.model;
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null)) as EncoderOptions;
  const encoder = createEncoder(name, { ...given, imageSize, seed: recipe.train.seed } as EncoderOptions);
  const model = new SimMIM(encoder, { loss: recipe.loss, seed: recipe.train.seed });
  const masking = new Masking({ kind: 'random', patch: recipe.masking.patchSize, ratio: recipe.masking.ratio }, imageSizeOf(recipe), encoder.patchSize);
  const parameters = namedParameters(model);
  const { weightDecay, decayRules } = recipe.optimizer;
  const extra = decayRules.map(({ pattern, maxRank, value }) => ({ pattern: new RegExp(pattern), maxRank, value }));
  const groups = pretrainGroups([...parameters].map(([p, { shape }]) => ({ name: p, shape })), weightDecay, recipe.quirks, extra);
  return { model, masking, masks: (clock, batch) => masking.onDevice(clock, batch), parameters, groups };
}

/** Moves the model's parameters into the flat buffers of the active backend. */
export function buildBuffers(built: BuiltModel, recipe: Recipe): FlatBuffers {
  return flatBuffers(built.parameters, built.groups, recipe.optimizer.weightDecay);
}
