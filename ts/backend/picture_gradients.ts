import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';

/**
 * Gradients of operations on pictures that tfjs-core has none for. Each result is a weighted sum of a few pixels of the
 * picture; which ones does not depend on the channel, so they are listed on the host, and the gradient is one gather, one
 * product and one scatter over all channels.
 */

type Shape = [batch: number, height: number, width: number, channels: number];

/** y[to] += weight x[from] for pixels of x and y, numbered over the batch. */
class Samples {
  readonly from: number[] = [];
  readonly to: number[] = [];
  readonly weight: number[] = [];
  constructor(
    private readonly shape: Shape,
    private readonly picture: number,
  ) {}

  /** Ignores what lies outside the picture, or weighs nothing. */
  add(y: number, x: number, to: number, weight: number): void {
    const [, height, width] = this.shape;
    if (y < 0 || y >= height || x < 0 || x >= width || weight === 0) return;
    this.from.push((this.picture * height + y) * width + x);
    this.to.push(to);
    this.weight.push(weight);
  }

  /** The four neighbours of a position, or the nearest pixel. */
  addInterpolated(y: number, x: number, to: number, nearest: boolean): void {
    if (nearest) return this.add(Math.round(y), Math.round(x), to, 1);
    const [top, left] = [Math.floor(y), Math.floor(x)];
    const [down, right] = [y - top, x - left];
    this.add(top, left, to, (1 - down) * (1 - right));
    this.add(top, left + 1, to, (1 - down) * right);
    this.add(top + 1, left, to, down * (1 - right));
    this.add(top + 1, left + 1, to, down * right);
  }
}

/** The gradient of the picture from that of the result, whose pixels `samples` number in all pictures together. */
function scattered(dy: tf.Tensor, shape: Shape, samples: Samples[]): tf.Tensor {
  const channels = shape[3];
  const all = (of: 'from' | 'to' | 'weight'): number[] => samples.flatMap((s) => s[of]);
  const from = all('from');
  if (from.length === 0) return tf.zeros(shape);
  const rows = tf.gather(tf.reshape(dy, [-1, channels]), tf.tensor1d(all('to'), 'int32'));
  const sum = tf.unsortedSegmentSum(tf.mul(rows, tf.tensor2d(all('weight'), [from.length, 1])), tf.tensor1d(from, 'int32'), shape[0] * shape[1] * shape[2]);
  return tf.reshape(sum, shape);
}

function cropSamples(shape: Shape, boxes: ArrayLike<number>, of: ArrayLike<number>, attrs: tf.NamedAttrMap): Samples[] {
  const { method, cropSize } = attrs as { method: string; cropSize: [number, number] };
  const [rows, columns] = cropSize;
  const [, height, width] = shape;
  const place = (low: number, high: number, i: number, count: number, size: number): number => (count > 1 ? low * (size - 1) + (i * (high - low) * (size - 1)) / (count - 1) : 0.5 * (low + high) * (size - 1));
  return Array.from(of, (picture, b) => {
    const samples = new Samples(shape, picture);
    const [y1, x1, y2, x2] = Array.from({ length: 4 }, (_, i) => boxes[4 * b + i]) as [number, number, number, number];
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) {
        const [y, x] = [place(y1, y2, i, rows, height), place(x1, x2, j, columns, width)];
        if (y >= 0 && y <= height - 1 && x >= 0 && x <= width - 1) samples.addInterpolated(y, x, (b * rows + i) * columns + j, method === 'nearest');
      }
    return samples;
  });
}

