/**
 * The official code's fine-tuning runs through the real step: groups by layer, each with a schedule from its own base rate,
 * label smoothing and soft targets, clipping and AdamW, compared after every step and at the end (golden/README.md).
 */
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import type { RawTensor } from '../../ts/formats/raw_tensor';
import { loadPretrained } from '../../ts/models/pretrained';
import { namedParameters } from '../../ts/nn/module';
import { Classifier } from '../../ts/simmim';
import { ClassifyTask } from '../../ts/train/classify_task';
import { parseFinetune, type FinetuneRecipe } from '../../ts/train/finetune_recipe';
import { flatBuffers } from '../../ts/train/flat_buffers';
import { finetuneGroups } from '../../ts/train/param_groups';
import type { ScheduleName } from '../../ts/train/schedule';
import { TrainingStep, type HostBatch } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';
import { Timetable } from '../../ts/train/timetable';
import { fixtures, maxAbsDiff, readFixture, type Fixture } from '../helpers/golden';
import { encoderOf, type ModelJson } from '../helpers/model_fixture';

type RunName = 'label_smoothing' | 'soft_target';
interface Json {
  model: ModelJson & { num_classes: number };
  label_smoothing: number;
  batch_size: number;
  steps: number;
  image_index: number[][];
  layer_decay: number;
  lr_scaling: { raw: { BASE_LR: number; WARMUP_LR: number; MIN_LR: number } };
  optimizer: { betas: [number, number]; eps: number; weight_decay: number; clip_grad: number };
  scheduler: { name: ScheduleName; epochs: number; n_iter_per_epoch: number; warmup_epochs: number; warmup_prefix?: boolean };
  param_groups: { group_name: string; lr_scale: number; weight_decay: number; params: string[] }[];
  runs: Record<RunName, { loss: number[]; grad_norm: number[]; lr: number[][]; lr_after_last_step: number[] }>;
  zero_gradient_slices: Record<string, [number, number]>;
  tolerance: Record<RunName, { train: { loss: number; grad_norm: number; final: Record<string, number> } }>;
}

function recipeOf(json: Json): FinetuneRecipe {
  const { lr_scaling: { raw }, scheduler: s, optimizer: o } = json;
  const vit = json.model.type === 'vit';
  return parseFinetune({
    task: 'finetune',
    augment: { autoAugment: null, mixup: 0, cutmix: 0, labelSmoothing: json.label_smoothing },
    train: { epochs: s.epochs, batchSize: json.batch_size },
    optimizer: { baseLr: raw.BASE_LR, warmupLr: raw.WARMUP_LR, minLr: raw.MIN_LR, betas: o.betas, eps: o.eps, weightDecay: o.weight_decay, clip: o.clip_grad, layerDecay: json.layer_decay },
    schedule: { name: s.name, warmupEpochs: s.warmup_epochs, warmupPrefix: s.warmup_prefix ?? false },
    quirks: { lrLag: true, decayBiasTables: vit, absolutePositionAsHead: true, schedulerCountsDroppedSteps: true },
  });
}

for (const backend of [CPU_BACKEND, 'cpu']) {
  describe(`on ${backend}`, () => {
    beforeAll(async () => {
      await tf.setBackend(backend);
    });
    for (const name of fixtures(/^finetune_/)) {
      const fixture = readFixture<Json>(name);
      test.each(backend === CPU_BACKEND ? (['label_smoothing', 'soft_target'] as const) : (['label_smoothing'] as const))(`${name}, run %s`, (run) => checkRun(fixture, run));
    }
  });
}

