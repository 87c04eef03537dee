import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { simmim } from './run_cli';

const dir = mkdtempSync(join(tmpdir(), 'simmim-experiment-'));
afterAll(() => rmSync(dir, { recursive: true }));

const SMALL = ['--seeds', '1', '--set', 'train.epochs=1', '--set', 'data.samplesPerEpoch=32', '--set', 'data.workers=0', '--set', 'schedule.warmupEpochs=0', '--set', 'validation.images=4'];
const file = join(dir, 'tiny.yaml');
writeFileSync(file, `name: tiny
seeds: [0, 1]
data: demo
arms:
  swin:
    pretrain: demo
    set: ['model.imageSize=16', 'model.patchSize=2', 'model.embedDim=8', 'model.depths=[1]', 'model.heads=[2]', 'masking.patchSize=4', 'train.batchSize=16']
    probe: {layer: last}
    finetune:
      recipe: finetune/demo
      set: ['model.imageSize=16', 'model.patchSize=2', 'model.embedDim=8', 'model.depths=[1]', 'model.heads=[2]', 'model.windowSize=null', 'data.picturesPerClass=4', 'data.workers=0', 'data.samplesPerEpoch=16', 'train.batchSize=8', 'train.epochs=2', 'schedule.warmupEpochs=0']
      scratch: ['optimizer.baseLr=2e-3']
    expect: {firstLoss: [0, 9], probeGain: {mean: -99}, finetuneGain: {mean: -99, p: 1}}
`);

test('an experiment runs, keeps its parts, and fails by name when an expectation is not met', async () => {
  const args = ['experiment', file, ...SMALL, '--out', join(dir, 'run')];
  const first = await simmim(...args);
  expect(first.errors).toEqual([]);
  for (const line of ['swin, seed 1: pre-training', 'swin, seed 1: probe of the random start', '| swin: linear probe, block 1 |', 'swin: mean probe gain in points ', 'swin, seed 1: fine-tuning', 'swin, seed 1: training from the random start', '| swin: fine-tuning |', 'swin: mean gain of fine-tuning in points', ' ok ']) expect(first.out).toContain(line);
  const again = await simmim(...args);
  expect(again.out).not.toMatch(/seed 1: [pft]/);
  const results = (): unknown => JSON.parse(readFileSync(join(dir, 'run/results.json'), 'utf8'));
  expect(results()).toMatchObject({ name: 'tiny', results: { swin: [{ seed: 1, probe: { pretrained: { right: expect.stringMatching(/^[01]{72}$/) as string } }, finetune: { scratch: { right: expect.stringMatching(/^[01]{72}$/) as string } } }] }, checks: [{ passed: true }, { passed: true }, { passed: true }, { passed: true }] });
  const runOf = (part: string): string => readFileSync(join(dir, `run/swin/seed-1/${part}/recipe.yaml`), 'utf8');
  expect([runOf('finetune'), runOf('scratch')]).toEqual([expect.stringMatching(/init: .*seed-1\/pretrain[^]*baseLr: 0.001/), expect.stringMatching(/init: null[^]*baseLr: 0.002/)]);
  expect(readFileSync(join(dir, 'run/table.md'), 'utf8')).toContain('# tiny');
  const page = readFileSync(join(dir, 'run/report.html'), 'utf8');
  for (const part of ['<h1>tiny</h1>', 'swin: linear probe, block 1', 'Masked loss in training']) expect(page).toContain(part);
  expect((await simmim(...args, '--set', 'optimizer.clip=1')).errors[0]).toMatch(/experiment: optimizer.clip was 5 and is now 1 since '.*seed-1\/pretrain' was begun: give another --out/);
  writeFileSync(file, readFileSync(file, 'utf8').replace('mean: -99', 'mean: 101'));
  const failed = await simmim(...args);
  expect(failed.code).toBe(1);
  expect(failed.errors[0]).toMatch(/tiny: 1 expectations were not met, the first being swin: mean probe gain in points: -?[\d.]+, expected at least 101/);
}, 60_000);

test.each([
  [['experiment', 'smokey'], "no experiment 'smokey', did you mean 'smoke'?"],
  [['experiment', 'smoke', '--data', dir], "takes no --data"],
  [['experiment', 'learnability'], 'needs labelled pictures: give their folder with --data'],
  [['experiment', 'smoke', '--arm', 'x'], "no arm 'x'"],
])('refused in one sentence: %j', async (args, sentence) => {
  const { code, errors } = await simmim(...args);
  expect(code).toBe(1);
  expect(errors).toEqual([expect.stringContaining(sentence)]);
});
