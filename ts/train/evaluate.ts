import * as tf from '@tensorflow/tfjs-core';
import type { BatchSource } from '../data/types';
import type { Context } from '../nn/context';
import type { Recipe } from './recipe';
import type { MaskSource, MaskedModel } from './step';

/** Masked loss over a fixed set of pictures. */
export interface MaskedEvaluation {
  loss: number;
  /** The same loss of the best constant predictor: for each image and channel the mean of its visible pixels. */
  constantLoss: number;
  images: number;
}

/**
 * The mean masked loss over one pass of `source`. Batch i is masked with clock (seed, i, 0, 0), so every call
 * sees the same pictures under the same masks; each image hides equally many cells, so the mean over
 * batches, weighted by their size, is the mean over pixels.
 */
export async function evaluateMasked(model: MaskedModel, masks: MaskSource, source: BatchSource, seed: number, loss: Recipe['loss']): Promise<MaskedEvaluation> {
  source.restore({ ...source.state(), epoch: 0, step: 0 });
  const sum = { loss: 0, constantLoss: 0, images: 0 };
  for (let i = 0; i < source.batchesPerEpoch; i++) {
    const batch = await source.next();
    const count = batch.files.length;
    const shape: [number, number, number, number] = [count, ...source.imageShape];
    let hidden = new Float32Array(0); // not returned: tf.tidy would search a typed array for tensors, element by element
    let grid: readonly number[] = [];
    const value = tf.tidy(() => {
      const clock = tf.tensor1d(Int32Array.of(seed, i, 0, 0), 'int32');
      const ctx: Context = { training: false, precision: 'f32', clock };
      const images = tf.tensor(batch.images, shape, 'float32');
      const mask = masks(clock, count);
      hidden = new Float32Array(mask.dataSync());
      grid = mask.shape;
      return model.loss(images, mask, ctx).dataSync()[0] as number;
    });
    sum.loss += value * count;
    sum.constantLoss += constantLoss(batch.images, shape, hidden, [grid[1] as number, grid[2] as number], loss) * count;
    sum.images += count;
  }
  return { loss: sum.loss / sum.images, constantLoss: sum.constantLoss / sum.images, images: sum.images };
}

/** Loss of predicting, in each image and channel, the mean of the visible pixels everywhere. */
export function constantLoss(images: Float32Array, shape: readonly [number, number, number, number], mask: Float32Array, grid: readonly [number, number], loss: Recipe['loss']): number {
  const [batch, channels, height, width] = shape;
  const plane = height * width;
  const [rows, columns] = [height / grid[0], width / grid[1]];
  const hiddenAt = (b: number, i: number): boolean => mask[(b * grid[0] + Math.floor(Math.floor(i / width) / rows)) * grid[1] + Math.floor((i % width) / columns)] === 1;
  let total = 0;
  let count = 0;
  for (let b = 0; b < batch; b++) {
    const isHidden = Array.from({ length: plane }, (_, i) => hiddenAt(b, i));
    for (let c = 0; c < channels; c++) {
      const values = images.subarray((b * channels + c) * plane, (b * channels + c + 1) * plane);
      const visible = values.filter((_, i) => !isHidden[i]);
      const mean = visible.length > 0 ? visible.reduce((a, x) => a + x, 0) / visible.length : 0;
      for (let i = 0; i < plane; i++) {
        if (!isHidden[i]) continue;
        total += pixelLoss((values[i] as number) - mean, loss);
        count++;
      }
    }
  }
  return count > 0 ? total / count : 0;
}

function pixelLoss(difference: number, { kind, beta }: Recipe['loss']): number {
  const d = Math.abs(difference);
  if (kind === 'l2') return d * d;
  if (kind === 'smooth_l1') return d < beta ? (0.5 * d * d) / beta : d - 0.5 * beta;
  return d;
}