async function checkRun(fixture: Fixture<Json>, runName: RunName): Promise<void> {
  const { json } = fixture;
  const recipe = recipeOf(json);
  const [run, tolerance] = [json.runs[runName], json.tolerance[runName].train];
  const model = new Classifier(encoderOf(json.model), { classes: json.model.num_classes });
  const parameters = namedParameters(model);
  loadPretrained(parameters, new Map(fixture.under('param/').map((key) => [key, fixture.raw.get(`param/${key}`) as RawTensor])), { strict: true });
  const { weightDecay, layerDecay, betas, eps, clip } = recipe.optimizer;
  const groups = finetuneGroups([...parameters].map(([p, { shape }]) => ({ name: p, shape })), {
    weightDecay, layerDecay, depths: json.model.depths ?? (json.model.depth as number), quirks: { decayBiasTables: recipe.quirks.decayBiasTables, decayMaskToken: false }, officialCode: true,
  });
  const described = (g: { name: string; weightDecay: number; params: string[] }): unknown[] => [g.name, g.weightDecay, [...g.params].sort()];
  expect(groups.map(described).sort()).toEqual(json.param_groups.map((g) => described({ name: g.group_name, weightDecay: g.weight_decay, params: g.params })).sort());

  const buffers = flatBuffers(parameters, groups, weightDecay);
  const state = new StepState(0);
  const step = new TrainingStep(new ClassifyTask(model, recipe.augment, 0), buffers, state, { accumulation: 1, clip, clipEveryMicroStep: false, betas, eps, weightDecay });
  const timetable = new Timetable(recipe, json.scheduler.n_iter_per_epoch);
  const officialRates = (rates: number[]): number[] => groups.map(({ name }) => rates[json.param_groups.findIndex((g) => g.group_name === name)] as number);
  const ratesAt = (t: number): number[] => buffers.lrScales.map((scale) => timetable.lr(t, scale));
  for (let t = 0; t < json.steps; t++) {
    await step.begin();
    await step.micro(batchOf(fixture, recipe, runName, t)).done;
    expect(maxAbsDiff(ratesAt(t), officialRates(run.lr[t] as number[])), `rates of step ${t}`).toBeLessThanOrEqual(1e-15);
    const result = await step.apply(timetable.lr(t), t + 1, ratesAt(t));
    expect(result.applied).toBe(true);
    expect(Math.abs(result.loss - (run.loss[t] as number)), `loss of step ${t}`).toBeLessThanOrEqual(tolerance.loss);
    expect(Math.abs(result.gradientNorm - (run.grad_norm[t] as number)), `gradient norm of step ${t}`).toBeLessThanOrEqual(tolerance.grad_norm);
  }
  expect(maxAbsDiff(ratesAt(json.steps), officialRates(run.lr_after_last_step))).toBeLessThanOrEqual(1e-15);
  buffers.names.forEach((parameter, i) => {
    const [from, to] = json.zero_gradient_slices[parameter] ?? [0, 0]; // Adam makes steps of rounding noise there
    const outside = (values: ArrayLike<number>): number[] => Array.from(values).filter((_, at) => at < from || at >= to);
    expect(maxAbsDiff(outside(buffers.read('weights', i)), outside(fixture.values(`final/${runName}/${parameter}`))), parameter).toBeLessThanOrEqual(tolerance.final[parameter] as number);
  });
  step.dispose();
  state.dispose();
  buffers.dispose();
}

/** The batch of step `t`: by the task from labels, or with the fixture's soft targets. */
function batchOf(fixture: Fixture<Json>, { augment }: FinetuneRecipe, run: RunName, t: number): HostBatch {
  const { json } = fixture;
  const [, ...shape] = fixture.shape('input/images');
  const size = shape.reduce((a, b) => a * b, 1);
  const pool = fixture.values('input/images');
  const rows = json.image_index[t] as number[];
  const images = Float32Array.from(rows.flatMap((row) => [...pool.subarray(row * size, (row + 1) * size)]));
  const [batch, classes] = [rows.length, json.model.num_classes];
  const labels = Int32Array.from(fixture.values('input/labels').subarray(t * batch, (t + 1) * batch));
  const task = new ClassifyTask({ classes, loss: () => expect.fail('not used') }, augment, 0);
  const made = task.inputs({ images, labels, files: [], indices: [], epoch: 0, step: t }, shape);
  if (run === 'label_smoothing') return made;
  const soft = fixture.values('input/soft_targets').subarray(t * batch * classes, (t + 1) * batch * classes);
  return { ...made, targets: { shape: [batch, classes], dtype: 'float32', values: Float32Array.from(soft) } };
}
