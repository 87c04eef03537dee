import * as tf from '@tensorflow/tfjs-core';
import { expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { encoderNames } from '../../ts/models';
import { loadAddon } from '../../ts/native';
import { buildBuffers, buildModel } from '../../ts/train/model_build';
import { planClassifier, planModel } from '../../ts/train/plan';
import { buildClassifier } from '../../ts/train/classifier_build';
import { ClassifyTask } from '../../ts/train/classify_task';
import { parseFinetune, type PartialFinetuneRecipe } from '../../ts/train/finetune_recipe';
import { flatBuffers } from '../../ts/train/flat_buffers';
import { parseRecipe, type PartialRecipe } from '../../ts/train/recipe';
import { MaskedTask } from '../../ts/train/masked_task';
import { TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';
import { fixtures, readFixture } from '../helpers/golden';

interface Entry { stage: string; img_size: number; num_params: number; encoder_params?: number; official_flops_method?: number }

for (const fixture of fixtures(/^manifest_/)) {
  for (const [name, entry] of Object.entries(readFixture<Record<string, Entry>>(fixture).json)) {
    const preset = name.replace(/_pretrain$/, '');
    if (entry.stage === 'finetune') {
      test(`${name}: parameters and multiply-adds of the classifier as the official code counts them`, () => {
        const encoder = name.replace(/_finetune.*$/, '');
        const window = /_w(\d+)$/.exec(name)?.slice(1).map(Number)[0];
        const plan = planClassifier(parseFinetune({ task: 'finetune', model: { encoder, imageSize: entry.img_size, ...(window === undefined ? {} : { windowSize: window }) } }), 1000);
        expect(plan.parameters).toBe(entry.num_params);
        if (entry.official_flops_method !== undefined) expect(plan.encoderMacs + plan.encoder.channels * 1000).toBe(entry.official_flops_method);
        else expect(plan.encoderMacs).toBeGreaterThan(0);
      });
    }
    if (entry.stage !== 'pretrain' || !encoderNames.includes(preset)) continue;
    test(`${name}: parameters and multiply-adds as the official code counts them`, () => {
      const plan = planModel({ encoder: preset, imageSize: entry.img_size });
      expect(plan.parameters).toBe(entry.num_params);
      if (entry.encoder_params !== undefined) expect(plan.encoderParameters).toBe(entry.encoder_params);
      if (entry.official_flops_method !== undefined) expect(plan.encoderMacs).toBe(entry.official_flops_method);
    });
  }
}

test('every preset can be planned without memory', () => {
  for (const encoder of encoderNames) expect(planModel({ encoder }).activationBytes).toBeGreaterThan(0);
});

const measured: [string, PartialRecipe['model']][] = [
  ['swin', { encoder: 'swin_tiny', imageSize: 96, embedDim: 48, depths: [2, 2, 2], heads: [2, 4, 8], windowSize: 6 }],
  ['vit', { encoder: 'vit_small', imageSize: 128, embedDim: 96, depth: 6, heads: 3 }],
  ['swinv2', { encoder: 'swinv2_tiny', imageSize: 96, embedDim: 48, depths: [2, 2, 2], heads: [2, 4, 8], windowSize: 6 }],
  ['swin, checkpointed', { encoder: 'swin_tiny', imageSize: 96, embedDim: 48, depths: [4, 4, 2], heads: [2, 4, 8], windowSize: 6, checkpointing: true }],
  ['vit, checkpointed', { encoder: 'vit_small', imageSize: 128, embedDim: 96, depth: 12, heads: 3, checkpointing: true }],
];
test.each(measured)('%s: activations as predicted, within a fifth, by what a step takes more for one image more; weights, gradients and moments within an eighth, the slack of a block of memory', async (_, model) => {
  await tf.setBackend(CPU_BACKEND);
  const recipe = parseRecipe({ model });
  const built = buildModel(recipe);
  const before = loadAddon().stats().live;
  const buffers = buildBuffers(built, recipe);
  const state = (loadAddon().stats().live - before) / planModel(model).stateBytes;
  expect(Math.abs(state - 1), String(state)).toBeLessThan(0.125);
  const step = new TrainingStep(new MaskedTask(built.model, built.masking, 0), buffers, new StepState(0), { accumulation: 1, clip: null, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, recorded: false });
  const [height, width] = built.model.encoder.imageSize;
  const peaks: number[] = [];
  for (const batch of [4, 8]) {
    loadAddon().resetPeak();
    await step.micro({ images: { shape: [batch, 3, height, width], dtype: 'float32', values: new Float32Array(batch * 3 * height * width) } }).done;
    peaks.push(loadAddon().stats().peak);
  }
  const plan = planModel(model);
  const ratio = ((peaks[1] as number) - (peaks[0] as number)) / 4 / (model?.checkpointing ? plan.checkpointedBytes : plan.activationBytes);
  expect(ratio).toBeGreaterThan(0.8);
  expect(ratio).toBeLessThan(1.2);
  step.dispose();
  buffers.dispose();
});

test.each<[string, PartialFinetuneRecipe['model']]>([
  ['swin', { encoder: 'swin_tiny', imageSize: 96, embedDim: 48, depths: [2, 2, 2], heads: [2, 4, 8], windowSize: 6, dropPath: 0 }],
  ['vit, checkpointed', { encoder: 'vit_small', imageSize: 128, embedDim: 96, depth: 12, heads: 3, dropPath: 0, checkpointing: true }],
])('classifier of a %s: activations as predicted, within a fifth', async (_, model) => {
  await tf.setBackend(CPU_BACKEND);
  const recipe = parseFinetune({ task: 'finetune', model, augment: { mixup: 0, cutmix: 0 } });
  const names = Array.from({ length: 10 }, (__, i) => `class ${i}`);
  const built = buildClassifier(recipe, names, null);
  const buffers = flatBuffers(built.parameters, built.groups, recipe.optimizer.weightDecay);
  const step = new TrainingStep(new ClassifyTask(built.model, recipe.augment, 0), buffers, new StepState(0), { accumulation: 1, clip: null, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, recorded: false });
  const [height, width] = built.model.encoder.imageSize;
  const peaks: number[] = [];
  for (const batch of [4, 8]) {
    loadAddon().resetPeak();
    const images = { shape: [batch, 3, height, width], dtype: 'float32' as const, values: new Float32Array(batch * 3 * height * width) };
    await step.micro({ images, targets: { shape: [batch, 10], dtype: 'float32', values: new Float32Array(batch * 10).fill(0.1) } }).done;
    peaks.push(loadAddon().stats().peak);
  }
  const plan = planClassifier(recipe, names.length);
  expect(plan.parameters).toBe(buffers.size);
  const ratio = ((peaks[1] as number) - (peaks[0] as number)) / 4 / (model?.checkpointing ? plan.checkpointedBytes : plan.activationBytes);
  expect(ratio).toBeGreaterThan(0.8);
  expect(ratio).toBeLessThan(1.2);
  step.dispose();
  buffers.dispose();
});
