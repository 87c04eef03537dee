import * as tf from '@tensorflow/tfjs-core';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import '../../ts/backend';
import { encodeNpy } from '../../ts/formats/npy';
import { disposeModel } from '../../ts/nn/module';
import { constantLoss } from '../../ts/train/constant_predictor';
import { drawMasks } from '../../ts/train/masked_task';
import { buildModel } from '../../ts/train/model_build';
import { recipeFromYaml, type Recipe } from '../../ts/train/recipe';
import { withMaskGrid } from '../../ts/train/task';

const folder = mkdtempSync(join(tmpdir(), 'simmim-task-'));
afterAll(() => rmSync(folder, { recursive: true }));
beforeAll(() => tf.setBackend('simmim-cpu'));

const npy = (name: string, shape: number[], values: Float32Array): string => {
  const file = join(folder, name);
  writeFileSync(file, encodeNpy({ dtype: 'F32', shape, data: new Uint8Array(values.buffer) }));
  return file;
};
const palette = npy('palette.npy', [4, 3], Float32Array.of(0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.8, 0.2, 0.1, 0.1, 0.5, 0.9));
const codebook = npy('codebook.npy', [5, 3, 8, 8], Float32Array.from({ length: 5 * 192 }, (_, i) => (Math.floor(i / 192) + 0.5 + 0.3 * Math.sin(i)) / 6));

/** The smallest Swin with stride 32, which all heads fit. */
const TINY = 'model: {encoder: swin_tiny, imageSize: 64, embedDim: 4, depths: [1, 1, 1, 1], heads: [1, 1, 1, 2], windowSize: 4}\nmasking: {patchSize: 16}';
const tiny = (...overrides: string[]): Recipe => recipeFromYaml(TINY, 'tiny', overrides);

describe('masks', () => {
  test.each(['random', 'square', 'block'])('%s: the source gives a function of seed, step, micro step and sample', (strategy) => {
    const { masking, model } = buildModel(tiny(`masking.strategy=${strategy}`, 'masking.patchSize=8', 'masking.minCells=2', 'masking.ratio=0.3'));
    const draw = (seed: number, step: number, micro: number): number[] => tf.tidy(() => Array.from(drawMasks(masking, tf.tensor1d([seed, step, micro, 0], 'int32'), { seed, step, micro }, 3).dataSync()));
    const first = draw(7, 5, 1);
    expect(draw(7, 5, 1)).toEqual(first);
    expect(first).toEqual(Array.from(masking.onHost({ seed: 7, step: 5, micro: 1 }, 3)));
    expect([draw(8, 5, 1), draw(7, 6, 1), draw(7, 5, 0)].filter((other) => other.join() === first.join()).length).toBe(0);
    disposeModel(model);
  });

  test('explicit: a picture of the image, a picture of cells and an .npy give the grid, which the recipe then holds', async () => {
    const half = Buffer.alloc(64 * 64, 0).fill(255, 0, 64 * 32); // upper half white
    await sharp(half, { raw: { width: 64, height: 64, channels: 1 } }).png().toFile(join(folder, 'half.png'));
    await sharp(Buffer.of(255, 255, 0, 0), { raw: { width: 2, height: 2, channels: 1 } }).png().toFile(join(folder, 'cells.png'));
    const file = npy('half.npy', [2, 2], Float32Array.of(1, 1, 0, 0));
    for (const name of [join(folder, 'half.png'), join(folder, 'cells.png'), file]) {
      const recipe = await withMaskGrid(tiny('masking.strategy=explicit', `masking.file=${name}`));
      const { masking, model } = buildModel(recipe);
      expect(masking.shape(1)).toEqual([1, 16, 16]);
      const mask = Array.from(masking.onHost({ seed: 0, step: 0, micro: 0 }, 1));
      expect(mask).toEqual(Array.from({ length: 256 }, (_, i) => (i < 128 ? 1 : 0)));
      expect(recipeFromYaml(JSON.stringify(recipe), 'stored')).toEqual(recipe);
      disposeModel(model);
    }
  });
});

const refused: [string[], string][] = [
  [['target.kind=bins'], 'loss l1 does not fit target bins: it has classes, which only cross_entropy compares'],
  [['loss.kind=cross_entropy'], 'loss cross_entropy does not fit target rgb'],
  [['head=inverse_swin_tiny', 'target.resolution=16'], 'inverse_swin_tiny predicts at full size 64x64'],
  [['head=inverse_swin_base', 'model.depths=[1, 1]', 'model.heads=[1, 2]'], 'inverse_swin_base enlarges 32 times'],
  [['target.kind=clusters', 'loss.kind=cross_entropy'], 'target.palette: is not set'],
  [['target.kind=tokens', 'loss.kind=cross_entropy'], 'target.tokenizer: is not set'],
  [['target.kind=tokens', 'loss.kind=cross_entropy', `target.codebook=${palette}`], 'codebook is [4, 3], expected [K, C, P, P]'],
  [['target.kind=tokens', 'loss.kind=cross_entropy', `target.codebook=${codebook}`, 'target.resolution=3'], 'resolution is 3x3, expected one that divides the image'],
  [['target.kind=bins', 'loss.kind=cross_entropy', 'target.normalise=patch'], 'only colours (rgb) are normalised'],
  [['target.normalise=window', 'target.resolution=16'], 'normalised targets are defined at full size'],
  [['target.resolution=24'], 'resolution is 24x24, expected one that divides the image'],
  [['masking.patchSize=2'], 'not whole patches of the model'],
  [['masking.strategy=explicit'], 'masking.strategy is explicit: give the cells'],
  [['masking.strategy=explicit', 'masking.grid=[[1, 0, 1]]'], 'an explicit grid of 1x3 does not fit'],
  [['masking.strategy=explicit', 'masking.grid=[[1, 2]]'], 'masking.grid.0.1 is 2'],
  [['head=liner'], 'head is "liner"'],
];
test.each(refused)('refused in one sentence: %j', (overrides, sentence) => {
  let message = '';
  try {
    buildModel(tiny(...overrides));
  } catch (error) {
    message = (error as Error).message;
  }
  expect(message).toContain(sentence);
  expect(message.split('\n')).toHaveLength(1);
});

test('constants of classes are judged by their frequencies; a coarse target weighs pixels by their hidden share', () => {
  const classes = Int32Array.of(0, 0, 1, 1); // [1, 1, 2, 2], the lower half hidden
  expect(constantLoss(classes, [1, 1, 2, 2], Float32Array.of(0, 1), [2, 1], { kind: 'cross_entropy', beta: 1 }, 2)).toBeCloseTo(Math.log(4), 12);
  // Target [1, 1, 1, 2], mask of 2 x 4: left pixel a quarter hidden, right one wholly. Constant (0.75 * 2) / 0.75 = 2.
  const mask = Float32Array.of(1, 0, 1, 1, 0, 0, 1, 1);
  expect(constantLoss(Float32Array.of(2, 7), [1, 1, 1, 2], mask, [2, 4], { kind: 'l1', beta: 1 })).toBeCloseTo(5 / 1.25, 12);
  expect(constantLoss(Float32Array.of(2, 7), [1, 1, 1, 2], mask, [2, 4], { kind: 'l1', beta: 1, maskedOnly: false })).toBeCloseTo(2.5, 12);
});
