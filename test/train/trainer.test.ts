import * as tf from '@tensorflow/tfjs-core';
import { mkdtempSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { checkpointsFolder, latestCheckpoint, listCheckpoints, openCheckpoint } from '../../ts/train/checkpoint';
import { flatBuffers } from '../../ts/train/flat_buffers';
import type { LogRecord } from '../../ts/train/metrics';
import { pretrainGroups } from '../../ts/train/param_groups';
import { parseRecipe, type PartialRecipe } from '../../ts/train/recipe';
import { MaskedTask } from '../../ts/train/masked_task';
import { Trainer } from '../../ts/train/trainer';
import { ToyModel, ToySource, toyMasks, toyParameters } from '../helpers/toy_run';

const folder = mkdtempSync(join(tmpdir(), 'simmim-trainer-'));
let counter = 0;

afterAll(() => rmSync(folder, { recursive: true }));

interface Setting {
  recipe?: PartialRecipe;
  out?: string;
  resume?: boolean;
  stopAt?: number;
  poison?: (update: number) => number;
  batches?: number;
  validate?: boolean;
}

function setUp(setting: Setting) {
  const { recipe: given = {}, out = join(folder, `run-${counter++}`) } = setting;
  const recipe = parseRecipe({
    ...given, model: { imageSize: 32 }, train: { epochs: 3, batchSize: 2, seed: 5, ...given.train }, schedule: { warmupEpochs: 1, ...given.schedule },
    optimizer: { baseLr: 0.3, clip: 1, ...given.optimizer }, checkpoint: { everySteps: 4, keep: 2, ...given.checkpoint },
  });
  const model = new ToyModel();
  const parameters = toyParameters(model);
  const buffers = flatBuffers(parameters, pretrainGroups([...parameters].map(([name, p]) => ({ name, shape: p.shape })), 0.05), 0.05);
  const notes: string[] = [];
  const warnings: string[] = [];
  const source = new ToySource(2, setting.batches ?? 5);
  if (setting.poison) source.poison = setting.poison;
  const trainer: Trainer = new Trainer({
    recipe, task: new MaskedTask(model, toyMasks, recipe.train.seed), buffers, source, out, versions: {},
    validate: setting.validate ? () => Promise.resolve({ loss: 0.5, constantLoss: 1, images: 4 }) : null,
    resume: setting.resume ? latestCheckpoint(checkpointsFolder(out), (w) => warnings.push(w)) : null,
    reporter: {
      update: ({ step }) => {
        if (step === setting.stopAt) trainer.requestStop();
      },
      validation: () => undefined, checkpoint: () => undefined, note: (s) => notes.push(s),
    },
  });
  return { out, trainer, notes, warnings, source, weights: () => buffers.names.map((name, i) => [name, buffers.read('weights', i), buffers.read('m', i), buffers.read('v', i)]) };
}

const log = (out: string): LogRecord[] => readFileSync(join(out, 'log.jsonl'), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line) as LogRecord);
const course = (out: string): unknown[] => log(out).map((r) => (r.kind === 'update' ? [r.step, r.epoch, r.loss, r.lr, r.gradientNorm] : [r.step, r.loss]));

async function start(setting: Setting) {
  const run = setUp(setting);
  return { ...run, summary: await run.trainer.run() };
}

