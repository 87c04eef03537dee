import { join } from 'node:path';
import { expect, test } from 'vitest';
import { IMAGENET } from '../../ts/image_statistics';
import { buildModel } from '../../ts/train/model_build';
import { parseRecipe } from '../../ts/train/recipe';
import { openRunData } from '../../ts/train/run_data';

const recipe = (statistics: { mean: [number, number, number]; std: [number, number, number] } | null) =>
  parseRecipe({ model: { encoder: 'vit_small', imageSize: 32, depth: 1 }, masking: { patchSize: 16 }, data: { source: 'demo', workers: 0, samplesPerEpoch: 4, statistics }, train: { batchSize: 4 } });

test('data.statistics is what training and validation images are normalised by, and what the model knows of them', async () => {
  const own = { mean: [0.1, 0.2, 0.3], std: [0.5, 1, 2] } as { mean: [number, number, number]; std: [number, number, number] };
  const [a, b] = [openRunData(recipe(null)), openRunData(recipe(own))];
  for (const open of [() => [a.openTrain(() => undefined), b.openTrain(() => undefined)], () => [a.openValidation(), b.openValidation()]]) {
    const [first, second] = await Promise.all(open().map(async (source) => {
      const batch = await source?.next();
      await source?.close();
      return batch?.images ?? new Float32Array(0);
    })) as [Float32Array, Float32Array];
    const plane = 32 * 32;
    for (let i = 0; i < first.length; i += 97) {
      const c = Math.floor(i / plane) % 3;
      const level = (first[i] as number) * (IMAGENET.std[c] as number) + (IMAGENET.mean[c] as number);
      expect(second[i]).toBeCloseTo((level - (own.mean[c] as number)) / (own.std[c] as number), 5);
    }
  }
  expect(buildModel(recipe(own)).statistics).toEqual(own);
  expect(buildModel(recipe(null)).statistics).toEqual(IMAGENET);
});

test('pictures that are in both parts are warned of; the demonstration has parts of the same photographs by design', () => {
  const photos = join(__dirname, '../../ts/data/demo');
  const folder = (validationFolder: string | null) => openRunData(parseRecipe({ data: { folder: photos, validationFolder, validationShare: 0.3 } })).warnings;
  expect(folder(photos)).toEqual([expect.stringContaining('6 of the 6 validation pictures are training pictures too')]);
  expect(folder(null)).toEqual([]);
  expect(openRunData(recipe(null)).warnings).toEqual([]);
});

test('statistics that make no sense are refused by name', () => {
  expect(() => recipe({ mean: [0, 0, 0], std: [1, 0, 1] })).toThrow(/data.statistics.std.1 is 0/);
  expect(() => parseRecipe({ data: { statistics: { mean: [0.5], std: [1] } } })).toThrow(/data.statistics.mean is \[0.5\]: expected three numbers, one for each channel/);
});
