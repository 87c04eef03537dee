import { expect, test } from 'vitest';
import { decayRules, finetuneGroups, firstMatch, pretrainGroups, type NamedShape } from '../../ts/train/param_groups';
import { fixtures, readFixture } from '../helpers/golden';

interface Group { group_name?: string; lr_scale?: number; weight_decay: number; params: string[] }
interface Case { stage: 'pretrain' | 'finetune'; weight_decay: number; layer_decay?: number; groups: Group[] }
interface Manifest { tensors?: [string, number[]][] }

const manifest = new Map<string, number[]>();
for (const name of fixtures(/^manifest_/)) {
  for (const entry of Object.values(readFixture<Record<string, Manifest>>(name).json)) {
    for (const [parameter, shape] of entry.tensors ?? []) manifest.set(parameter, shape);
  }
}

/** Rank from the manifests; fine-tuning adds only norms and heads, and copies the ViT's shared table into the blocks. */
function shapeOf(name: string): number[] {
  const known = manifest.get(name) ?? manifest.get(`encoder.${name}`);
  if (known) return known;
  if (name === 'head.weight' || name.endsWith('relative_position_bias_table')) return [2, 2];
  if (/^(fc_norm|norm)\.(weight|bias)$/.test(name) || name === 'head.bias') return [2];
  throw new Error(`no shape known for ${name}`);
}

/** All parameters, group after group: within a group that is the order of the model. */
function parametersOf(c: Case): NamedShape[] {
  return c.groups.flatMap((g) => g.params).map((name) => ({ name, shape: shapeOf(name) }));
}

for (const fixture of fixtures(/^param_groups_/)) {
  for (const [model, c] of Object.entries(readFixture<Record<string, Case>>(fixture).json)) {
    const vit = c.groups.some((g) => g.params.some((p) => p.includes('blocks.') && !p.includes('layers.')));
    const parameters = parametersOf(c);
    test(`${model}: ${c.stage} groups as the official code`, () => {
      if (c.stage === 'pretrain') {
        const groups = pretrainGroups(parameters, c.weight_decay, { decayBiasTables: true, decayMaskToken: vit });
        expect(groups.map((g) => [g.weightDecay, g.params])).toEqual(c.groups.map((g) => [g.weight_decay, g.params]));
        return;
      }
      const depths = vit ? blocksOf(parameters, /^blocks\.(\d+)\./) : stagesOf(parameters);
      const groups = finetuneGroups(parameters, {
        weightDecay: c.weight_decay, layerDecay: c.layer_decay as number, depths, officialCode: true,
        quirks: { decayBiasTables: vit, decayMaskToken: vit },
      });
      expect(groups.map((g) => [g.name, g.weightDecay, g.params])).toEqual(c.groups.map((g) => [g.group_name, g.weight_decay, g.params]));
      groups.forEach((g, i) => expect(Math.abs(g.lrScale - (c.groups[i]?.lr_scale as number))).toBeLessThanOrEqual(1e-15));
    });
    test(`${model}: by default no table, token or 1-D parameter decays`, () => {
      const decayed = pretrainGroups(parameters, c.weight_decay)[0]?.params ?? [];
      expect(decayed.length).toBeGreaterThan(0);
      expect(decayed.filter((p) => /token|table|cpb_mlp|logit_scale|bias|norm/.test(p))).toEqual([]);
      expect(decayed.every((p) => p.endsWith('.weight'))).toBe(true);
    });
  }
}

function blocksOf(parameters: NamedShape[], pattern: RegExp): number {
  return 1 + Math.max(...parameters.map((p) => Number(pattern.exec(p.name)?.[1] ?? -1)));
}
function stagesOf(parameters: NamedShape[]): number[] {
  const stages = blocksOf(parameters, /^layers\.(\d+)\./);
  return Array.from({ length: stages }, (_, s) => blocksOf(parameters, new RegExp(`^layers\\.${s}\\.blocks\\.(\\d+)\\.`)));
}

test('extra rules come first, and an unmatched parameter is an error', () => {
  const parameters = [{ name: 'a.weight', shape: [2, 2] }, { name: 'b.weight', shape: [2, 2] }];
  const groups = pretrainGroups(parameters, 0.05, undefined, [{ pattern: /^a\./, value: 0.2 }]);
  expect(groups.map((g) => [g.weightDecay, g.params])).toEqual([[0.2, ['a.weight']], [0.05, ['b.weight']]]);
  const rules = decayRules(0.05).slice(0, -1);
  expect(() => firstMatch(rules, { name: 'a.weight', shape: [2, 2] }, 'weight decay')).toThrow("no weight decay rule matches parameter 'a.weight' of shape [2, 2]");
});
