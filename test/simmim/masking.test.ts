import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { avgDist, gridFromPixels, Masking, maskCount, type MaskStrategy } from '../../ts/simmim';
import { fixtures, readFixture } from '../helpers/golden';

interface MasksJson {
  /** input_size, mask_patch_size, model_patch_size, mask_ratio, rand_size, scale, token_count, mask_count, mask_sum. */
  counts: [number, number, number, number, number, number, number, number, number][];
  invalid_geometries: [number, number, number][];
  /** input_size, mask_patch_size, model_patch_size, mask_ratio, token_count, mask_count, exact_rational_ceil. */
  ceil_edges: [number, number, number, number, number, number, number][];
  samples: Record<string, [number, number, number, number]>;
  explicit: Record<string, { avg_dist: number | null; masked_pixels: number; shape: [number, number] }>;
}

const clock = { seed: 5, step: 3, micro: 1 };
const sum = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0);

beforeAll(async () => {
  await tf.setBackend('cpu');
});

describe.each(fixtures(/^masks/))('masks of the official generator (%s)', (name) => {
  const fixture = readFixture<MasksJson>(name);
  const { json } = fixture;

  it('hides the official number of cells and patches', () => {
    for (const [size, patch, modelPatch, ratio, cells, repeat, total, count, maskSum] of json.counts) {
      const masking = new Masking({ kind: 'random', patch, ratio }, [size, size], modelPatch);
      expect([masking.cells, masking.repeat, masking.cells[0] * masking.cells[1], masking.count]).toEqual([[cells, cells], repeat, total, count]);
      if (size <= 96) expect(sum(masking.onHost(clock, 1))).toBe(maskSum);
    }
  });

  it('rounds up in double precision', () => {
    for (const [size, patch, , ratio, , count] of json.ceil_edges) expect(maskCount([size / patch, size / patch], ratio)).toBe(count);
  });

  it('refuses the geometries that the official code refuses', () => {
    for (const [size, patch, modelPatch] of json.invalid_geometries) {
      expect(() => new Masking({ kind: 'random', patch, ratio: 0.5 }, [size, size], modelPatch)).toThrow(/do not tile|are not whole patches/);
    }
  });

  it('has the shape of official samples', () => {
    for (const [tensor, [size, patch, modelPatch, ratio]] of Object.entries(json.samples)) {
      const masking = new Masking({ kind: 'random', patch, ratio }, [size, size], modelPatch);
      const [batch = 0, ...grid] = fixture.shape(tensor);
      const ours = masking.onHost(clock, batch);
      expect(grid).toEqual(masking.cells.map((n) => n * masking.repeat));
      expect(sum(ours)).toBe(sum(fixture.values(tensor)));
    }
  });

  it('measures the exact AvgDist of explicit masks', () => {
    for (const [tensor, { avg_dist: expected, shape }] of Object.entries(json.explicit)) {
      const got = avgDist(fixture.values(tensor), shape);
      if (expected === null) expect(got, tensor).toBeNull();
      else expect(Math.abs((got as number) - expected), tensor).toBeLessThan(1e-12);
    }
  });
});

interface Expected {
  /** null when everything is hidden. */
  mean: number | null;
  /** Of one mask; absent when all masks are alike. */
  std?: number;
  stderr?: number;
}

type AvgDistJson = { image_size: number } & Record<'square_pixels' | 'square_units32' | 'blockwise16' | 'blockwise32', Record<string, Expected>> & { random: Record<string, Record<string, Expected>> };

const DRAWS = 60;

/** Mean of AvgDist over `DRAWS` masks at pixel size, those left out in which nothing is hidden (a grid too small for a block). */
function monteCarlo(strategy: MaskStrategy, size: number): number | null {
  const masking = new Masking(strategy, [size, size], 1);
  const distances = Array.from({ length: DRAWS }, (_, step) => avgDist(masking.onHost({ seed: 11, step, micro: 0 }, 1), [size, size])).filter((d) => d !== null);
  return distances.length === 0 ? null : sum(distances) / distances.length;
}

