/**
 * The official code's training runs, through the real step: schedules, groups, clipping and AdamW with the
 * `official-code` quirks on, compared after every step and at the end (golden/README.md).
 */
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { flatBuffers } from '../../ts/train/flat_buffers';
import { pretrainGroups } from '../../ts/train/param_groups';
import { parseRecipe, type Recipe } from '../../ts/train/recipe';
import type { ScheduleName } from '../../ts/train/schedule';
import { type HostTensor, type StepObjective, TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';
import { Timetable } from '../../ts/train/timetable';
import { fixtures, maxAbsDiff, readFixture } from '../helpers/golden';
import { modelFromFixture } from '../helpers/model_fixture';

interface RunJson {
  lr_scaling: { raw: { BASE_LR: number; WARMUP_LR: number; MIN_LR: number }; batch_size: number; world_size: number };
  optimizer: { betas: [number, number]; eps: number; weight_decay: number; clip_grad: number };
  scheduler: {
    name: ScheduleName; epochs: number; n_iter_per_epoch: number; warmup_epochs: number; decay_epochs: number; decay_rate: number; gamma: number; multisteps: number[];
    warmup_prefix?: boolean;
  };
  accumulation_steps: number;
  param_groups: { weight_decay: number; params: string[] }[];
  loss: number[];
  grad_norm: number[];
  lr: number[];
  lr_after_last_step: number;
}
interface Json {
  model: { type: string; img_size: number };
  masking: { mask_patch_size: number };
  steps: number;
  runs: Record<string, RunJson>;
  zero_gradient_slices: Record<string, [number, number]>;
  tolerance: { train: Record<string, { loss: number; grad_norm: number; final: Record<string, number> }> };
}

/** The run as a recipe of ours, every quirk of the official code on. */
function recipeOf(json: Json, run: RunJson): Recipe {
  const { raw, batch_size: batchSize, world_size: world } = run.lr_scaling;
  const s = run.scheduler;
  expect(world).toBe(1);
  return parseRecipe({
    model: { imageSize: json.model.img_size },
    masking: { patchSize: json.masking.mask_patch_size },
    train: { epochs: s.epochs, batchSize, accumulation: Math.max(1, run.accumulation_steps) },
    optimizer: {
      baseLr: raw.BASE_LR, warmupLr: raw.WARMUP_LR, minLr: raw.MIN_LR, betas: run.optimizer.betas, eps: run.optimizer.eps,
      weightDecay: run.optimizer.weight_decay, clip: run.optimizer.clip_grad,
    },
    schedule: { name: s.name, warmupEpochs: s.warmup_epochs, warmupPrefix: s.warmup_prefix ?? false, decayEpochs: s.decay_epochs, decayRate: s.decay_rate, milestones: s.multisteps, gamma: s.gamma },
    quirks: { lrLag: true, clipEveryMicroStep: true, decayBiasTables: true, decayMaskToken: json.model.type === 'vit', schedulerCountsDroppedSteps: true },
  });
}

/** Without the parts whose true gradient is zero: Adam turns their rounding noise into arbitrary steps. */
function withoutSlice(values: ArrayLike<number>, slice: [number, number] | undefined): number[] {
  return Array.from(values).filter((_, i) => !slice || i < slice[0] || i >= slice[1]);
}

for (const backend of [CPU_BACKEND, 'cpu']) {
  describe(`on ${backend}`, () => {
    beforeAll(async () => {
      await tf.setBackend(backend);
    });
    for (const name of fixtures(/^simmim_/)) {
      const { json } = readFixture<Json>(name);
      for (const [runName, run] of Object.entries(json.runs)) test(`${name}, run ${runName}`, () => checkRun(name, runName, json, run));
    }
  });
}

const onHost = (tensor: tf.Tensor): HostTensor => ({ shape: tensor.shape, dtype: 'float32', values: tensor.dataSync() as Float32Array });

async function checkRun(name: string, runName: string, json: Json, run: RunJson): Promise<void> {
  const recipe = recipeOf(json, run);
  const tolerance = json.tolerance.train[runName];
  if (!tolerance) throw new Error(`${name} has no tolerance for run ${runName}`);
  const { fixture, model, parameters, batch } = modelFromFixture(name);
  const objective: StepObjective = { loss: ({ images, mask }, ctx) => model.loss(images as tf.Tensor, mask as tf.Tensor, ctx) };
  const groups = pretrainGroups([...parameters].map(([p, { shape }]) => ({ name: p, shape })), recipe.optimizer.weightDecay, recipe.quirks);
  expect(groups.map((g) => [g.weightDecay, [...g.params].sort()])).toEqual(run.param_groups.map((g) => [g.weight_decay, [...g.params].sort()]));

  const { betas, eps, weightDecay, clip } = recipe.optimizer;
  const { accumulation } = recipe.train;
  const buffers = flatBuffers(parameters, groups, weightDecay);
  const state = new StepState(0);
  const step = new TrainingStep(objective, buffers, state, { accumulation, clip, clipEveryMicroStep: recipe.quirks.clipEveryMicroStep, betas, eps, weightDecay });
  const timetable = new Timetable(recipe, run.scheduler.n_iter_per_epoch);
  expect(timetable.updates * accumulation).toBe(json.steps);
  for (let i = 0; i < json.steps; i++) {
    const update = Math.floor(i / accumulation);
    const { images, mask } = batch(i);
    if (i % accumulation === 0) await step.begin();
    const { loss: share, gradientNorm: norm } = await step.micro({ images: onHost(images), mask: onHost(mask) }).done;
    const [loss, gradientNorm] = [(share.dataSync()[0] as number) * accumulation, norm?.dataSync()[0]];
    const lr = timetable.lr(update);
    expect(Math.abs(loss - (run.loss[i] as number)), `loss of step ${i}`).toBeLessThanOrEqual(tolerance.loss);
    expect(Math.abs((gradientNorm as number) - (run.grad_norm[i] as number)), `gradient norm of step ${i}`).toBeLessThanOrEqual(tolerance.grad_norm);
    expect(Math.abs(lr - (run.lr[i] as number)), `rate of step ${i}`).toBeLessThanOrEqual(1e-15);
    if ((i + 1) % accumulation === 0) expect((await step.apply(lr, update + 1)).applied).toBe(true);
    tf.dispose([images, mask]);
  }
  expect(Math.abs(timetable.lr(timetable.updates) - run.lr_after_last_step)).toBeLessThanOrEqual(1e-15);
  buffers.names.forEach((parameter, i) => {
    const slice = json.zero_gradient_slices[parameter];
    const difference = maxAbsDiff(withoutSlice(buffers.read('weights', i), slice), withoutSlice(fixture.values(`final/${runName}/${parameter}`), slice));
    expect(difference, parameter).toBeLessThanOrEqual(tolerance.final[parameter] as number);
  });
}
