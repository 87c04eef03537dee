import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, test } from 'vitest';
import '../../ts/backend';
import { featuresInMemory, type FeatureSet } from '../../ts/probe/feature_set';
import { logisticRegression } from '../../ts/probe/logistic';
import { scores } from '../../ts/train/scores';
import { standardisation } from '../../ts/probe/standardise';
import { Rng } from '../../ts/rng';

const [ROWS, CHANNELS, CLASSES] = [90, 4, 3];

/** Overlapping clouds with features of very different means and scales; one feature is constant. */
function clouds(seed: number): FeatureSet {
  const rng = new Rng(seed);
  const labels = Int32Array.from({ length: ROWS }, (_, i) => i % CLASSES);
  const values = Float32Array.from({ length: ROWS * CHANNELS }, (_, i) => {
    const [label, c] = [labels[Math.floor(i / CHANNELS)] as number, i % CHANNELS];
    return c === 3 ? 7 : 10 ** (c - 1) * (100 * c + rng.normal() + (c === label ? 1.2 : 0));
  });
  return featuresInMemory(values, CHANNELS, labels, ['a', 'b', 'c']);
}

/** The same objective in double precision by Newton's method: [W | b] row by row, K * C weights then K biases. */
function newton(set: FeatureSet, l2: number): { optimum: Float64Array; value: number } {
  const { mean, std } = standardisation(set);
  const raw = set.read(0, set.rows);
  const x = (row: number, c: number): number => (c === CHANNELS ? 1 : ((raw[row * CHANNELS + c] as number) - (mean[c] as number)) / (std[c] as number));
  const size = CLASSES * (CHANNELS + 1);
  const at = (k: number, c: number): number => (c === CHANNELS ? CLASSES * CHANNELS + k : k * CHANNELS + c);
  const theta = new Float64Array(size);
  let value = 0;
  for (let round = 0; round < 50; round++) {
    const gradient = new Float64Array(size);
    const hessian = Array.from({ length: size }, () => new Float64Array(size));
    value = 0;
    for (let row = 0; row < set.rows; row++) {
      const logits = Array.from({ length: CLASSES }, (_, k) => Array.from({ length: CHANNELS + 1 }, (_, c) => (theta[at(k, c)] as number) * x(row, c)).reduce((a, b) => a + b));
      const total = logits.reduce((sum, l) => sum + Math.exp(l), 0);
      const p = logits.map((l) => Math.exp(l) / total);
      value -= Math.log(p[set.labels[row] as number] as number) / set.rows;
      for (let k = 0; k < CLASSES; k++) {
        for (let c = 0; c <= CHANNELS; c++) {
          gradient[at(k, c)] = (gradient[at(k, c)] as number) + (((p[k] as number) - (set.labels[row] === k ? 1 : 0)) * x(row, c)) / set.rows;
          for (let j = 0; j < CLASSES; j++) for (let d = 0; d <= CHANNELS; d++) {
            const line = hessian[at(k, c)] as Float64Array;
            line[at(j, d)] = (line[at(j, d)] as number) + ((p[k] as number) * ((k === j ? 1 : 0) - (p[j] as number)) * x(row, c) * x(row, d)) / set.rows;
          }
        }
      }
    }
    for (let i = 0; i < size; i++) {
      const weight = i < CLASSES * CHANNELS;
      if (weight) value += (l2 / 2) * (theta[i] as number) ** 2;
      gradient[i] = (gradient[i] as number) + (weight ? l2 * (theta[i] as number) : 0);
      (hessian[i] as Float64Array)[i] = ((hessian[i] as Float64Array)[i] as number) + (weight ? l2 : 1e-9); // all biases may shift together
    }
    const step = solve(hessian, gradient);
    step.forEach((s, i) => (theta[i] = (theta[i] as number) - s));
  }
  return { optimum: theta, value };
}

function solve(matrix: Float64Array[], right: Float64Array): Float64Array {
  const n = right.length;
  const m = matrix.map((row, i) => [...row, right[i] as number]);
  for (let p = 0; p < n; p++) {
    const best = Array.from({ length: n - p }, (_, i) => p + i).reduce((a, b) => (Math.abs(m[b]?.[p] ?? 0) > Math.abs(m[a]?.[p] ?? 0) ? b : a));
    [m[p], m[best]] = [m[best] as number[], m[p] as number[]];
    for (let row = 0; row < n; row++) {
      if (row === p) continue;
      const factor = (m[row]?.[p] ?? 0) / (m[p]?.[p] ?? 1);
      for (let c = p; c <= n; c++) (m[row] as number[])[c] = (m[row]?.[c] ?? 0) - factor * (m[p]?.[c] ?? 0);
    }
  }
  return Float64Array.from(m, (row, i) => (row[n] as number) / (row[i] as number));
}

describe.each(['cpu', 'simmim-cpu'])('on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
  });

  test.each([1e-4, 1e-2])('is the optimum of the float64 objective for l2 %s', (l2) => {
    const train = clouds(4);
    const { optimum, value } = newton(train, l2);
    const before = tf.memory().numTensors;
    const { weight, bias, fit, logits } = logisticRegression(train, { l2, gradientNorm: 1e-6 });
    expect(fit.converged).toBe(true);
    // A value above the optimum by at most |gradient|^2 / (2 l2), and weights within |gradient| / l2 of it; float32 products add 1e-6 of noise to the gradient.
    expect(Math.abs(fit.value - value)).toBeLessThanOrEqual(2e-6 ** 2 / (2 * l2) + 1e-6);
    for (let k = 0; k < CLASSES; k++) {
      for (let c = 0; c < CHANNELS; c++) expect(Math.abs((weight[k * CHANNELS + c] as number) - (optimum[k * CHANNELS + c] as number))).toBeLessThanOrEqual(2e-6 / l2);
    }
    const biasAt = (k: number): number => (optimum[CLASSES * CHANNELS + k] as number) - (optimum[CLASSES * CHANNELS] as number);
    for (let k = 0; k < CLASSES; k++) expect((bias[k] as number) - (bias[0] as number)).toBeCloseTo(biasAt(k), 2);
    expect(scores(logits(train), train.labels, CLASSES).top1).toBeGreaterThan(55);
    expect(tf.memory().numTensors).toBe(before);
  });
});

test('constant features count nothing, and bad arguments are refused', () => {
  expect(standardisation(clouds(1)).std[3]).toBe(1);
  const set = clouds(1);
  expect(() => logisticRegression({ ...set, classes: ['a'] })).toThrow(/logistic: the features have 1 classes, expected at least 2/);
  expect(() => logisticRegression(set, { l2: 0 })).toThrow(/l2 is 0, expected above 0/);
  expect(() => featuresInMemory(new Float32Array(7), 2, new Int32Array(3), [])).toThrow(/values has 7 numbers, expected 6/);
});
