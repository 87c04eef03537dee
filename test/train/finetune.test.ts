/** Fine-tuning runs: bits after stopping and resuming, and recorded or not; the moving average; what a classifier is built of. */
import * as tf from '@tensorflow/tfjs-core';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { fromFloat32, toFloat32, type RawTensor } from '../../ts/formats/raw_tensor';
import { encoderConfig, encoderFromConfig, modelConfig, writeWeights, type EncoderOptions, type Family } from '../../ts/models';
import { disposeModel, namedParameters } from '../../ts/nn/module';
import { buildClassifier } from '../../ts/train/classifier_build';
import { AVERAGE, openCheckpoint } from '../../ts/train/checkpoint';
import { ClassifyTask } from '../../ts/train/classify_task';
import { parseFinetune, randAugmentOf, type PartialFinetuneRecipe } from '../../ts/train/finetune_recipe';
import { openFinetune } from '../../ts/train/finetune_run';
import { readLog } from '../../ts/train/metrics';
import { loadFinetune, recipeNames, recipeText } from '../../ts/train/recipe_files';
import type { HostBatch } from '../../ts/train/step';
import { Timetable } from '../../ts/train/timetable';
import type { Reporter, RunSummary } from '../../ts/train/trainer';
import { findWeights } from '../../ts/train/weights_source';

const folder = mkdtempSync(join(tmpdir(), 'simmim-finetune-'));
afterAll(() => rmSync(folder, { recursive: true }));
beforeAll(() => tf.setBackend(CPU_BACKEND));

const quiet: Reporter = { update: () => undefined, validation: () => undefined, checkpoint: () => undefined, note: () => undefined };
const tiny: PartialFinetuneRecipe = {
  task: 'finetune',
  model: { encoder: 'swin_tiny', imageSize: 16, patchSize: 2, embedDim: 8, depths: [2, 2], heads: [1, 2], windowSize: 4, dropPath: 0.2 },
  data: { source: 'demo', workers: 0, samplesPerEpoch: 32 },
  train: { epochs: 3, batchSize: 8, accumulation: 2 },
  optimizer: { ema: 0.9 },
  augment: { mixMode: 'elem' },
  schedule: { warmupEpochs: 1 },
  checkpoint: { everySteps: 100 },
};

/** Trains in a folder of the given name; the files of its last checkpoint, and its log without times. */
async function run(name: string, given: PartialFinetuneRecipe, resumeFrom: string | null = null): Promise<{ summary: RunSummary; files: string[]; log: unknown[] }> {
  const out = join(folder, name);
  const before = tf.memory().numTensors;
  const open = openFinetune(parseFinetune(given), out, quiet, resumeFrom === null ? null : openCheckpoint(resumeFrom));
  const summary = await open.trainer.run();
  await open.close();
  disposeModel(open.built.model);
  expect(tf.memory().numTensors).toBe(before);
  const log = readLog(join(out, 'log.jsonl')).map((r) => (r.kind === 'update' ? [r.step, r.loss, r.gradientNorm, r.lr] : r));
  return { summary, log, files: ['model.safetensors', 'optimizer.safetensors', AVERAGE].map((file) => readFileSync(join(summary.checkpoint, file)).toString('base64')) };
}

test('a run that is stopped and resumed, or not recorded, has the bits of one that is neither; the average lags behind the weights', async () => {
  const whole = await run('whole', tiny);
  expect(whole.summary).toMatchObject({ end: 'finished', update: 6, validation: { images: 72, ema: { top1: expect.any(Number) as number } } });
  const first = await run('stopped', { ...tiny, train: { ...tiny.train, stopAfter: 3 } });
  expect(first.summary.end).toBe('stopped');
  const resumed = await run('stopped', tiny, first.summary.checkpoint);
  expect(resumed.files).toEqual(whole.files);
  expect((await run('eager', { ...tiny, train: { ...tiny.train, recorded: false } })).files).toEqual(whole.files);
  expect(whole.files[2]).not.toEqual(whole.files[0]);
  expect(readFileSync(join(whole.summary.checkpoint, 'state.json'), 'utf8')).toContain('"retina"');
  const updates = (log: unknown[]): unknown[] => log.filter(Array.isArray);
  expect(updates(resumed.log)).toEqual(updates(whole.log));
}, 60_000);

