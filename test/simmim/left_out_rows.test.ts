import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, describe, expect, it } from 'vitest';
import { backward } from '../../ts/autodiff';
import { CPU_BACKEND } from '../../ts/backend';
import { createEncoder } from '../../ts/models';
import { disposeModel, namedParameters } from '../../ts/nn/module';
import { Masking, SimMIM, type SimMIMOptions } from '../../ts/simmim';
import { firstBitDifference } from '../helpers/compare';
import { testContext } from '../helpers/model_fixture';

// On our CPU backend the mask token, and what becomes of it in windows without another token, is multiplied once, the last block's end and the head
// take hidden cells alone, and samples whose branch is dropped cost it nothing; tfjs's cpu backend takes every row. Both are the same
// loss with the same gradients.

afterAll(async () => void (await tf.setBackend('cpu')));

const swin = { imageSize: 64, embedDim: 8, depths: [2, 1], heads: [2, 2], windowSize: 4 };
const vit = { imageSize: 64, patchSize: 8, embedDim: 12, depth: 2, heads: 3 };
const models: [string, () => ReturnType<typeof createEncoder>, SimMIMOptions][] = [
  ['Swin', () => createEncoder('swin_tiny', swin), {}],
  ['Swin with recomputed blocks', () => createEncoder('swin_tiny', { ...swin, checkpointing: true }), {}],
  ['Swin with positions, whose hidden tokens differ', () => createEncoder('swin_tiny', { ...swin, absolutePosition: true }), {}],
  ['Swin of one block', () => createEncoder('swin_tiny', { ...swin, depths: [1], heads: [2] }), {}],
  ['Swin with windows over the edge', () => createEncoder('swin_tiny', { ...swin, windowSize: 5 }), {}],
  ['Swin, every pixel counted', () => createEncoder('swin_tiny', swin), { maskedOnly: false }],
  ['Swin, a coarse target', () => createEncoder('swin_tiny', swin), { target: { kind: 'rgb', resolution: 8 } }],
  ['SwinV2 with an MLP head', () => createEncoder('swinv2_tiny', swin), { head: 'mlp' }],
  ['SwinV2 with recomputed blocks and drop path', () => createEncoder('swinv2_tiny', { ...swin, checkpointing: true, dropPath: 0.4 }), {}],
  ['Swin with drop path', () => createEncoder('swin_tiny', { ...swin, dropPath: 0.4 }), {}],
  ['SwinV2 with an extra norm', () => createEncoder('swinv2_tiny', { ...swin, extraNormPeriod: 1 }), {}],
  ['ViT with drop path', () => createEncoder('vit_small', { ...vit, dropPath: 0.6 }), {}],
  ['ViT of one block', () => createEncoder('vit_small', { ...vit, depth: 1 }), {}],
  ['ViT', () => createEncoder('vit_small', vit), {}],
  ['ViT with recomputed blocks and its own biases', () => createEncoder('vit_small', { ...vit, checkpointing: true, relativeBias: 'per_block' }), {}],
];

async function lossAndGradients(backend: string, make: () => ReturnType<typeof createEncoder>, options: SimMIMOptions): Promise<{ loss: number; gradients: Map<string, Float32Array>; predicted: Float32Array; cells: Float32Array }> {
  await tf.setBackend(backend);
  const model = new SimMIM(make(), options);
  const names = [...namedParameters(model).keys()];
  const parameters = [...namedParameters(model).values()];
  const ctx = testContext({ training: true });
  const images = tf.randomNormal([2, 3, 64, 64], 0, 1, 'float32', 3);
  const mask = new Masking({ kind: 'random', patch: 16, ratio: 0.6 }, [64, 64], model.encoder.patchSize).onDevice(ctx.clock, 2);
  const gradients = new Map<string, Float32Array>();
  const loss = backward(() => model.loss(images, mask, ctx), parameters.map((p) => p.value), (i, g) => void gradients.set(names[i] as string, g.dataSync<'float32'>().slice()));
  const predicted = tf.tidy(() => model.predict(images, mask, ctx, true).dataSync<'float32'>().slice());
  const result = { loss: loss.dataSync()[0] as number, gradients, predicted, cells: mask.dataSync<'float32'>().slice() };
  tf.dispose([loss, images, mask, ctx.clock]);
  disposeModel(model);
  return result;
}

// Both backends sum in float32, over up to some thousand terms: their sums may differ by the root of that many roundings of 6e-8 of
// their size, 4e-6, and gradients of a small parameter by as much of what flows past it.
describe.each(models)('%s', (_, make, options) => {
  it('has the loss and gradients of all rows', async () => {
    const ours = await lossAndGradients(CPU_BACKEND, make, options);
    const all = await lossAndGradients('cpu', make, options);
    expect(ours.cells).toEqual(all.cells);
    expect(Math.abs(ours.loss - all.loss)).toBeLessThanOrEqual(1e-5 * all.loss);
    expect([...ours.gradients.keys()].sort()).toEqual([...all.gradients.keys()].sort());
    const length = (values: Float32Array): number => Math.hypot(...values);
    const whole = Math.hypot(...[...all.gradients.values()].map(length));
    for (const [name, wanted] of all.gradients) {
      const off = (ours.gradients.get(name) as Float32Array).map((v, i) => v - (wanted[i] as number));
      expect(length(off), name).toBeLessThanOrEqual(1e-5 * (length(wanted) + whole / 100));
    }
  });
});

it('leaves the predictions of visible cells 0 where the backend saves their work, and only those', async () => {
  const ours = await lossAndGradients(CPU_BACKEND, () => createEncoder('vit_small', vit), {});
  const all = await lossAndGradients('cpu', () => createEncoder('vit_small', vit), {});
  const features = ours.predicted.length / ours.cells.length;
  ours.cells.forEach((hidden, cell) => {
    const [a, b] = [ours, all].map(({ predicted }) => predicted.subarray(cell * features, (cell + 1) * features)) as [Float32Array, Float32Array];
    expect(b.some((v) => v !== 0)).toBe(true);
    if (!hidden) expect(a.every((v) => v === 0)).toBe(true);
    else a.forEach((v, i) => expect(Math.abs(v - (b[i] as number))).toBeLessThanOrEqual(1e-5 * (1 + Math.abs(b[i] as number))));
  });
});

it('computes every cell for a head that looks at all of them', async () => {
  await tf.setBackend(CPU_BACKEND);
  const model = new SimMIM(createEncoder('swin_tiny', { ...swin, depths: [1, 1, 1, 1], heads: [1, 1, 1, 2] }), { head: 'inverse_swin_tiny', target: { kind: 'bins', bins: 4 } });
  const ctx = testContext({ training: true });
  const [images, mask] = [tf.randomNormal([1, 3, 64, 64], 0, 1, 'float32', 3), tf.tensor(Float32Array.from({ length: 256 }, (_, i) => (i % 16 < 8 ? 1 : 0)), [1, 16, 16])];
  const [hidden, all] = [true, false].map((hiddenOnly) => tf.tidy(() => model.predict(images, mask, ctx, hiddenOnly).dataSync<'float32'>().slice())) as [Float32Array, Float32Array];
  expect(firstBitDifference(hidden, all)).toBeNull();
  tf.dispose([images, mask, ctx.clock]);
  disposeModel(model);
});
