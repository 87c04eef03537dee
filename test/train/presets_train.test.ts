import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import '../../ts/backend';
import { encoderConfig, encoderNames, type SwinV2Config, type VitConfig } from '../../ts/models';
import { imageSizeOf, parseRecipe, type PartialRecipe } from '../../ts/train/recipe';
import { drawPictures, trainSome } from '../helpers/train_some';

beforeAll(() => tf.setBackend('simmim-cpu'));

type Model = NonNullable<PartialRecipe['model']>;

/** A preset with its own heads and window, narrow heads and few blocks; H and G deep enough for an extra norm. */
function reduced(encoder: string): Model {
  const config = encoderConfig(encoder);
  if ('depth' in config) return { encoder, imageSize: 64, embedDim: 4 * config.heads, depth: 2 };
  const period = 'extraNormPeriod' in config ? (config as SwinV2Config).extraNormPeriod : 0;
  const [first = 1, second = 2] = config.heads;
  return { encoder, imageSize: 64, embedDim: 4 * first, depths: [2, Math.max(2, period)], heads: [first, second] };
}

/** Losses of some updates on the same pictures, and what the weights became. */
async function train(model: Model, updates: number, head: 'linear' | 'inverse_swin_tiny' | 'inverse_swin_base' = 'linear'): Promise<{ losses: number[]; weights: string; finite: boolean }> {
  const recipe = parseRecipe({ model, head, masking: { patchSize: 32, ratio: 0.5 }, train: { seed: 1 } });
  const [height, width] = imageSizeOf(recipe);
  const pictures = drawPictures([2, height, width], (x, y, c, b) => Math.sin(0.01 * (((b * 3 + c) * height + y) * width + x)));
  const hash = createHash('sha256');
  let finite = true;
  const losses = await trainSome(recipe, pictures, {
    updates, lr: () => 1e-3, weightDecay: 0.05,
    end: (buffers) => buffers.names.forEach((_, i) => {
      const values = buffers.read('weights', i);
      hash.update(new Uint8Array(values.buffer));
      finite &&= values.every(Number.isFinite);
    }),
  });
  return { losses, weights: hash.digest('hex'), finite };
}

describe.each(encoderNames)('%s at a reduced size', (encoder) => {
  test('trains', async () => {
    const { losses, finite } = await train(reduced(encoder), 6);
    expect(losses.every(Number.isFinite)).toBe(true);
    expect(losses[5]).toBeLessThan((losses[0] as number) * 0.97);
    expect(finite).toBe(true);
  });

  test('with absolute positions and drop path, checkpointed or not: the same bits', async () => {
    const options = { ...reduced(encoder), dropPath: 0.3, absolutePosition: true };
    const plain = await train(options, 3);
    const checkpointed = await train({ ...options, checkpointing: true }, 3);
    expect(checkpointed).toEqual(plain);
    expect((await train({ ...options, dropPath: 0 }, 3)).losses).not.toEqual(plain.losses);
    expect(plain.losses[2]).toBeLessThan(plain.losses[0] as number);
  });
});

test('all sizes are here', () => {
  expect(encoderNames).toEqual(['vit_small', 'vit_base', 'vit_large', 'swin_tiny', 'swin_small', 'swin_base', 'swin_large', 'swinv2_tiny', 'swinv2_small', 'swinv2_base', 'swinv2_large', 'swinv2_huge', 'swinv2_giant']);
  expect((encoderConfig('vit_base') as VitConfig).relativeBias).toBe('shared');
});

test.each(['inverse_swin_tiny', 'inverse_swin_base'] as const)('head %s, whole, trains', async (head) => {
  const { losses } = await train({ encoder: 'swin_tiny', imageSize: 32, embedDim: 8, depths: [1, 1, 1, 1], heads: [1, 1, 2, 2], windowSize: 4 }, 3, head);
  expect(losses.every(Number.isFinite)).toBe(true);
  expect(losses[2]).toBeLessThan((losses[0] as number) * 0.95);
});
