import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import '../../ts/backend';
import { encoderConfig, encoderNames, type SwinV2Config, type VitConfig } from '../../ts/models';
import { disposeModel } from '../../ts/nn/module';
import { buildBuffers, buildModel } from '../../ts/train/model_build';
import { parseRecipe, type PartialRecipe } from '../../ts/train/recipe';
import { TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';

beforeAll(() => tf.setBackend('simmim-cpu'));

type Model = NonNullable<PartialRecipe['model']>;

/** A preset with its own heads and window, narrow heads and few blocks; H and G deep enough for an extra norm. */
function reduced(encoder: string): Model {
  const config = encoderConfig(encoder);
  if ('depth' in config) return { encoder, imageSize: 64, embedDim: 8 * config.heads, depth: 2 };
  const period = 'extraNormPeriod' in config ? (config as SwinV2Config).extraNormPeriod : 0;
  const [first = 1, second = 2] = config.heads;
  return { encoder, imageSize: 64, embedDim: 8 * first, depths: [2, Math.max(2, period)], heads: [first, second] };
}

/** Losses of some updates on the same pictures, and what the weights became. */
function train(model: Model, updates: number, head: 'linear' | 'inverse_swin_tiny' | 'inverse_swin_base' = 'linear'): { losses: number[]; weights: string; finite: boolean } {
  const recipe = parseRecipe({ model, head, masking: { patchSize: 32, ratio: 0.5 } });
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  const state = new StepState(1);
  const step = new TrainingStep(built.model, buffers, state, { accumulation: 1, clip: 5, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.05 });
  const [height, width] = built.model.encoder.imageSize;
  const images = tf.tidy(() => tf.sin(tf.reshape(tf.mul(tf.range(0, 2 * 3 * height * width), 0.01), [2, 3, height, width])));
  const losses: number[] = [];
  for (let i = 0; i < updates; i++) {
    step.begin();
    state.writeClock(i, 0);
    losses.push(step.micro(images, built.masks).loss);
    step.apply(1e-3, i + 1);
  }
  const hash = createHash('sha256');
  let finite = true;
  buffers.names.forEach((_, i) => {
    const values = buffers.read('weights', i);
    hash.update(new Uint8Array(values.buffer));
    finite &&= values.every(Number.isFinite);
  });
  images.dispose();
  buffers.dispose();
  state.dispose();
  disposeModel(built.model);
  return { losses, weights: hash.digest('hex'), finite };
}

describe.each(encoderNames)('%s at a reduced size', (encoder) => {
  test('trains', () => {
    const { losses, finite } = train(reduced(encoder), 6);
    expect(losses.every(Number.isFinite)).toBe(true);
    expect(losses[5]).toBeLessThan((losses[0] as number) * 0.97);
    expect(finite).toBe(true);
  });

  test('with absolute positions and drop path, checkpointed or not: the same bits', () => {
    const options = { ...reduced(encoder), dropPath: 0.3, absolutePosition: true };
    const plain = train(options, 3);
    const checkpointed = train({ ...options, checkpointing: true }, 3);
    expect(checkpointed).toEqual(plain);
    expect(train({ ...options, dropPath: 0 }, 3).losses).not.toEqual(plain.losses);
    expect(plain.losses[2]).toBeLessThan(plain.losses[0] as number);
  });
});

test('all sizes are here', () => {
  expect(encoderNames).toEqual(['vit_small', 'vit_base', 'vit_large', 'swin_tiny', 'swin_small', 'swin_base', 'swin_large', 'swinv2_tiny', 'swinv2_small', 'swinv2_base', 'swinv2_large', 'swinv2_huge', 'swinv2_giant']);
  expect((encoderConfig('vit_base') as VitConfig).relativeBias).toBe('shared');
});

test.each(['inverse_swin_tiny', 'inverse_swin_base'] as const)('head %s, whole, trains', (head) => {
  const { losses } = train({ encoder: 'swin_tiny', imageSize: 32, embedDim: 8, depths: [1, 1, 1, 1], heads: [1, 1, 2, 2], windowSize: 4 }, 8, head);
  expect(losses.every(Number.isFinite)).toBe(true);
  expect(losses[7]).toBeLessThan((losses[0] as number) * 0.9);
});
