import { expect, test } from 'vitest';
import { constantLoss } from '../../ts/train/evaluate';

// One image [1, 1, 2, 4] under a mask of 2 x 2 patches: left patch visible (mean 2), right patch hidden.
const images = Float32Array.of(1, 2, 5, 6, 2, 3, 7, -8);
const shape = [1, 1, 2, 4] as const;
const mask = Float32Array.of(0, 1);

test('the constant predictor is the mean of the visible pixels, judged on the hidden ones', () => {
  const differences = [3, 4, 5, -10];
  const mean = (f: (d: number) => number): number => differences.reduce((sum, d) => sum + f(d), 0) / 4;
  expect(constantLoss(images, shape, mask, [1, 2], { kind: 'l1', beta: 1 })).toBeCloseTo(mean(Math.abs), 12);
  expect(constantLoss(images, shape, mask, [1, 2], { kind: 'l2', beta: 1 })).toBeCloseTo(mean((d) => d * d), 12);
  expect(constantLoss(images, shape, mask, [1, 2], { kind: 'smooth_l1', beta: 4 })).toBeCloseTo((9 / 8 + 2 + 3 + 8) / 4, 12);
});

test('each image and channel has its own constant; without hidden pixels the loss is 0, without visible ones the constant is 0', () => {
  const two = Float32Array.of(1, 3, 10, 14); // [2, 1, 1, 2], second pixel hidden
  expect(constantLoss(two, [2, 1, 1, 2], Float32Array.of(0, 1, 0, 1), [1, 2], { kind: 'l1', beta: 1 })).toBe(3);
  expect(constantLoss(two, [1, 2, 1, 2], Float32Array.of(0, 1), [1, 2], { kind: 'l1', beta: 1 })).toBe(3);
  expect(constantLoss(two, [2, 1, 1, 2], Float32Array.of(0, 0, 0, 0), [1, 2], { kind: 'l1', beta: 1 })).toBe(0);
  expect(constantLoss(two, [2, 1, 1, 2], Float32Array.of(1, 1, 1, 1), [1, 2], { kind: 'l1', beta: 1 })).toBe(7);
});
