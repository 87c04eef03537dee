/** A replayed step has the bits of an eager one, for every family, option, head and target; and says no where it cannot be one. */
import { createHash } from 'node:crypto';
import * as tf from '@tensorflow/tfjs-core';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { encodeNpy } from '../../ts/formats/npy';
import { disposeModel } from '../../ts/nn/module';
import { Rng } from '../../ts/rng';
import { MaskedTask } from '../../ts/train/masked_task';
import { buildBuffers, buildModel } from '../../ts/train/model_build';
import { parseRecipe, type PartialRecipe } from '../../ts/train/recipe';
import { TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';

beforeAll(() => tf.setBackend(CPU_BACKEND));
afterEach(() => vi.unstubAllEnvs());

const SIZE = 64;
const BATCH = 3;
const swin = { encoder: 'swin_tiny', imageSize: SIZE, embedDim: 8, depths: [1, 2, 1, 1], heads: [1, 2, 2, 4], windowSize: 4 };
const swinV2 = { ...swin, encoder: 'swinv2_tiny' };
const vit = { encoder: 'vit_small', imageSize: SIZE, patchSize: 16, embedDim: 16, depth: 3, heads: 2 } as const;
const quirks = { clipEveryMicroStep: true } as const;

/** Weights, moments, losses and norms after `updates` updates. */
async function train(given: PartialRecipe, recorded: boolean, updates: number): Promise<unknown[]> {
  const recipe = parseRecipe({ ...given, masking: { patchSize: 16, ...given.masking } });
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  const state = new StepState(3);
  const task = new MaskedTask(built.model, built.masking, 3);
  const { accumulation } = recipe.train;
  const step = new TrainingStep(task, buffers, state, { accumulation, clip: 0.5, clipEveryMicroStep: recipe.quirks.clipEveryMicroStep, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.05, precision: recipe.train.precision, recorded });
  const rng = new Rng(1);
  const seen: unknown[] = [];
  for (let t = 1; t <= updates; t++) {
    await step.begin();
    for (let micro = 0; micro < accumulation; micro++) {
      const images = Float32Array.from({ length: BATCH * 3 * SIZE * SIZE }, () => rng.normal());
      state.writeClock(t, micro);
      await step.micro(task.inputs({ images, files: ['a', 'b', 'c'], indices: [0, 1, 2], epoch: 0, step: t }, [3, SIZE, SIZE], t, micro)).done;
    }
    seen.push(await step.apply(1e-3 / t, t));
  }
  const digest = (values: Float32Array): string => createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');
  seen.push(...buffers.names.map((name, i) => [name, ...(['weights', 'm', 'v'] as const).map((kind) => digest(buffers.read(kind, i)))]));
  step.dispose();
  buffers.dispose();
  state.dispose();
  disposeModel(built.model);
  return seen;
}

const folder = mkdtempSync(join(tmpdir(), 'simmim-recorded-'));
afterAll(() => rmSync(folder, { recursive: true }));
const npy = (name: string, shape: number[]): string => {
  const rng = new Rng(2);
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => rng.uniform());
  writeFileSync(join(folder, name), encodeNpy({ dtype: 'F32', shape, data: new Uint8Array(values.buffer) }));
  return join(folder, name);
};

const settings: [string, PartialRecipe][] = [
  ['ViT', { model: vit }],
  ['ViT, position bias per block, drop path', { model: { ...vit, relativeBias: 'per_block', dropPath: 0.3 } }],
  ['ViT, absolute positions, recomputed blocks', { model: { ...vit, absolutePosition: true, relativeBias: 'none', checkpointing: true } }],
  ['Swin', { model: swin }],
  ['Swin, drop path, recomputed blocks, accumulation', { model: { ...swin, dropPath: 0.3, checkpointing: true }, train: { accumulation: 2 } }],
  ['Swin, clipped after every micro step', { model: swin, train: { accumulation: 2 }, quirks }],
  ['SwinV2', { model: swinV2 }],
  ['SwinV2, drop path, recomputed blocks, accumulation, clipped after every micro step', { model: { ...swinV2, dropPath: 0.3, checkpointing: true }, train: { accumulation: 2 }, quirks }],
  ['ViT in bf16', { model: { ...vit, dropPath: 0.3 }, train: { precision: 'bf16' } }],
  ['Swin in bf16, recomputed blocks, accumulation', { model: { ...swin, checkpointing: true }, train: { accumulation: 2, precision: 'bf16' } }],
  ['SwinV2 in bf16', { model: { ...swinV2, dropPath: 0.3 }, train: { precision: 'bf16' } }],
  ['masks of a square', { model: vit, masking: { strategy: 'square', ratio: 0.3 } }],
  ['block-wise masks', { model: vit, masking: { strategy: 'block', minCells: 1 }, train: { accumulation: 2 } }],
  ['the two-layer head', { model: swin, head: 'mlp' }],
  ['an inverse Swin-T head', { model: swin, head: 'inverse_swin_tiny' }],
  ['targets of lower resolution, L2', { model: swin, target: { resolution: 16 }, loss: { kind: 'l2' } }],
  ['targets normalised by patch, smooth L1, all pixels', { model: vit, target: { normalise: 'patch' }, loss: { kind: 'smooth_l1', maskedOnly: false } }],
  ['targets normalised by window', { model: vit, target: { normalise: 'window', normaliseSize: 7 } }],
  ['bins', { model: vit, target: { kind: 'bins', bins: 4, resolution: 16 }, loss: { kind: 'cross_entropy' } }],
  ['colour clusters', { model: vit, target: { kind: 'clusters', palette: npy('palette.npy', [5, 3]), resolution: 16 }, loss: { kind: 'cross_entropy' } }],
  ['tokens of a codebook', { model: vit, target: { kind: 'tokens', codebook: npy('codebook.npy', [6, 3, 16, 16]) }, loss: { kind: 'cross_entropy' } }],
];

describe('a replayed step', () => {
  test.each(settings)('%s: the bits of the eager step', async (_, recipe) => {
    const updates = recipe.head?.startsWith('inverse') ? 3 : 4; // the first is eager, the second recorded
    const eager = await train(recipe, false, updates);
    expect(await train(recipe, true, updates)).toEqual(eager);
  });

  test('checks itself against the eager step when asked to', async () => {
    vi.stubEnv('SIMMIM_CHECK_PROGRAM', '1');
    const recipe: PartialRecipe = { model: { ...swin, dropPath: 0.2 }, train: { accumulation: 2 }, quirks };
    const checked = await train(recipe, true, 4);
    vi.unstubAllEnvs();
    expect(checked).toEqual(await train(recipe, false, 4));
  });
});