describe.each(fixtures(/^avgdist/))('AvgDist of each strategy (%s)', (name) => {
  const json = readFixture<AvgDistJson>(name).json;
  const cases: [string, MaskStrategy, Expected][] = [
    ...Object.entries(json.random).flatMap(([patch, ratios]) =>
      Object.entries(ratios).map(([ratio, expected]): [string, MaskStrategy, Expected] => [`random ${patch} ${ratio}`, { kind: 'random', patch: Number(patch), ratio: Number(ratio) }, expected])),
    ...([['square_pixels', 'square', 1], ['square_units32', 'square', 32], ['blockwise16', 'block', 16], ['blockwise32', 'block', 32]] as const).flatMap(([key, kind, patch]) =>
      Object.entries(json[key]).map(([ratio, expected]): [string, MaskStrategy, Expected] => [`${key} ${ratio}`, { kind, patch, ratio: Number(ratio) }, expected])),
  ];

  it.each(cases)('%s lies within four standard errors', (_, strategy, expected) => {
    const combined = Math.hypot((expected.std ?? 0) / Math.sqrt(DRAWS), expected.stderr ?? 0);
    const got = monteCarlo(strategy, json.image_size);
    if (expected.mean === null || got === null) expect(got).toBe(expected.mean);
    else expect(Math.abs(got - expected.mean)).toBeLessThanOrEqual(4 * combined + 1e-9);
  });

  it('on 4-pixel tokens is the paper\'s: default mask 32 at 0.6 about 17 (Fig. 3)', () => {
    const masking = new Masking({ kind: 'random', patch: 32, ratio: 0.6 }, [192, 192], 4);
    const draws = Array.from({ length: 100 }, (_, step) => avgDist(masking.onHost({ seed: 1, step, micro: 0 }, 1), [48, 48], 4) as number);
    expect(Math.abs(sum(draws) / 100 - 17.0)).toBeLessThan(0.03 * 17);
  });
});

describe('Masking', () => {
  it('draws the same bits on the host as on the device', () => {
    const masking = new Masking({ kind: 'random', patch: 16, ratio: 0.6 }, [64, 96], 8);
    const device = tf.tidy(() => masking.onDevice(tf.tensor1d([5, 3, 1, 0], 'int32'), 3).dataSync());
    expect(Array.from(device)).toEqual(Array.from(masking.onHost(clock, 3)));
  });

  it.each<MaskStrategy>([{ kind: 'random', patch: 16, ratio: 0.5 }, { kind: 'square', patch: 16, ratio: 0.3 }, { kind: 'block', patch: 16, ratio: 0.5 }])(
    'is a function of seed, step, micro-step and sample: %j', (strategy) => {
      const masking = new Masking(strategy, [192, 128], 4);
      const mask = masking.onHost(clock, 2);
      expect(masking.onHost(clock, 2)).toEqual(mask);
      expect(mask.subarray(0, mask.length / 2)).not.toEqual(mask.subarray(mask.length / 2));
      for (const other of [{ ...clock, seed: 6 }, { ...clock, step: 4 }, { ...clock, micro: 0 }]) expect(masking.onHost(other, 2)).not.toEqual(mask);
    });

  it('takes explicit grids and pictures of what to hide', () => {
    const masking = new Masking({ kind: 'explicit', grid: [[1, 0, 0], [0, 0, 1]] }, [32, 48], 8);
    expect([masking.count, masking.repeat, masking.ratio]).toEqual([2, 2, 1 / 3]);
    expect(Array.from(masking.onHost(clock, 1)).map(String).join('')).toBe('110000' + '110000' + '000011' + '000011');
    const pixels = new Uint8Array(16 * 16);
    pixels.fill(255, 0, 5 * 16); // five rows: more than half of the upper patches, none of the lower
    expect(gridFromPixels(pixels, [16, 16], 8)).toEqual([[1, 1], [0, 0]]);
  });

  it.each<[MaskStrategy, number, string]>([
    [{ kind: 'random', patch: 32, ratio: 0.6 }, 4, 'mask cells of 32 px do not tile an image of 100x64 px: the grid would be 3.125x2 cells'],
    [{ kind: 'random', patch: 4, ratio: 1.5 }, 4, 'ratio is 1.5, expected a share between 0 and 1'],
    [{ kind: 'random', patch: 2, ratio: 0.5 }, 4, "mask cells of 2 px (a 50x32 grid) are not whole patches of the model's 4 px (a 25x16 grid): patch must be a multiple of 4"],
    [{ kind: 'explicit', grid: [[1, 0], [1]] }, 4, 'an explicit grid needs rows of equal, non-zero length'],
    [{ kind: 'explicit', grid: [[1, 2]] }, 4, 'an explicit grid holds 2, expected 0 (visible) or 1 (hidden)'],
    [{ kind: 'explicit', grid: [[1, 0]] }, 4, "does not fit the model's 25x16 patches of 4 px"],
    [{ kind: 'block', patch: 4, ratio: 0.5, minAspect: 0 }, 4, 'minAspect is 0, expected above 0 and at most 1'],
  ])('refuses %j', (strategy, modelPatch, message) => {
    expect(() => new Masking(strategy, [100, 64], modelPatch)).toThrow(message);
  });
});
