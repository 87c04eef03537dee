import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { OWN_BACKEND } from '../helpers/devices';
import { family } from './random_family';

type Size = [number, number];

const pictures = (x: tf.Tensor): tf.Tensor4D => x as tf.Tensor4D;
const sumOfSquares = (f: (x: tf.Tensor) => tf.Tensor) => (x: tf.Tensor): tf.Tensor => tf.grad((t) => tf.sum(tf.square(f(t))))(x);

describe('pictures against the cpu backend', () => {
  // Two interpolations of values below 4, three roundings each.
  family('resizing', 2e-6, (d) => {
    const x = d.tensor({ shape: [1 + d.integer(2), d.size(7), d.size(7, 100), d.pick([1, 2, 3, 4, 17])], special: d.chance(0.2) });
    const size: Size = [d.size(9, 50), d.size(9, 120)];
    const corners = d.chance(0.4);
    const centers = !corners && d.chance(0.5);
    const [name, resize] = d.pick([['bilinear', tf.image.resizeBilinear], ['nearest', tf.image.resizeNearestNeighbor]] as const);
    const numeric = x.dtype === 'bool' ? (): tf.Tensor => tf.cast(x.make(), 'int32') : x.make;
    return [`${name} ${x.label} to ${size} corners ${corners} centers ${centers}`, () => resize(pictures(numeric()), size, corners, centers)];
  });

  // The cpu backend returns the bilinear gradient with height and width exchanged and reads past the first picture for the
  // nearest one, so this is one square picture; sums over up to 9 * 9 positions.
  family('gradients of resizing', 2e-5, (d) => {
    const side = d.size(7, 30);
    const x = d.tensor({ shape: [1, side, side, d.pick([1, 3, 9, 17])], dtype: 'float32' });
    const size: Size = [d.size(9), d.size(9, 40)];
    const corners = side > 1 && d.chance(0.4); // the cpu backend loops for ever over one pixel with aligned corners
    const [name, resize] = d.pick([['bilinear', tf.image.resizeBilinear], ['nearest', tf.image.resizeNearestNeighbor]] as const);
    return [`${name} ${x.label} to ${size} corners ${corners}`, () => sumOfSquares((t) => resize(pictures(t), size, corners))(x.make())];
  }, { scale: 'tensor' });

  family('crop and resize', 2e-6, (d) => {
    const batch = 1 + d.integer(3);
    const x = d.tensor({ shape: [batch, d.size(7), d.size(7, 60), d.pick([1, 3, 17])], dtype: d.pick(['float32', 'float32', 'int32'] as const), special: d.chance(0.2) });
    const n = d.size(4, 20);
    const boxes = Array.from({ length: 4 * n }, () => d.pick([0, 1, 0.5, d.integer(100) / 64 - 0.25]));
    const of = Array.from({ length: n }, () => d.integer(batch));
    const size: Size = [d.size(6, 20), d.size(6, 20)];
    const method = d.pick(['bilinear', 'nearest'] as const);
    return [`${method} ${x.label} ${boxes} of ${of} to ${size}`, () => tf.image.cropAndResize(pictures(x.make()), tf.tensor2d(boxes, [n, 4]), tf.tensor1d(of, 'int32'), size, method, 7)];
  });

  // Coordinates in doubles on both sides; the values are weighted once more in double.
  family('projective transforms', 2e-6, (d) => {
    const x = d.tensor({ shape: [1, 1 + d.size(6, 40), 1 + d.size(6, 40), d.pick([1, 3, 9])], dtype: 'float32', special: d.chance(0.2) });
    const t = [1, 0, 0, 0, 1, 0, 0, 0].map((v) => v + (d.chance(0.6) ? d.pick([0, 0.5, -0.25, 1, -1, d.integer(64) / 37]) : 0));
    for (const i of [6, 7]) t[i] = (t[i] as number) / 16;
    const interpolation = d.pick(['nearest', 'bilinear'] as const);
    const mode = d.pick(['constant', 'reflect', 'wrap', 'nearest'] as const);
    const size = d.keep ? ([d.size(6), d.size(6)] as Size) : undefined;
    return [`${interpolation} ${mode} ${x.label} ${t} to ${size}`, () => tf.image.transform(pictures(x.make()), tf.tensor2d(t, [1, 8]), interpolation, mode, 0.5, size)];
  });

  family('rotation and reflection', 0, (d) => {
    const x = d.tensor({ shape: [1 + d.integer(2), d.size(6, 40), d.size(6, 40), d.pick([1, 3, 4])], dtype: d.pick(['float32', 'float32', 'int32'] as const) });
    const angle = d.pick([0, Math.PI / 2, Math.PI, 0.1, -1.3, d.integer(100) / 17]);
    const center = d.pick([0.5, 0, [0.25, 0.75] as Size]);
    const fill = (x.shape[3] as number) >= 3 && d.chance(0.4) ? ([1, 2, 3] as [number, number, number]) : 0;
    if (d.chance(0.2)) return [`flip ${x.label}`, () => tf.image.flipLeftRight(pictures(x.make()))];
    return [`${x.label} by ${angle} round ${center} fill ${fill}`, () => tf.image.rotateWithOffset(pictures(x.make()), angle, fill, center)];
  });

  family('non-maximum suppression', 1e-6, (d) => {
    const n = d.size(12, 120);
    const boxes = Array.from({ length: 4 * n }, () => d.integer(10) / 8);
    const scores = Array.from({ length: n }, () => d.pick([d.integer(8) / 8, d.integer(1000) / 1000, NaN]));
    const make = (): [tf.Tensor2D, tf.Tensor1D] => [tf.tensor2d(boxes, [n, 4]), tf.tensor1d(scores)];
    const [most, iou, score, sigma] = [1 + d.integer(n), d.pick([0.5, 0.2, 1, 0]), d.pick([-Infinity, 0.25, 0]), d.pick([0, 0.5, 0.1])];
    const ops: [string, () => tf.Tensor | tf.Tensor[]][] = [
      ['hard', () => tf.image.nonMaxSuppression(...make(), most, iou, score)],
      ['padded', () => Object.values(tf.image.nonMaxSuppressionPadded(...make(), most, iou, score, d.keep))],
      ['soft', () => Object.values(tf.image.nonMaxSuppressionWithScore(...make(), most, iou, score, sigma))],
    ];
    const [name, f] = d.pick(ops);
    return [`${name} of ${n}: ${most} ${iou} ${score} ${sigma}`, f];
  });

  // What a + b c is rounded to decides: equal whole numbers are cut off below or not, two boxes overlap by exactly the threshold.
  family('transforms of equal whole numbers', 0, (d) => {
    const value = 1 + d.integer(250);
    const t = [1, 0, d.integer(1000) / 777, 0, 1, d.integer(1000) / 777, d.integer(100) / 7777, d.integer(100) / 7777];
    const attrs = { interpolation: 'bilinear', fillMode: 'nearest', fillValue: 0, outputShape: [6, 6] };
    return [`${value} by ${t}`, () => tf.engine().runKernel('Transform', { image: tf.fill([1, 6, 6, 2], value, 'int32'), transforms: tf.tensor2d(t, [1, 8]) }, attrs) as tf.Tensor];
  });

  family('suppression at the threshold', 0, (d) => {
    const corner = (): number => Math.fround(d.integer(1000) / 777);
    const [top, left] = [corner() / 1000, corner() / 1000].map(Math.fround) as Size; // far from the other corners, so that sides have more bits than a float
    const boxes = Array.from({ length: 2 }, () => [top, left, 100 * (1 + corner()), 100 * (1 + corner())].map(Math.fround));
    const [a, b] = boxes as [[number, number, number, number], [number, number, number, number]];
    const area = (box: readonly number[]): number => ((box[2] as number) - top) * ((box[3] as number) - left);
    const common = area([top, left, Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
    const threshold = common / (area(a) + area(b) - common);
    return [`${boxes.join(' ')} at ${threshold}`, () => tf.image.nonMaxSuppression(tf.tensor2d(boxes), tf.tensor1d([1, 0.5]), 2, threshold)];
  });
});

describe('pictures where the cpu backend is no measure', () => {
  beforeAll(async () => {
    await tf.setBackend(OWN_BACKEND);
  });

  // Bilinear resizing is linear: the gradient of sum(resize(x) w) is the transpose of resize, so <resize(u), w> = <u, gradient>.
  it('the gradient of resizing is its transpose, for every convention and pictures of any shape', () => {
    for (const [h, w, p, q] of [[3, 5, 7, 2], [8, 4, 3, 9], [1, 6, 4, 4], [5, 5, 5, 5], [2, 3, 1, 1]] as const)
      for (const [corners, centers] of [[false, false], [true, false], [false, true]] as const)
        for (const resize of [tf.image.resizeBilinear, tf.image.resizeNearestNeighbor]) {
          const u = tf.randomUniform<tf.Rank.R4>([2, h, w, 3], -1, 1, 'float32', 5);
          const weights = tf.randomUniform([2, p, q, 3], -1, 1, 'float32', 6);
          const inner = (a: tf.Tensor, b: tf.Tensor): number => tf.sum(tf.mul(a, b)).dataSync()[0] as number;
          const gradient = tf.grad((x) => tf.sum(tf.mul(resize(x as tf.Tensor4D, [p, q], corners, centers), weights)))(u);
          expect(gradient.shape).toEqual(u.shape);
          // at most 2 * 9 * 9 * 3 products below 1
          expect(Math.abs(inner(resize(u, [p, q], corners, centers), weights) - inner(u, gradient))).toBeLessThan(2e-5);
        }
  });

  it('transforms every picture of a batch by its own matrix', () => {
    const x = tf.randomUniform<tf.Rank.R4>([3, 4, 5, 2], 0, 1, 'float32', 3);
    const matrices = tf.tensor2d([[1, 0, 1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, -1, 0, 0], [0.5, 0, 0, 0, 0.5, 0, 0, 0]]);
    const whole = tf.image.transform(x, matrices).arraySync();
    for (let i = 0; i < 3; i++) expect(tf.image.transform(tf.slice(x, i, 1), tf.slice(matrices, i, 1)).arraySync()[0]).toEqual(whole[i]);
  });

  it('says what is wrong', () => {
    const picture = tf.ones<tf.Rank.R4>([1, 2, 2, 1]);
    expect(() => tf.engine().runKernel('ResizeBilinear', { images: tf.cast(picture, 'complex64') }, { size: [2, 2] })).toThrow(/images has dtype complex64 and shape \[1,2,2,1\]/);
    expect(() => tf.image.transform(picture, tf.ones([1, 8]), 'cubic' as 'nearest')).toThrow(/interpolation is 'cubic'/);
  });
});
