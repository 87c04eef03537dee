import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import '../../ts/backend';
import { Rng } from '../../ts/rng';
import { distortionOf, kMeans } from '../../ts/simmim';
import { lloyd } from '../../ts/simmim/kmeans';

beforeAll(() => tf.setBackend('simmim-cpu'));

/** Points around `blobs` far corners of a cube, equally many each. */
function blobs(count: number, each: number, dimension: number, seed: number): { points: Float32Array; corners: number[][] } {
  const rng = new Rng(seed);
  const corners = Array.from({ length: count }, (_, k) => Array.from({ length: dimension }, (_, j) => ((k >> j) & 1) + 0.1 * k));
  const points = Float32Array.from(corners.flatMap((corner) => Array.from({ length: each }, () => corner.map((v) => v + 0.01 * rng.normal())).flat()));
  return { points, corners };
}

describe('kMeans', () => {
  test('finds well separated groups, each whole, and their means', () => {
    const { points } = blobs(8, 50, 3, 1);
    const { centres, counts, distortion } = kMeans(points, 3, { clusters: 8, seed: 4 });
    expect(Array.from(counts)).toEqual(Array(8).fill(50));
    expect(distortion).toBeLessThan(3 * 0.012 ** 2);
    const means = Array.from({ length: 8 }, (_, k) => Array.from({ length: 3 }, (_, j) => {
      let sum = 0;
      for (let i = 0; i < 50; i++) sum += points[(k * 50 + i) * 3 + j] as number;
      return sum / 50;
    })).sort((a, b) => a.reduce((x, y) => x + y) - b.reduce((x, y) => x + y));
    means.flat().forEach((m, i) => expect(centres[i]).toBeCloseTo(m, 6));
  });

  test('ends where Lloyd ends: every centre is the mean of the points nearest to it', () => {
    const rng = new Rng(9);
    const points = Float32Array.from({ length: 600 * 5 }, () => rng.uniform());
    const { centres, counts, distortion } = kMeans(points, 5, { clusters: 12, seed: 0, iterations: 500, tolerance: 0 });
    const sums = new Float64Array(60);
    const own = new Array<number>(12).fill(0);
    let total = 0;
    for (let i = 0; i < 600; i++) {
      const distances = Array.from({ length: 12 }, (_, k) => Array.from({ length: 5 }, (_, j) => ((points[i * 5 + j] as number) - (centres[k * 5 + j] as number)) ** 2).reduce((a, b) => a + b));
      const k = distances.indexOf(Math.min(...distances));
      own[k] = (own[k] as number) + 1;
      total += distances[k] as number;
      for (let j = 0; j < 5; j++) sums[k * 5 + j] = (sums[k * 5 + j] as number) + (points[i * 5 + j] as number);
    }
    expect(Array.from(counts)).toEqual(own);
    expect(distortion).toBeCloseTo(total / 600, 9);
    sums.forEach((s, at) => expect(centres[at]).toBeCloseTo(s / (own[Math.floor(at / 5)] as number), 5));
    expect(distortionOf(points, 5, centres)).toBe(distortion);
  });

  test('is a function of the seed, ordered by mean; more rounds are never worse', () => {
    const rng = new Rng(2);
    const points = Float32Array.from({ length: 900 * 3 }, () => rng.uniform());
    const run = (seed: number) => kMeans(points, 3, { clusters: 16, seed });
    expect(run(1)).toEqual(run(1));
    expect(run(2).centres).not.toEqual(run(1).centres);
    const sums = Array.from({ length: 16 }, (_, k) => run(1).centres.subarray(3 * k, 3 * k + 3).reduce((a, b) => a + b));
    expect(sums).toEqual([...sums].sort((a, b) => a - b));
    const course: number[] = [];
    kMeans(points, 3, { clusters: 16, seed: 1, onRound: (_, d) => course.push(d) });
    course.slice(1).forEach((d, i) => expect(d).toBeLessThanOrEqual((course[i] as number) * (1 + 1e-12)));
  });

  test('clusters that run empty start anew at the farthest points, and none is left empty', () => {
    const { points } = blobs(6, 20, 3, 5);
    const { counts, revived, distortion } = lloyd(points, 3, new Float32Array(6 * 3)); // six equal centres: five are empty
    expect(revived).toBeGreaterThanOrEqual(5);
    expect(Math.min(...counts)).toBeGreaterThan(0);
    expect(distortion).toBeLessThan(distortionOf(points, 3, new Float32Array(18)) / 10);
  });

  test('as many clusters as different points: each point is one', () => {
    const points = Float32Array.of(0, 0, 0, 1, 2, 5, 5, 9);
    const { centres, counts, distortion } = kMeans(points, 1, { clusters: 5, seed: 3 });
    expect([Array.from(centres), Array.from(counts), distortion]).toEqual([[0, 1, 2, 5, 9], [3, 1, 1, 2, 1], 0]);
  });

  test('rare values far down the sample are found when the first choice is too uniform', () => {
    const points = new Float32Array(100_000).fill(0.25);
    points.set([0.5, 0.75, 1], 99_990);
    expect(Array.from(kMeans(points, 1, { clusters: 4, seed: 0 }).centres)).toEqual([0.25, 0.5, 0.75, 1]);
  });

  test.each<[string, () => unknown, string]>([
    ['too few points', () => kMeans(Float32Array.of(1, 2, 3), 3, { clusters: 2, seed: 0 }), 'there are 1 points, expected at least 2'],
    ['too few values', () => kMeans(new Float32Array(30).fill(2), 3, { clusters: 2, seed: 0 }), 'the 10 points have only 1 different values, expected at least 2'],
    ['one cluster', () => kMeans(new Float32Array(30), 3, { clusters: 1, seed: 0 }), 'clusters is 1, expected a whole number of at least 2'],
    ['a wrong dimension', () => kMeans(new Float32Array(10), 3, { clusters: 2, seed: 0 }), '10 values are not points of 3 values each'],
    ['not finite', () => kMeans(Float32Array.of(1, NaN, 3), 1, { clusters: 2, seed: 0 }), 'not finite'],
  ])('%s: refused', (_, act, sentence) => expect(act).toThrow(sentence));
});