test('the average is the recurrence of the weights after each update', async () => {
  const averages: number[][] = [];
  const weights: number[][] = [];
  for (const stopAfter of [1, 2, 3]) {
    const { summary } = await run(`ema${stopAfter}`, { ...tiny, train: { ...tiny.train, accumulation: 1, stopAfter } });
    const read = (ema: boolean): number[] => [...new Float32Array(new Uint8Array(findWeights(summary.checkpoint, { ema }).state.get('head.weight')?.data ?? []).buffer)];
    averages.push(read(true));
    weights.push(read(false));
  }
  for (const t of [2, 3]) {
    const decay = Math.min(0.9, (1 + t) / (10 + t));
    (averages[t - 1] as number[]).forEach((value, i) => expect(value).toBeCloseTo(decay * (averages[t - 2]?.[i] as number) + (1 - decay) * (weights[t - 1]?.[i] as number), 7));
  }
}, 60_000);

/** Pre-trained weights of a small model in a folder of the official layout. */
function pretrained(name: string, family: Family, preset: string, options: EncoderOptions): string {
  const config = modelConfig(family, { ...encoderConfig(preset, options), seed: 5 }, 0);
  const encoder = encoderFromConfig(config);
  const state = new Map([...namedParameters({ encoder })].map(([key, p]) => [key, fromFloat32(p.value.dataSync() as Float32Array, [...p.shape])]));
  writeWeights(join(folder, name), 'official', state, config);
  disposeModel(encoder);
  return join(folder, name);
}

describe('a classifier from pre-trained weights', () => {
  const build = (init: string, given: Partial<PartialFinetuneRecipe> = {}): ReturnType<typeof buildClassifier> => buildClassifier(parseFinetune({ task: 'finetune', init, ...given }), ['a', 'b', 'c'], findWeights(init));

  test('Swin from 48 to 56 px: the window grows from 6 to 7, its tables are resized, only the head is new', () => {
    const built = build(pretrained('swin', 'swin', 'swin_tiny', { imageSize: 48, patchSize: 4, embedDim: 8, depths: [2, 2], heads: [1, 2], windowSize: 6 }), { model: { imageSize: 56 } });
    expect(built.identity.encoder).toMatchObject({ imageSize: 56, windowSize: 7, dropPath: 0.1 });
    expect(built.load?.resized.map(({ from, to }) => [from[0], to[0]])).toEqual(Array(4).fill([121, 169]));
    expect(built.load?.missing).toEqual(['head.weight', 'head.bias']);
    expect(built.notes.join(' ')).toMatch(/grows with the image from 6 to 7/);
    disposeModel(built.model);
  });

  test('SwinV2 keeps the windows that its position networks were trained with', () => {
    const source = pretrained('swinv2', 'swinv2', 'swinv2_tiny', { imageSize: 96, patchSize: 4, embedDim: 8, depths: [2, 1, 1], heads: [1, 2, 2], windowSize: 6 });
    const built = build(source, { model: { imageSize: 112 } });
    expect(built.identity.encoder).toMatchObject({ windowSize: 7, pretrainedWindowSizes: [6, 6, 6] });
    disposeModel(built.model);
    const same = build(source);
    expect(same.identity.encoder).toMatchObject({ windowSize: 6, pretrainedWindowSizes: [] });
    disposeModel(same.model);
  });

  test("ViT: the shared table becomes each block's own, the norm comes after the mean", () => {
    const built = build(pretrained('vit', 'vit', 'vit_small', { imageSize: 32, patchSize: 8, embedDim: 16, depth: 2, heads: 2 }));
    expect(built.identity.encoder).toMatchObject({ relativeBias: 'per_block', finalNorm: false });
    expect(built.load?.missing).toEqual(['fc_norm.weight', 'fc_norm.bias', 'head.weight', 'head.bias']);
    expect(built.groups.map((g) => g.name)).toContain('layer_3_decay');
    disposeModel(built.model);
  });

  test('from scratch it has the architecture alone', () => {
    const built = build(join(folder, 'vit'), { fromScratch: true });
    expect(built.load).toBeNull();
    expect(built.identity.encoder).toMatchObject({ embedDim: 16, relativeBias: 'per_block' });
    expect([...(built.parameters.get('cls_token')?.value.dataSync() ?? [])]).not.toEqual([...toFloat32(findWeights(join(folder, 'vit')).state.get('encoder.cls_token') as RawTensor)]);
    disposeModel(built.model);
  });

  test('refuses what does not fit', () => {
    const source = join(folder, 'vit');
    expect(() => build(source, { model: { encoder: 'swin_base' } })).toThrow("model.encoder is swin_base, but the weights are a vit's");
    expect(() => build(source, { model: { encoder: 'vit_base' } })).toThrow('another model or size');
    expect(() => buildClassifier(parseFinetune({ task: 'finetune' }), ['a', 'b'], null)).toThrow('model.encoder is not set and no weights are given');
    expect(() => findWeights(source, { ema: true })).toThrow('holds no moving average');
  });
});