describe.each([CPU_BACKEND, 'cpu'])('on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
  });

  test('stopped at one update or another and resumed, a run ends with the same bits and the same log', async () => {
    const whole = await start({ validate: true });
    expect(whole.summary).toMatchObject({ end: 'finished', update: 15, skipped: 0 });
    expect(log(whole.out).filter((r) => r.kind === 'validation').map((r) => r.step)).toEqual([5, 10, 15]);
    for (const stopAt of [1, 4, 7, 14]) {
      const first = await start({ stopAt, validate: true });
      expect(first.summary).toMatchObject({ end: 'stopped', update: stopAt });
      const second = await start({ out: first.out, resume: true, validate: true });
      expect(second.summary).toMatchObject({ end: 'finished', update: 15 });
      expect(second.weights()).toEqual(whole.weights());
      expect(course(first.out)).toEqual(course(whole.out));
    }
  });

  test('accumulation across the end of an epoch: stopped in mid-update, nothing is lost', async () => {
    const recipe = { train: { accumulation: 2 } };
    const whole = await start({ recipe });
    expect(whole.summary.update).toBe(7); // 15 batches make 7 updates, whatever the epochs are
    const first = setUp({ recipe });
    const { next } = first.source;
    let taken = 0;
    first.source.next = function () {
      if (++taken === 6) first.trainer.requestStop(); // the second micro step of update 3 is done, not more
      return next.call(this);
    };
    expect(await first.trainer.run()).toMatchObject({ end: 'stopped', update: 3 });
    const interrupted = setUp({ recipe });
    taken = 0;
    interrupted.source.next = function () {
      if (++taken === 5) interrupted.trainer.requestStop(); // in the first micro step: the update is given up
      return next.call(this);
    };
    expect(await interrupted.trainer.run()).toMatchObject({ end: 'stopped', update: 2 });
    for (const { out } of [first, interrupted]) {
      const second = await start({ out, recipe, resume: true });
      expect(second.weights()).toEqual(whole.weights());
      expect(course(out)).toEqual(course(whole.out));
    }
  });

  test('official quirk: batches at the end of an epoch that make no update are dropped, and counted by the schedule', async () => {
    const recipe: PartialRecipe = { train: { accumulation: 2 }, quirks: { schedulerCountsDroppedSteps: true, lrLag: true }, optimizer: { scaleLr: false, warmupLr: 0 }, schedule: { name: 'linear', warmupEpochs: 1 } };
    const run = await start({ recipe });
    expect(run.summary.update).toBe(6);
    expect(run.source.state()).toMatchObject({ epoch: 3, step: 0 });
    const rates = log(run.out).map((r) => (r.kind === 'update' ? r.lr : NaN));
    // Counter of the update before: -, 1, 3 | 6, 8 | 11 of 15; warm-up is 5 steps.
    [0, (0.3 * 1) / 5, (0.3 * 3) / 5].forEach((rate, i) => expect(rates[i]).toBeCloseTo(rate, 12));
    expect(rates[3]).toBeCloseTo(0.3 * (1 - 0.99 * (1 / 10)), 12);
  });

  test('updates that are not finite are skipped and counted; too many in a row end the run with what is needed to see why', async () => {
    const some = await start({ poison: (u) => (u === 3 || u === 4 ? NaN : 1) });
    expect(some.summary).toMatchObject({ end: 'finished', skipped: 2 });
    expect(some.notes[0]).toContain('update 4 was skipped: loss NaN');
    const state = openCheckpoint(some.summary.checkpoint).state.position;
    expect(state).toMatchObject({ update: 15, adamwSteps: 13, skipped: 2, skippedInARow: 0 });
    const many = setUp({ poison: (u) => (u >= 6 ? Infinity : 1), recipe: { train: { maxNonFinite: 3 } } });
    await expect(many.trainer.run()).rejects.toMatchObject({ code: 'non_finite', message: expect.stringContaining('3 updates in a row, the last being 9') as string });
    const dump = join(many.out, 'non-finite-00000009');
    const report = JSON.parse(readFileSync(join(dump, 'report.json'), 'utf8')) as Record<string, unknown>;
    expect(report).toMatchObject({ update: 9, files: ['toy-6.png', 'toy-7.png'], skippedInARow: 3 });
    expect(Object.keys(report.gradientNorms as object)).toContain('mask_token');
    expect(openCheckpoint(listCheckpoints(dump)[0] ?? '').state.position.update).toBe(9);
  });

  test('only the newest checkpoints are kept, and leftovers of a killed writer go', async () => {
    const run = await start({});
    const parent = checkpointsFolder(run.out);
    expect(readdirSync(parent).sort()).toEqual(['step-00000012', 'step-00000015']);
    expect(readdirSync(join(parent, 'step-00000015')).sort()).toEqual(['model.safetensors', 'optimizer.safetensors', 'state.json']);
  });

  test('a damaged checkpoint is skipped with a sentence and the run goes on from the one before', async () => {
    const whole = await start({});
    const damages: [string, (path: string) => void, string][] = [
      ['model.safetensors', (f) => truncateSync(f, 100), 'has 100 bytes, expected'],
      ['optimizer.safetensors', (f) => { const b = readFileSync(f); b[b.length - 1] = (b[b.length - 1] ?? 0) ^ 1; writeFileSync(f, b); }, 'does not match its checksum'],
      ['state.json', (f) => truncateSync(f, 50), 'has an unreadable state.json'],
      ['state.json', (f) => rmSync(f), 'has no state.json'],
    ];
    for (const [file, damage, sentence] of damages) {
      const run = await start({ stopAt: 10 });
      damage(join(run.summary.checkpoint, file));
      const again = await start({ out: run.out, resume: true });
      expect(again.warnings).toHaveLength(1);
      expect(again.warnings[0]).toContain(sentence);
      expect(again.weights()).toEqual(whole.weights());
      expect(course(run.out)).toEqual(course(whole.out));
    }
  });

  test('a torn last line of the log is cut off', async () => {
    const run = await start({ stopAt: 8 });
    writeFileSync(join(run.out, 'log.jsonl'), `${readFileSync(join(run.out, 'log.jsonl'), 'utf8')}{"kind":"upd`);
    await start({ out: run.out, resume: true });
    expect(log(run.out).map((r) => r.step)).toEqual(Array.from({ length: 15 }, (_, i) => i + 1));
  });

  test('another model is refused by the name of the parameter', async () => {
    const run = await start({ stopAt: 1 });
    const file = join(run.summary.checkpoint, 'state.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"bias"', '"offset"'));
    expect(() => setUp({ out: run.out, resume: true })).toThrow('is of another model: bias [6] is only in the model');
  });
});
