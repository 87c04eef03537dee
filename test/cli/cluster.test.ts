import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readNpy } from '../../ts/formats/npy';
import { toFloat32 } from '../../ts/formats/safetensors';
import { buildModel } from '../../ts/train/model_build';
import { recipeFromYaml } from '../../ts/train/recipe';
import { simmim } from './run_cli';

const folder = mkdtempSync(join(tmpdir(), 'simmim-cluster-'));
afterAll(() => rmSync(folder, { recursive: true }));

const COLOURS = [[255, 0, 0], [0, 128, 0], [0, 0, 255], [255, 255, 255]] as const;

beforeAll(async () => {
  for (const [i, colour] of COLOURS.entries()) {
    mkdirSync(join(folder, 'flags'), { recursive: true });
    await sharp({ create: { width: 40, height: 40, channels: 3, background: { r: colour[0], g: colour[1], b: colour[2] } } }).png().toFile(join(folder, 'flags', `${i}.png`));
  }
  writeFileSync(join(folder, 'file'), 'x');
});

const flags = (...more: string[]): Promise<{ code: number; out: string; errors: string[] }> =>
  simmim('cluster', '--data', join(folder, 'flags'), '--set', 'data.validationShare=0', '--set', 'data.workers=1', '--image-size', '32', '--views', '16', ...more);

test('the palette of four flags is their four colours, exactly, and goes into a recipe', async () => {
  const out = join(folder, 'new', 'palette.npy');
  const { errors, out: printed } = await flags('--set', 'data.statistics={mean: [0.1, 0.2, 0.3], std: [0.3, 0.2, 0.1]}', '--clusters', '4', '--samples', '400', '--out', out);
  expect(errors).toEqual([]);
  expect(printed).toContain('400 pixels from 16 random crops of the 4 pictures');
  const stored = readNpy(out);
  expect(stored.shape).toEqual([4, 3]);
  const found = Array.from({ length: 4 }, (_, k) => Array.from(toFloat32(stored, out).subarray(3 * k, 3 * k + 3), (v) => Math.round(v * 255)));
  expect(found).toEqual([[0, 128, 0], [0, 0, 255], [255, 0, 0], [255, 255, 255]]);
  expect((await sharp(out.replace('npy', 'png')).metadata()).width).toBe(32);
  const recipe = recipeFromYaml('model: {encoder: swin_tiny, imageSize: 64, embedDim: 8, depths: [1, 1], heads: [1, 1], windowSize: 4}', 'test', ['target.kind=clusters', 'loss.kind=cross_entropy', `target.palette=${out}`]);
  expect(buildModel(recipe).model.target.values).toBe(4);
});

test('a codebook has patches, and the same command gives the same file', async () => {
  const out = [join(folder, 'a.npy'), join(folder, 'b.npy')] as const;
  for (const file of out) expect((await flags('--clusters', '3', '--patch', '8', '--out', file)).errors).toEqual([]);
  expect(readNpy(out[0]).shape).toEqual([3, 3, 8, 8]);
  expect(readFileSync(out[0]).equals(readFileSync(out[1]))).toBe(true);
});

test.each<[string[], string]>([
  [['--out', 'x.npz'], "--out is 'x.npz', expected a name that ends in .npy"],
  [['--out', join(folder, 'x.npy'), '--clusters', '1'], '--clusters is 1, expected at least 2'],
  [['--out', join(folder, 'x.npy'), '--clusters', '5', '--samples', '64'], 'points have only 4 different values, expected at least 5'],
  [['--out', join(folder, 'x.npy'), '--patch', '7'], 'patches of 7 px do not tile an image of 32 x 32'],
  [['--out', join(folder, 'x.npy'), '--patch', '32', '--samples', '1000000000', '--views', '1000000'], 'take fewer samples'],
  [['--out', join(folder, 'x.npy'), '--clusters', '9', '--samples', '3', '--views', '3'], 'expected at least 9'],
  [['--out', join(folder, 'file', 'x.npy'), '--clusters', '4', '--samples', '64'], 'cannot write'],
])('refused in one sentence: cluster %j', async (args, sentence) => {
  const { code, errors } = await flags(...args);
  expect([code, errors.length, errors[0]?.split('\n').length]).toEqual([1, 1, 1]);
  expect(errors[0]).toContain(sentence);
});

test('needs pictures', async () => {
  expect((await simmim('cluster', '--out', 'x.npy')).errors[0]).toContain('give the folder of your pictures with --data FOLDER');
  expect((await simmim('cluster', '--out', join(folder, 'x.npy'), '--data', join(folder, 'nowhere'))).errors[0]).toContain('does not exist');
});