describe('recipes of fine-tuning', () => {
  const names = recipeNames('finetune');

  test.each(names)('%s is complete and says where it comes from', (name) => {
    const recipe = loadFinetune(name);
    expect(recipe.name).toBe(name);
    expect(() => new Timetable(recipe, 40)).not.toThrow();
    for (const word of ['# Source: ', '# Expected: ', '# Time: ', '# Command: simmim finetune ']) expect(recipeText(name)).toContain(word);
  });

  test('official: rates of the layers, schedule and augmentation', () => {
    const recipe = loadFinetune('official-code/finetune_swin_base_800ep');
    expect(recipe.optimizer).toMatchObject({ layerDecay: 0.8, weightDecay: 0.05, clip: 5 });
    expect(randAugmentOf(recipe.augment)).toEqual({ magnitude: 9, magnitudeStd: 0.5, layers: 2 });
    const timetable = new Timetable(recipe, 1000); // 1000 micro steps of 128, 16 of which are an update: batch 2048
    expect(timetable.lr(0)).toBe(timetable.lr(0, 0.1)); // warm-up starts at the same rate for all layers
    expect(timetable.lr(Math.ceil(20 * 62.5))).toBeLessThanOrEqual(1.25e-3 * 4);
  });

  test('what is wrong is said in one sentence', () => {
    expect(() => parseFinetune({ task: 'finetune', train: { batchSize: 7 } })).toThrow('train.batchSize is 7, expected an even number');
    expect(() => parseFinetune({ task: 'finetune', augment: { autoAugment: 'rand-m9' } })).toThrow(/augment.autoAugment is "rand-m9": expected null or timm's words/);
    expect(() => parseFinetune({ task: 'finetune', masking: {} })).toThrow("unknown key 'masking'");
    expect(() => loadFinetune('demo')).toThrow("demo: is a recipe for 'simmim pretrain' (task: pretrain), expected one for 'simmim finetune'");
  });
});

test('mixing is a function of seed, epoch and step; what it makes of the labels sums to one', () => {
  const recipe = parseFinetune(tiny);
  const task = new ClassifyTask({ classes: 3, loss: () => expect.fail('not used') }, recipe.augment, 1);
  const batch = (step: number): HostBatch => task.inputs({ images: new Float32Array(4 * 3 * 16), labels: Int32Array.of(0, 1, 2, 0), files: [], indices: [], epoch: 0, step }, [3, 4, 4]);
  expect(batch(3)).toEqual(batch(3));
  expect(batch(3)).not.toEqual(batch(4));
  const targets = batch(3).targets?.values as Float32Array;
  for (let row = 0; row < 4; row++) expect(targets.slice(3 * row, 3 * row + 3).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 6);
});
