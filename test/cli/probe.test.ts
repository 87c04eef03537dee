import * as tf from '@tensorflow/tfjs-core';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readNpy } from '../../ts/formats/npy';
import { namedParameters } from '../../ts/nn/module';
import type { ProbeReport } from '../../ts/probe';
import { openEncoder } from '../../ts/probe/encoder_source';
import { Rng } from '../../ts/rng';
import { openCheckpoint } from '../../ts/train/checkpoint';
import { buildModel } from '../../ts/train/model_build';
import { simmim } from './run_cli';

const dir = mkdtempSync(join(tmpdir(), 'simmim-probe-'));
const [set, run] = [join(dir, 'set'), join(dir, 'run')];

beforeAll(async () => {
  const rng = new Rng(2);
  for (const [split, count] of [['train', 16], ['val', 6]] as const) {
    for (const [c, name] of ['dark', 'red', 'stripes'].entries()) {
      mkdirSync(join(set, split, name), { recursive: true });
      for (let i = 0; i < count; i++) {
        const level = (x: number, channel: number): number => (c === 0 ? 60 : c === 1 ? (channel === 0 ? 220 : 90) : x % 4 < 2 ? 230 : 30) + rng.below(25);
        const data = Uint8Array.from({ length: 16 * 16 * 3 }, (_, at) => level(Math.floor(at / 3) % 16, at % 3));
        writeFileSync(join(set, split, name, `${split}${i}.png`), await sharp(data, { raw: { width: 16, height: 16, channels: 3 } }).png().toBuffer());
      }
    }
  }
  const sizes = ['model.encoder=vit_small', 'model.imageSize=16', 'model.patchSize=4', 'model.embedDim=12', 'model.depth=2', 'model.depths=null', 'model.heads=2', 'model.windowSize=null', 'masking.patchSize=4', 'train.batchSize=8', 'train.epochs=1', 'train.seed=3', 'schedule.warmupEpochs=0', 'data.workers=0', 'data.samplesPerEpoch=16', 'validation.images=4'];
  const trained = await simmim('pretrain', '--recipe', 'demo', '--data', set, '--out', run, ...sizes.flatMap((s) => ['--set', s]));
  expect(trained.errors).toEqual([]);
}, 60_000);
afterAll(() => rmSync(dir, { recursive: true }));

test('every protocol on every layer, beside the random start; a second start finds the features again', async () => {
  const args = ['probe', run, '--data', set, '--method', 'all', '--baseline', '--k', '5', '--epochs', '2', '--batch-size', '16', '--layers', '1,last', '--keep-features', '--workers', '0', '--gradient-norm', '1e-4'];
  const { code, out, errors } = await simmim(...args);
  expect([code, errors]).toEqual([0, []]);
  for (const line of [`${run}: 48 training and 18 validation pictures, 3 classes`, 'run at its random start (seed 3)', 'top-1 %', 'block 2']) expect(out).toContain(line);
  expect(out).toMatch(/block 1 .*\(random [\d.]+, [+-][\d.]+, p [\de.-]+\)/);
  const report = JSON.parse(readFileSync(join(run, 'probe/probe.json'), 'utf8')) as ProbeReport & { baseline: ProbeReport };
  expect(report.results.map((r) => `${r.method} ${r.layer.label}`)).toEqual(['knn block 1', 'knn_plain block 1', 'logistic block 1', 'knn block 2', 'knn_plain block 2', 'logistic block 2', 'linear block 1', 'linear block 2', 'attentive block 1', 'attentive block 2']);
  for (const r of report.results) {
    expect(r.right).toMatch(/^[01]{18}$/);
    expect(r.top1).toBeCloseTo((100 * [...r.right].filter((d) => d === '1').length) / 18, 9);
  }
  expect(report.results.find((r) => r.method === 'logistic')).toMatchObject({ top1: 100, fit: { converged: true } }); // colours and stripes: nothing to it
  expect(report.results.find((r) => r.method === 'linear')?.curve).toHaveLength(2);
  const stored = join(run, 'probe/features/train/blocks.1.npy');
  expect(readNpy(stored).shape).toEqual([48, 12]);
  const again = await simmim(...args);
  expect(again.errors).toEqual([]);
  expect(JSON.parse(readFileSync(join(run, 'probe/probe.json'), 'utf8'))).toEqual(report);
}, 60_000);

test("the encoder is the run's, and its random start is where the run began", async () => {
  await tf.setBackend('simmim-cpu');
  const own = openEncoder(run);
  const { recipe } = openCheckpoint(join(run, 'checkpoints/step-00000002')).state;
  if (recipe.task !== 'pretrain') throw new Error('a run of another task');
  const start = namedParameters(buildModel(recipe).model);
  const random = namedParameters(openEncoder(run, { random: true }).encoder);
  const changed: string[] = [];
  for (const [name, parameter] of random) {
    expect([...parameter.value.dataSync()]).toEqual([...(start.get(`encoder.${name}`)?.value.dataSync() ?? [])]);
    if (parameter.value.dataSync().some((v, i) => v !== namedParameters(own.encoder).get(name)?.value.dataSync()[i])) changed.push(name);
  }
  expect(changed).toContain('blocks.1.mlp.fc1.weight');
});

test('features: pooled and multi-scale, both parts, with names and labels', async () => {
  const pooled = await simmim('features', run, '--data', set, '--out', join(dir, 'f'), '--layers', 'norm', '--workers', '0');
  expect(pooled.errors).toEqual([]);
  expect(readNpy(join(dir, 'f/val/norm.npy')).shape).toEqual([18, 12]);
  expect(readFileSync(join(dir, 'f/val/files.csv'), 'utf8')).toContain('stripes/val5.png,2,stripes');
  const maps = await simmim('features', run, '--data', join(set, 'val'), '--out', join(dir, 'm'), '--multi-scale', '--levels', '0,1', '--workers', '0');
  expect(maps.errors).toEqual([]);
  expect(maps.out).toContain('[18, 4, 4, 12] (blocks.1, stride 4)');
  expect(readNpy(join(dir, 'm/level1_stride4.npy')).shape).toEqual([18, 4, 4, 12]);
  expect(existsSync(join(dir, 'm/level1_stride4.npy.partial'))).toBe(false);
});

test.each([
  [['probe', 'x'], "required option '--data <data>' not specified"],
  [['probe', 'x', '--data', set, '--method', 'kn'], "unknown method 'kn'; did you mean 'knn'?"],
  [['probe', 'x', '--data', set, '--pooling', 'max'], "unknown pooling 'max'"],
  [['probe', 'x', '--data', set], "encoder: 'x' does not exist: expected a run"],
  [['probe', run, '--data', join(set, 'train/red')], 'lies directly in'],
  [['probe', run, '--data', set, '--k', '49'], 'knn: k is 49, expected 1 to 48'],
  [['probe', run, '--data', set, '--layers', '7'], 'there is no block 7'],
  [['probe', run, '--data', set, '--random', '--baseline'], '--baseline compares with the random start, which --random probes already'],
  [['probe', run, '--data', set, '--method', 'attentive', '--no-augment'], 'the attentive probe reads all tokens'],
  [['features', run, '--data', set, '--out', 'y', '--format', 'csv'], "unknown format 'csv'"],
  [['features', run, '--data', set], "required option '--out <folder>' not specified"],
])('refused in one sentence: %j', async (args, sentence) => {
  const { code, errors } = await simmim(...args);
  expect(code).toBe(1);
  expect(errors).toEqual([expect.stringContaining(sentence)]);
  expect(errors[0]?.split('\n')).toHaveLength(1);
});
