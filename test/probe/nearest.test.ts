import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, test } from 'vitest';
import '../../ts/backend';
import { featuresInMemory, type FeatureSet } from '../../ts/probe/feature_set';
import { nearestNeighbours } from '../../ts/probe/nearest';
import { scores } from '../../ts/train/scores';
import { mcnemar, spread } from '../../ts/probe/significance';
import { Rng } from '../../ts/rng';

beforeAll(async () => {
  await tf.setBackend('simmim-cpu');
});

function random(rows: number, seed: number): FeatureSet {
  const rng = new Rng(seed);
  return featuresInMemory(Float32Array.from({ length: rows * 5 }, () => rng.normal()), 5, Int32Array.from({ length: rows }, () => rng.below(4)), ['a', 'b', 'c', 'd']);
}

test('neighbours and votes are those of all similarities in double precision, across blocks', () => {
  const [train, queries] = [random(9000, 1), random(1030, 2)]; // more than one block of each
  const [k, temperature] = [20, 0.07];
  const { weighted, plain } = nearestNeighbours(train, queries, { k, temperature });
  const unit = (set: FeatureSet, row: number): number[] => {
    const x = [...set.read(row, 1)];
    const length = Math.hypot(...x);
    return x.map((v) => v / length);
  };
  const rows = Array.from({ length: train.rows }, (_, i) => unit(train, i));
  for (const q of [0, 7, 1023, 1024, 1029]) {
    const query = unit(queries, q);
    const near = rows.map((x, row) => ({ row, s: x.reduce((sum, v, c) => sum + v * (query[c] as number), 0) })).sort((a, b) => b.s - a.s).slice(0, k);
    const votes = [0, 0, 0, 0];
    const counts = [0, 0, 0, 0];
    for (const { row, s } of near) {
      const label = train.labels[row] as number;
      votes[label] = (votes[label] as number) + Math.exp((s - 1) / temperature);
      counts[label] = (counts[label] as number) + 1;
    }
    for (let c = 0; c < 4; c++) {
      // A float32 similarity is off by some 1e-7, its vote by that over the temperature.
      expect(Math.abs((weighted[q * 4 + c] as number) - (votes[c] as number))).toBeLessThanOrEqual((votes[c] as number) * (1e-6 / temperature));
      expect(Math.floor(plain[q * 4 + c] as number)).toBe(counts[c]);
    }
  }
});

test('with equal counts the class of the nearer neighbours wins', () => {
  const train = featuresInMemory(Float32Array.of(1, 0, 0.9, 0.1, 0, 1, 0.1, 0.9), 2, Int32Array.of(1, 1, 0, 0), ['a', 'b']);
  const query = featuresInMemory(Float32Array.of(1, 0.5), 2, Int32Array.of(1), ['a', 'b']);
  expect(scores(nearestNeighbours(train, query, { k: 4 }).plain, query.labels, 2).top1).toBe(100);
});

test('bad arguments are refused', () => {
  const set = random(10, 1);
  expect(() => nearestNeighbours(set, set)).toThrow(/knn: k is 20, expected 1 to 10, the number of training pictures/);
  expect(() => nearestNeighbours(set, set, { k: 5, temperature: 0 })).toThrow(/temperature is 0/);
});

test('scores: ties count against the label; top-5 needs six classes', () => {
  expect(scores([1, 1, 0, 0, 2, 1], Int32Array.of(0, 1), 3)).toEqual({ top1: 50, top5: null, right: [false, true] });
  const outputs = [9, 8, 7, 6, 5, 4, 4, 5, 6, 7, 8, 9];
  expect(scores(outputs, Int32Array.of(4, 0), 6)).toEqual({ top1: 0, top5: 50, right: [false, false] });
  expect(scores([NaN, 1], Int32Array.of(0), 2).top1).toBe(0);
});

test("McNemar's exact test by hand, and for large counts", () => {
  const lists = (a: number, b: number, same: number): [boolean[], boolean[]] => [
    [...Array<boolean>(a).fill(true), ...Array<boolean>(b).fill(false), ...Array<boolean>(same).fill(true)],
    [...Array<boolean>(a).fill(false), ...Array<boolean>(b).fill(true), ...Array<boolean>(same).fill(true)],
  ];
  expect(mcnemar(...lists(5, 1, 3))).toEqual({ onlyFirst: 5, onlySecond: 1, p: expect.closeTo((2 * (1 + 6)) / 64, 12) as number });
  expect(mcnemar(...lists(0, 0, 4)).p).toBe(1);
  expect(mcnemar(...lists(3, 3, 0)).p).toBe(1);
  expect(mcnemar(...lists(400, 300, 0)).p).toBeCloseTo(0.000178, 5); // normal approximation with continuity: z = 99 / sqrt(700), p = 0.000183
  expect(() => mcnemar([true], [])).toThrow(/the first has 1 pictures and the second 0/);
  expect(spread([1, 2, 3])).toEqual({ mean: 2, std: 1 });
  expect(spread([4])).toEqual({ mean: 4, std: 0 });
});
