/**
 * Many updates of a real model through the real trainer's step on our backend: nothing may grow.
 * SIMMIM_LONG_STEPS sets how many (default 100).
 */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, test } from 'vitest';
import { CPU_BACKEND, type NativeBackend } from '../../ts/backend';
import { buildBuffers, buildModel } from '../../ts/train/model_build';
import { parseRecipe } from '../../ts/train/recipe';
import { MaskedTask } from '../../ts/train/masked_task';
import { TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';
import { Rng } from '../../ts/rng';

const STEPS = Number(process.env.SIMMIM_LONG_STEPS ?? 100);
/** Growth of resident memory allowed from the first quarter to the end: the garbage collector's own room. */
const RSS_ROOM = 48 * 2 ** 20;

beforeAll(async () => {
  await tf.setBackend(CPU_BACKEND);
});

const models = {
  swin: { encoder: 'swin_tiny', imageSize: 32, embedDim: 16, depths: [2, 2], heads: [2, 4], windowSize: 4, dropPath: 0.1 },
  vit: { encoder: 'vit_small', imageSize: 32, patchSize: 8, embedDim: 32, depth: 2, heads: 2, dropPath: 0.1 },
};

test.each(Object.entries(models))(`%s: ${STEPS} updates leave tensors and live bytes as they were after the third`, { timeout: 60_000 + STEPS * 500 }, async (_, model) => {
  const recipe = parseRecipe({ model, masking: { patchSize: 8 }, train: { batchSize: 4, accumulation: 2 } });
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  const state = new StepState(3);
  const step = new TrainingStep(new MaskedTask(built.model, built.masking, 3), buffers, state, { accumulation: 2, clip: 5, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.05 });
  const rng = new Rng(1);
  const backend = tf.backend() as NativeBackend;
  const seen: { tensors: number; data: number; live: number; handles: number }[] = [];
  const rss: number[] = [];
  for (let t = 1; t <= STEPS; t++) {
    await step.begin();
    for (const micro of [0, 1]) {
      state.writeClock(t, micro);
      const values = Float32Array.from({ length: 4 * 3 * 32 * 32 }, () => rng.uniform());
      await step.micro({ images: { shape: [4, 3, 32, 32], dtype: 'float32', values } }).done;
    }
    expect((await step.apply(1e-3, t)).applied).toBe(true);
    const { native } = backend.memory();
    seen.push({ tensors: tf.memory().numTensors, data: tf.memory().numDataBuffers, live: native.live, handles: native.handles });
    rss.push(process.memoryUsage.rss());
  }
  const third = seen[2]; // the first was eager, the second recorded
  for (const later of seen.slice(3)) expect(later).toEqual(third);
  const quarter = Math.max(...rss.slice(0, Math.ceil(STEPS / 4)));
  expect(Math.max(...rss) - quarter).toBeLessThan(RSS_ROOM);
  step.dispose();
  buffers.dispose();
  state.dispose();
});
