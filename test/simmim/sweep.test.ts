import * as tf from '@tensorflow/tfjs-core';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import '../../ts/backend';
import { SimmimError } from '../../ts/errors';
import { encodeNpy } from '../../ts/formats/npy';
import { headNames } from '../../ts/simmim/heads';
import { lossNames } from '../../ts/simmim/losses';
import { buildModel } from '../../ts/train/model_build';
import { recipeFromYaml, type Recipe } from '../../ts/train/recipe';
import { drawPictures, trainSome } from '../helpers/train_some';

// The inverse Swin heads have 28 and 88 million parameters: the sweep trains the same wiring at other sizes.
vi.mock(import('../../ts/models/swin'), async (original) => {
  const real = await original();
  const small = { ...real.swinPresets.swin_tiny, embedDim: 16, heads: [1, 1, 2, 2], windowSize: 4 } as (typeof real.swinPresets)[string];
  return { ...real, swinPresets: { ...real.swinPresets, swin_tiny: { ...small, depths: [1, 1, 2, 1] }, swin_base: { ...small, depths: [2, 1, 1, 1], embedDim: 24 } } };
});

const folder = mkdtempSync(join(tmpdir(), 'simmim-sweep-'));
afterAll(() => rmSync(folder, { recursive: true }));
beforeAll(() => tf.setBackend('simmim-cpu'));

const SIZE = 64;
const STEPS = 50;

const npy = (name: string, shape: number[]): string => {
  const count = shape.reduce((a, b) => a * b, 1);
  const each = count / (shape[0] as number);
  const values = Float32Array.from({ length: count }, (_, i) => (Math.floor(i / each) + 0.5 + 0.4 * Math.sin(i * 7)) / (shape[0] as number));
  writeFileSync(join(folder, name), encodeNpy({ dtype: 'F32', shape, data: new Uint8Array(values.buffer) }));
  return join(folder, name);
};
const palette = npy('palette.npy', [6, 3]);
const codebook = npy('codebook.npy', [5, 3, 16, 16]);

interface TargetCase {
  name: string;
  keys: string[];
  classes: boolean;
  /** Whether its pixels are those of the image, which the inverse Swin heads need. */
  full: boolean;
}

const targets: TargetCase[] = [
  { name: 'rgb', keys: [], classes: false, full: true },
  { name: 'rgb at 1/2', keys: [`target.resolution=${SIZE / 2}`], classes: false, full: false },
  { name: 'rgb at 1/32', keys: [`target.resolution=${SIZE / 32}`], classes: false, full: false },
  { name: 'patch-normalised', keys: ['target.normalise=patch'], classes: false, full: true },
  { name: 'window-normalised', keys: ['target.normalise=window'], classes: false, full: true },
  { name: '8 bins', keys: ['target.kind=bins'], classes: true, full: true },
  { name: '256 bins at 1/4', keys: ['target.kind=bins', 'target.bins=256', `target.resolution=${SIZE / 4}`], classes: true, full: false },
  { name: 'clusters', keys: ['target.kind=clusters', `target.palette=${palette}`], classes: true, full: true },
  { name: 'clusters at 1/8', keys: ['target.kind=clusters', `target.palette=${palette}`, `target.resolution=${SIZE / 8}`], classes: true, full: false },
  { name: 'tokens', keys: ['target.kind=tokens', `target.codebook=${codebook}`], classes: true, full: false },
];

/** A ViT of one block with the stride that every head fits. */
const BASE = `model: {encoder: vit_small, imageSize: ${SIZE}, patchSize: 32, embedDim: 16, depth: 1, heads: 2}\nmasking: {patchSize: 32, ratio: 0.5}\ntrain: {seed: 3}`;

const product = headNames.flatMap((head) => targets.flatMap((target) => lossNames.map((loss) => ({ head, target, loss }))));
const fits = ({ head, target, loss }: (typeof product)[number]): boolean => target.classes === (loss === 'cross_entropy') && (target.full || !head.startsWith('inverse'));
const recipeOf = ({ head, target, loss }: (typeof product)[number], ...more: string[]): Recipe => recipeFromYaml(BASE, 'sweep', [`head=${head}`, `loss.kind=${loss}`, ...target.keys, ...more]);

/** A pattern that repeats every 16 pixels on a colour of its own. */
const pictures = drawPictures([2, SIZE, SIZE], (x, y, c, b) => Math.sin((Math.PI / 8) * x) * (y % 16 < 8 ? 1 : -1) + 0.8 * Math.sin(1.3 * c + b));

/** The losses of STEPS updates on the same pictures under new masks. */
const train = (recipe: Recipe): Promise<number[]> => trainSome(recipe, pictures, { updates: STEPS, lr: (i) => 2e-3 * (1 - i / STEPS) });

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** The loss of the last ten updates is clearly below that of the first five. */
function expectFall(losses: readonly number[]): void {
  expect(losses.every(Number.isFinite)).toBe(true);
  expect(mean(losses.slice(-10)), losses.map((l) => l.toFixed(3)).join(' ')).toBeLessThan(0.95 * mean(losses.slice(0, 5)));
}

describe('the loss falls over 50 updates', () => {
  const valid = product.filter(fits).map((c) => ({ ...c, name: c.target.name }));
  test.each(valid)('$head, $name, $loss', async (c) => expectFall(await train(recipeOf(c))));
  test.each(valid.filter((c) => c.head === 'linear' && (c.loss === 'l1' || c.loss === 'cross_entropy')))('$head, $name, $loss, reconstructing everything', async (c) => expectFall(await train(recipeOf(c, 'loss.maskedOnly=false'))));
});

test('every other combination is refused in one sentence that names both sides', () => {
  const invalid = product.filter((c) => !fits(c));
  expect(invalid).toHaveLength(product.length - 2 * (5 * 3 + 5) - 2 * (3 * 3 + 2));
  for (const c of invalid) {
    let error: unknown = null;
    try {
      buildModel(recipeOf(c));
    } catch (thrown) {
      error = thrown;
    }
    const label = `${c.head}, ${c.target.name}, ${c.loss}`;
    expect(error, label).toBeInstanceOf(SimmimError);
    const { message, code } = error as SimmimError;
    expect([code, message.split('\n').length], label).toEqual(['invalid_argument', 1]);
    expect(message, label).toMatch(/loss (l1|l2|smooth_l1|cross_entropy) does not fit target (rgb|bins|clusters|tokens): it has|inverse_swin_(tiny|base) predicts at full size 64x64, but the target is \d+x\d+/);
  }
});
