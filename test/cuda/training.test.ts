/** Whole training steps on 'simmim-cuda' follow those of the CPU, and a recorded step (one CUDA graph) has the bits of an eager one. */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { CPU_BACKEND, CUDA_BACKEND } from '../../ts/backend';
import { loadAddon, type IsaLevel } from '../../ts/native';
import { disposeModel } from '../../ts/nn/module';
import { Rng } from '../../ts/rng';
import { MaskedTask } from '../../ts/train/masked_task';
import { buildBuffers, buildModel } from '../../ts/train/model_build';
import { parseRecipe, type PartialRecipe } from '../../ts/train/recipe';
import { TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';

const SIZE = 32;
const BATCH = 2;
// A GPU host runs more (scripts/gpu-run.sh).
const UPDATES = Number(process.env.SIMMIM_TRAINING_UPDATES ?? 4);

interface Trained {
  losses: number[];
  norms: number[];
  weights: string;
}

async function train(given: PartialRecipe, recorded: boolean): Promise<Trained> {
  const recipe = parseRecipe({ ...given, masking: { patchSize: 8, ratio: 0.5 } });
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  const state = new StepState(3);
  const task = new MaskedTask(built.model, built.masking, 3);
  const { accumulation } = recipe.train;
  const step = new TrainingStep(task, buffers, state, { accumulation, clip: 0.5, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.05, recorded });
  const rng = new Rng(1);
  const trained: Trained = { losses: [], norms: [], weights: '' };
  for (let t = 1; t <= UPDATES; t++) {
    await step.begin();
    for (let micro = 0; micro < accumulation; micro++) {
      const images = Float32Array.from({ length: BATCH * 3 * SIZE * SIZE }, () => rng.normal());
      state.writeClock(t, micro);
      await step.micro(task.inputs({ images, files: ['a', 'b'], indices: [0, 1], epoch: 0, step: t }, [3, SIZE, SIZE], t, micro)).done;
    }
    const { loss, gradientNorm } = await step.apply(1e-3, t);
    trained.losses.push(loss);
    trained.norms.push(gradientNorm);
  }
  const hash = createHash('sha256');
  buffers.names.forEach((_, i) => hash.update(new Uint8Array(buffers.read('weights', i).buffer)));
  trained.weights = hash.digest('hex');
  step.dispose();
  buffers.dispose();
  state.dispose();
  disposeModel(built.model);
  return trained;
}

async function trainOn(backend: string, given: PartialRecipe, recorded: boolean, isa?: IsaLevel): Promise<Trained> {
  const addon = loadAddon();
  const { isa: before } = addon.info();
  if (isa) addon.setIsa(isa);
  await tf.setBackend(backend);
  try {
    return await train(given, recorded);
  } finally {
    addon.setIsa(before);
  }
}

const swin = { encoder: 'swin_tiny', imageSize: SIZE, embedDim: 8, depths: [2, 1], heads: [1, 2], windowSize: 4 };

describe.each<[string, PartialRecipe]>([
  ['ViT with a position bias in every block, drop path', { model: { encoder: 'vit_small', imageSize: SIZE, patchSize: 8, embedDim: 16, depth: 2, heads: 2, relativeBias: 'per_block', dropPath: 0.3 } }],
  ['Swin, drop path, recomputed blocks, accumulation', { model: { ...swin, dropPath: 0.3, checkpointing: true }, train: { accumulation: 2 } }],
  ['SwinV2', { model: { ...swin, encoder: 'swinv2_tiny' } }],
])('%s', (_, recipe) => {
  test('losses and norms are as far from those of the CPU as its own instruction sets are from each other', async () => {
    const runs: Trained[] = [];
    for (const isa of loadAddon().info().isaLevels) runs.push(await trainOn(CPU_BACKEND, recipe, true, isa));
    const [first, ...others] = runs as [Trained, ...Trained[]];
    const eager = await trainOn(CUDA_BACKEND, recipe, false);
    const recorded = await trainOn(CUDA_BACKEND, recipe, true);
    expect(recorded).toEqual(eager);
    for (const kind of ['losses', 'norms'] as const) {
      first[kind].forEach((want, i) => {
        // Levels differ in the order of their sums. Updates amplify what differs; on one level alone rounding is 2^-24 a step.
        const apart = Math.max(...others.map((other) => Math.abs((other[kind][i] as number) - want)), 0);
        expect(Math.abs((eager[kind][i] as number) - want), `${kind}[${i}]`).toBeLessThanOrEqual(8 * Math.max(apart, 2 ** -21 * (i + 1) * Math.abs(want)));
      });
    }
  });
});
