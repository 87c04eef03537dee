/** train.precision: what a run in bf16 keeps in bf16, and how close it stays to float32. */
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { loadAddon } from '../../ts/native';
import { disposeModel } from '../../ts/nn/module';
import { storageOf } from '../../ts/ops';
import { Rng } from '../../ts/rng';
import { MaskedTask } from '../../ts/train/masked_task';
import { buildBuffers, buildModel } from '../../ts/train/model_build';
import { parseRecipe, type PartialRecipe } from '../../ts/train/recipe';
import { TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';
import { toBf16 } from '../helpers/compare';

beforeAll(() => tf.setBackend(CPU_BACKEND));

const SIZE = 64;
const BATCH = 4;
const SWIN = { encoder: 'swin_tiny', imageSize: SIZE, embedDim: 16, depths: [1, 1, 2, 1], heads: [1, 2, 2, 4], windowSize: 4 } satisfies PartialRecipe['model'];
const MODELS: Record<string, PartialRecipe['model']> = {
  Swin: SWIN,
  SwinV2: { ...SWIN, encoder: 'swinv2_tiny' },
  ViT: { encoder: 'vit_small', imageSize: SIZE, patchSize: 16, embedDim: 32, depth: 3, heads: 2 },
};

function open(model: PartialRecipe['model'], precision: 'f32' | 'bf16') {
  const recipe = parseRecipe({ model, masking: { patchSize: 16 }, train: { precision } });
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  const state = new StepState(3);
  const step = new TrainingStep(new MaskedTask(built.model, built.masking, 3), buffers, state, { accumulation: 1, clip: 1, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.05, precision });
  const rng = new Rng(1);
  // Smooth pictures, so that there is something to learn: a wave of random direction and phase for each channel.
  const images = Float32Array.from({ length: BATCH * 3 * SIZE * SIZE });
  for (let plane = 0; plane < BATCH * 3; plane++) {
    const [a, b, phase] = [0.3 * rng.normal(), 0.3 * rng.normal(), 6 * rng.uniform()];
    for (let i = 0; i < SIZE * SIZE; i++) images[plane * SIZE * SIZE + i] = Math.sin(a * (i % SIZE) + b * Math.floor(i / SIZE) + phase);
  }
  let t = 0;
  const update = async (): Promise<number> => {
    state.writeClock(t, 0);
    const { done } = step.micro({ images: { shape: [BATCH, 3, SIZE, SIZE], dtype: 'float32', values: images } });
    const [{ loss }] = await Promise.all([step.apply(2e-3, ++t), done]);
    return loss;
  };
  const close = (): void => {
    step.dispose();
    buffers.dispose();
    state.dispose();
    disposeModel(built.model);
  };
  return { built, buffers, update, close };
}

/** Every weight's copy as products read it: bf16, and the weight rounded. */
function expectCopies({ built, buffers }: ReturnType<typeof open>): void {
  buffers.names.forEach((name, i) => {
    const copy = built.parameters.get(name)?.compute({ precision: 'bf16' }) as tf.Tensor;
    expect(storageOf(copy)).toBe('bf16');
    const [got, wanted] = [copy.dataSync(), buffers.read('weights', i).map(toBf16)];
    expect(got.length).toBe(wanted.length);
    expect(wanted.findIndex((value, k) => value !== got[k]), name).toBe(-1);
    copy.dispose();
  });
}

describe.each(Object.entries(MODELS))('%s', (family, model) => {
  test('the bf16 copy of the weights follows updates, restored weights and single writes', async () => {
    const run = open(model, 'bf16');
    expectCopies(run);
    for (let i = 0; i < 4; i++) await run.update(); // eager, recorded, replayed
    expectCopies(run);
    run.buffers.write('weights', (i) => run.buffers.read('weights', i).map((w) => 1.37 * w));
    expectCopies(run);
    const [first] = run.built.parameters.values();
    first?.set(new Float32Array(first.size).fill(0.123456));
    expectCopies(run);
    run.close();
  });

  test('the kernels of a bf16 step read bf16 as it is, and the loss follows that of float32', async () => {
    const [wide, half] = [open(model, 'f32'), open(model, 'bf16')];
    const before = loadAddon().stats().widenings;
    const losses: [number, number][] = [];
    for (let i = 0; i < 40; i++) losses.push([await wide.update(), await half.update()]);
    // SwinV2 norms behind a branch, so the gradients of its residual stream meet in tfjs's addition, which reads float32: 14 copies
    // in the eager step and as many in the recorded one (replays are not counted).
    expect(loadAddon().stats().widenings - before).toBe(family === 'SwinV2' ? 28 : 0);
    // The mean of ten updates: single ones, each of other masks, differ by some 1 % to either side once 30 updates have amplified rounding.
    const mean = (of: 0 | 1): number => losses.slice(30).reduce((sum, pair) => sum + pair[of], 0) / 10;
    const [first, last] = [losses[0] as [number, number], [mean(0), mean(1)] as [number, number]];
    expect(last[0]).toBeLessThan(0.9 * first[0]); // it learns
    expect(Math.abs(last[1] - last[0]) / last[0]).toBeLessThan(0.01);
    expect(last[1]).not.toBe(last[0]);
    wide.close();
    half.close();
  });
});

test("on tfjs's own backend the policy changes nothing", async () => {
  await tf.setBackend('cpu');
  const small = { ...MODELS.ViT, embedDim: 8, depth: 1 };
  const [wide, half] = [open(small, 'f32'), open(small, 'bf16')];
  expect(await half.update()).toBe(await wide.update());
  wide.close();
  half.close();
  await tf.setBackend(CPU_BACKEND);
});

test('a recipe names the precisions there are', () => {
  expect(() => parseRecipe({ train: { precision: 'fp16' as never } })).toThrow('train.precision');
});
