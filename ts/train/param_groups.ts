import { SimmimError } from '../errors';

/** What the rules need to know of a parameter: its official name and its shape. */
export interface NamedShape {
  name: string;
  shape: readonly number[];
}

/** One line of a rule list: parameters whose name matches (and whose rank is at most `maxRank`) take `value`. */
export interface Rule<V> {
  pattern: RegExp;
  maxRank?: number;
  value: V;
}

/** Parameters that share a decay and a factor on the learning rate. */
export interface ParamGroup {
  name: string;
  lrScale: number;
  weightDecay: number;
  params: string[];
}

/**
 * Departures of the official code from what it means to do, off by default
 * (`golden/README.md`, fact 2).
 */
export interface DecayQuirks {
  /** Decay relative position tables, `cpb_mlp` weights and `logit_scale` (a keyword that never matches). */
  decayBiasTables: boolean;
  /** Decay the mask token (the official ViT forgets it). */
  decayMaskToken: boolean;
}

const NO_QUIRKS: DecayQuirks = { decayBiasTables: false, decayMaskToken: false };

/** The value of the first rule that matches `parameter`. Throws `not_found` when none does. */
export function firstMatch<V>(rules: readonly Rule<V>[], parameter: NamedShape, purpose: string): V {
  for (const rule of rules) {
    if (rule.maxRank !== undefined && parameter.shape.length > rule.maxRank) continue;
    if (rule.pattern.test(parameter.name)) return rule.value;
  }
  throw new SimmimError('not_found', 'param_groups', `no ${purpose} rule matches parameter '${parameter.name}' of shape [${parameter.shape.join(', ')}]: end the list with a rule that matches everything`);
}

/**
 * Which parameters decay: none that are 1-D (scales, biases), no tokens, no position embeddings and no
 * relative position tables or the networks that make them; everything else does.
 */
export function decayRules(weightDecay: number, quirks: DecayQuirks = NO_QUIRKS): Rule<number>[] {
  const rules: Rule<number>[] = [
    { pattern: /^/, maxRank: 1, value: 0 },
    { pattern: /\.bias$/, value: 0 },
    { pattern: /(^|\.)(cls_token|pos_embed|absolute_pos_embed)$/, value: 0 },
  ];
  if (!quirks.decayMaskToken) rules.push({ pattern: /(^|\.)mask_token$/, value: 0 });
  if (!quirks.decayBiasTables) rules.push({ pattern: /relative_position_bias_table|cpb_mlp|logit_scale/, value: 0 });
  rules.push({ pattern: /^/, value: weightDecay });
  return rules;
}

/** The two groups of pre-training, decayed first; `extra` rules go before the default ones. */
export function pretrainGroups(
  parameters: readonly NamedShape[], weightDecay: number, quirks: DecayQuirks = NO_QUIRKS, extra: readonly Rule<number>[] = [],
): ParamGroup[] {
  const rules = [...extra, ...decayRules(weightDecay, quirks)];
  const groups = new Map<number, ParamGroup>();
  for (const parameter of parameters) {
    const decay = firstMatch(rules, parameter, 'weight decay');
    const group = groups.get(decay) ?? { name: decay === 0 ? 'no_decay' : `decay_${decay}`, lrScale: 1, weightDecay: decay, params: [] };
    groups.set(decay, group);
    group.params.push(parameter.name);
  }
  return [...groups.values()].sort((a, b) => b.weightDecay - a.weightDecay);
}

/** Depths of a hierarchical encoder (Swin) or the number of blocks of a plain one (ViT). */
export type Depths = readonly number[] | number;

/** Number of layers for layer-wise decay: the blocks, what precedes them, and the head. */
export function layerCount(depths: Depths): number {
  return (typeof depths === 'number' ? depths : depths.reduce((sum, d) => sum + d, 0)) + 2;
}

/**
 * The layer (0 = embedding, last = head) of a classifier's parameter. Patch merging belongs to the last
 * block of its stage. Position embeddings are layer 0, except the official Swin's `absolute_pos_embed`.
 */
export function layerOf(name: string, depths: Depths, officialCode = false): number {
  const last = layerCount(depths) - 1;
  if (/^(cls_token|mask_token|pos_embed)$/.test(name) || name.startsWith('patch_embed')) return 0;
  if (name === 'absolute_pos_embed') return officialCode ? last : 0;
  if (typeof depths === 'number') {
    const block = /^blocks\.(\d+)\./.exec(name);
    return block ? Number(block[1]) + 1 : last;
  }
  const before = (stage: number): number => depths.slice(0, stage).reduce((sum, d) => sum + d, 0);
  const block = /^layers\.(\d+)\.blocks\.(\d+)\./.exec(name);
  if (block) return before(Number(block[1])) + Number(block[2]) + 1;
  const merging = /^layers\.(\d+)\.downsample\./.exec(name);
  return merging ? before(Number(merging[1]) + 1) : last;
}

/**
 * Groups of fine-tuning, one per layer and kind in order of first appearance: the rate of layer i is the
 * base rate times `layerDecay ^ (last - i)`; `extra` decay rules go before the default ones. Names are those of the classifier (no `encoder.` prefix).
 */
export function finetuneGroups(
  parameters: readonly NamedShape[],
  options: { weightDecay: number; layerDecay: number; depths: Depths; quirks?: DecayQuirks; officialCode?: boolean; extra?: readonly Rule<number>[] },
): ParamGroup[] {
  const rules = [...(options.extra ?? []), ...decayRules(options.weightDecay, options.quirks)];
  const last = layerCount(options.depths) - 1;
  const groups = new Map<string, ParamGroup>();
  for (const parameter of parameters) {
    const weightDecay = firstMatch(rules, parameter, 'weight decay');
    const layer = layerOf(parameter.name, options.depths, options.officialCode);
    const name = `layer_${layer}_${weightDecay === 0 ? 'no_decay' : weightDecay === options.weightDecay ? 'decay' : `decay_${weightDecay}`}`;
    const group = groups.get(name) ?? { name, lrScale: options.layerDecay ** (last - layer), weightDecay, params: [] };
    groups.set(name, group);
    group.params.push(parameter.name);
  }
  return [...groups.values()];
}