/** Where a coordinate outside a line of n pixels reads, as tf.image.transform has it. */
const FILL_MODES: Record<string, (at: number, n: number) => number> = {
  constant: (at) => at,
  nearest: (at, n) => clamp(at, n),
  wrap: (at, n) => {
    if (at >= 0 && at <= n - 1) return at;
    if (n <= 1) return 0;
    return clamp(at < 0 ? at + n * (Math.trunc(-at / (n - 1)) + 1) : at - n * Math.trunc(at / (n - 1)), n);
  },
  reflect: (at, n) => {
    if (at >= 0 && at <= n - 1) return at;
    if (n <= 1) return 0;
    const there = at - 2 * n * Math.trunc(at / (2 * n));
    if (at < 0) return clamp(there < -n ? there + 2 * n : -there - 1, n);
    return clamp(there >= n ? 2 * n - there - 1 : there, n);
  },
};
const clamp = (at: number, n: number): number => Math.max(0, Math.min(at, n - 1));

function transformSamples(shape: Shape, [rows, columns]: [number, number], matrices: ArrayLike<number>, attrs: tf.NamedAttrMap): Samples[] {
  const [batch, height, width] = shape;
  const mode = FILL_MODES[attrs.fillMode as string] as (at: number, n: number) => number;
  return Array.from({ length: batch }, (_, b) => {
    const samples = new Samples(shape, b);
    const m = (i: number): number => matrices[matrices.length > 8 ? 8 * b + i : i] as number;
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) {
        const projection = m(6) * j + m(7) * i + 1;
        if (projection === 0) continue;
        const [x, y] = [(m(0) * j + m(1) * i + m(2)) / projection, (m(3) * j + m(4) * i + m(5)) / projection];
        samples.addInterpolated(mode(y, height), mode(x, width), (b * rows + i) * columns + j, attrs.interpolation === 'nearest');
      }
    return samples;
  });
}

function rotationSamples(shape: Shape, attrs: tf.NamedAttrMap): Samples[] {
  const [batch, height, width] = shape;
  const [centerX, centerY] = tf.backend_util.getImageCenter(attrs.center as number, height, width);
  const [sine, cosine] = [Math.sin(attrs.radians as number), Math.cos(attrs.radians as number)];
  return Array.from({ length: batch }, (_, b) => {
    const samples = new Samples(shape, b);
    for (let i = 0; i < height; i++)
      for (let j = 0; j < width; j++) {
        const [x, y] = [(j - centerX) * cosine - (i - centerY) * sine, (j - centerX) * sine + (i - centerY) * cosine];
        samples.addInterpolated(y + centerY, x + centerX, (b * height + i) * width + j, true);
      }
    return samples;
  });
}

function noGradient(op: string, input: string): () => tf.Tensor {
  return () => {
    throw new SimmimError('unsupported', op, `has no gradient for ${input}, only for the picture`);
  };
}

export const PICTURE_GRADIENTS: tf.GradConfig[] = [
  {
    kernelName: 'CropAndResize',
    inputsToSave: ['image', 'boxes', 'boxInd'],
    gradFunc: (dy, [image, boxes, boxInd], attrs) => ({
      image: () => scattered(dy as tf.Tensor, image?.shape as Shape, cropSamples(image?.shape as Shape, (boxes as tf.Tensor).dataSync(), (boxInd as tf.Tensor).dataSync(), attrs)),
      boxes: noGradient('CropAndResize', 'boxes'),
      boxInd: noGradient('CropAndResize', 'boxInd'),
    }),
  },
  {
    kernelName: 'Transform',
    inputsToSave: ['image', 'transforms'],
    gradFunc: (dy, [image, transforms], attrs) => ({
      image: () => scattered(dy as tf.Tensor, image?.shape as Shape, transformSamples(image?.shape as Shape, (dy as tf.Tensor).shape.slice(1, 3) as [number, number], (transforms as tf.Tensor).dataSync(), attrs)),
      transforms: noGradient('Transform', 'transforms'),
    }),
  },
  {
    kernelName: 'RotateWithOffset',
    gradFunc: (dy, _saved, attrs) => ({ image: () => scattered(dy as tf.Tensor, (dy as tf.Tensor).shape as Shape, rotationSamples((dy as tf.Tensor).shape as Shape, attrs)) }),
  },
  { kernelName: 'FlipLeftRight', gradFunc: (dy) => ({ image: () => tf.reverse(dy as tf.Tensor, 2) }) },
];
