import { expect, test } from 'vitest';
import type { Judged, SeedResult } from '../../ts/experiment/run';
import { experimentNames, loadExperiment, experimentText } from '../../ts/experiment/spec';
import { checks, checkTable, pairTable, tables } from '../../ts/experiment/verdict';

const judged = (right: string): Judged => ({ top1: (100 * [...right].filter((d) => d === '1').length) / right.length, right: [...right].map((d) => d === '1') });
const result = (seed: number, epochLoss: number[], a: string, b: string): SeedResult => ({ seed, firstLoss: 1, epochLoss, probe: { layer: 'block 4', pretrained: judged(a), random: judged(b) }, finetune: null });

test('every experiment of the package is valid and says result, time, command and source', () => {
  expect(experimentNames()).toEqual(expect.arrayContaining(['finetune_gain', 'learnability', 'smoke']));
  for (const name of experimentNames()) {
    const plan = loadExperiment(name);
    expect(plan.name).toBe(`experiments/${name}`);
    for (const word of ['Source:', 'Expected:', 'Time:', `Command: simmim experiment ${name}`]) expect(experimentText(name), name).toContain(`# ${word}`);
  }
});

test('learnability asks for the reference experiment: three seeds, its sizes, its bands', () => {
  const { seeds, arms } = loadExperiment('learnability');
  expect(seeds).toEqual([0, 1, 2]);
  expect(arms.map(({ pretrain: { model, train, optimizer, masking } }) => [model.embedDim, train.epochs, train.batchSize, optimizer.baseLr, masking.patchSize])).toEqual([[96, 4, 64, 2e-3, 4], [96, 10, 64, 1e-3, 8]]);
  expect(arms[0]?.expect).toEqual({ finetuneGain: {}, firstLoss: [0.93, 1.06], epochLoss: { 1: [0.64, 0.74], 2: [0.51, 0.56], 4: [0.43, 0.51] }, probeGain: { mean: 3, each: 2 } });
  expect(arms[1]?.expect).toEqual({ finetuneGain: {}, epochLoss: { 10: [0.5, 0.56] }, probeGain: { mean: 2 } });
});

test('each expectation is held against what came out', () => {
  const plan = loadExperiment('learnability', { arms: ['vit96'], seeds: [0, 1] });
  const good = result(0, [0.7, 0.53, 0.49, 0.47], '1111101111', '1110000000');
  const poor = result(1, [0.7, 0.53, 0.49, 0.6], '1110000000', '1110000000');
  const found = checks(plan, new Map([['vit96', [good, poor]]]));
  expect(found.filter((c) => !c.passed).map((c) => [c.what, c.got])).toEqual([['vit96, seed 1: mean loss of epoch 4', 0.6], ['vit96, seed 1: probe gain in points', 0]]);
  expect(found).toHaveLength(11);
  expect(checkTable(found).rows.at(-1)).toEqual(['vit96: mean probe gain in points', '30.0000', 'at least 3', 'ok']);
  const short = checks(plan, new Map([['vit96', [result(0, [0.7], '1', '0')]]]));
  expect(short.find((c) => c.what.includes('epoch 4'))).toMatchObject({ got: NaN, passed: false });
});

test('tables: seeds, then mean and spread, with McNemar for each seed and for all', () => {
  const plan = loadExperiment('learnability', { arms: ['vit96'] });
  const [losses, probe] = tables(plan, new Map([['vit96', [result(3, [0.5], '1111111100', '0000000000'), result(4, [0.7], '1111110000', '1111110000')]]]));
  expect(losses?.headings).toEqual(['vit96: masked loss', 'first step', 'epoch 1']);
  expect(losses?.rows.at(-1)).toEqual(['mean ± std', '1.0000 ± 0.0000', '0.6000 ± 0.1414']);
  expect(probe?.rows).toEqual([
    ['seed 3', '80.00', '0.00', '+80.00', '0.008'], // 2 / 2^8
    ['seed 4', '60.00', '60.00', '+0.00', '1.000'],
    ['mean ± std', '70.00 ± 14.14', '30.00 ± 42.43', '+40.00 ± 56.57', '0.008 (all seeds)'],
  ]);
  expect(pairTable('x', ['a', 'b'], [0], [[judged('11111111111'), judged('00000000000')]]).rows[0]?.[4]).toBe('1e-3');
});

test('fine-tuning is held to its mean gain and to the p of all pictures of all seeds', () => {
  const [arm] = loadExperiment('finetune_gain').arms;
  if (!arm) throw new Error('the experiment has no arm');
  const seed = (n: number, pretrained: string, scratch: string): SeedResult => ({ seed: n, firstLoss: 1, epochLoss: [1], probe: null, finetune: { pretrained: judged(pretrained), scratch: judged(scratch) } });
  const plan = { name: 'x', data: 'folder' as const, seeds: [0, 1], arms: [{ ...arm, expect: { epochLoss: {}, probeGain: {}, finetuneGain: { mean: 50, p: 0.001 } } }] };
  const results = new Map([[arm.name, [seed(0, '111111', '000111'), seed(1, '111111', '000000')]]]);
  expect(checks(plan, results).map((c) => [c.got, c.passed])).toEqual([[75, true], [2 / 2 ** 9, false]]);
  expect(tables(plan, results).at(-1)?.rows.at(-1)?.at(-1)).toBe('0.004 (all seeds)');
});

test('bad files, names and arms are one sentence', () => {
  expect(() => loadExperiment('learnabilty')).toThrow(/no experiment 'learnabilty', did you mean 'learnability'\?/);
  expect(() => loadExperiment('smoke', { arms: ['vit'] })).toThrow(/no arm 'vit' in experiments\/smoke, which has swin24/);
  expect(() => loadExperiment('smoke', { set: ['train.epoch=1'] })).toThrow(/unknown key 'train.epoch', did you mean 'train.epochs'/);
});
