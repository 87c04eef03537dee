import * as tf from '@tensorflow/tfjs-core';
import type { BatchSource } from '../data/types';
import type { Context } from '../nn/context';
import { constantLoss, type ConstantLossSpec } from './constant_predictor';
import { drawMasks, type MaskSource, type MaskedModel } from './masked_task';

/** Masked loss over a fixed set of pictures. */
export interface MaskedEvaluation {
  loss: number;
  /** The same loss of the best constant predictor: for each image and channel the mean (classes: the frequencies) of its visible pixels. */
  constantLoss: number;
  images: number;
}

/**
 * The mean masked loss over one pass of `source`. Batch i is masked with clock (seed, i, 0, 0), so every call
 * sees the same pictures under the same masks; each image hides equally many cells, so the mean over
 * batches, weighted by their size, is the mean over pixels.
 */
export async function evaluateMasked(model: MaskedModel, masks: MaskSource, source: BatchSource, seed: number, loss: ConstantLossSpec): Promise<MaskedEvaluation> {
  source.restore({ ...source.state(), epoch: 0, step: 0 });
  const sum = { loss: 0, constantLoss: 0, images: 0 };
  for (let i = 0; i < source.batchesPerEpoch; i++) {
    const batch = await source.next();
    const count = batch.files.length;
    const shape: [number, number, number, number] = [count, ...source.imageShape];
    const [value, constant] = tf.tidy(() => {
      const clock = tf.tensor1d(Int32Array.of(seed, i, 0, 0), 'int32');
      const ctx: Context = { training: false, precision: 'f32', clock };
      const images = tf.tensor(batch.images, shape, 'float32');
      const mask = drawMasks(masks, clock, { seed, step: i, micro: 0 }, count);
      const value = model.loss(images, mask, ctx).dataSync()[0] as number;
      return [value, constantOf(model, images, mask, loss)] as const;
    });
    sum.loss += value * count;
    sum.constantLoss += constant * count;
    sum.images += count;
  }
  return { loss: sum.loss / sum.images, constantLoss: sum.constantLoss / sum.images, images: sum.images };
}

/** The constant predictor's loss on what the model has to predict; a model without a target predicts the images. */
function constantOf({ target }: MaskedModel, images: tf.Tensor, mask: tf.Tensor, loss: ConstantLossSpec): number {
  const wanted = target ? target.make(images) : images;
  const shape = wanted.shape as [number, number, number, number];
  const classes = target?.classes ? target.values / shape[1] : 0;
  return constantLoss(wanted.dataSync(), shape, mask.dataSync() as Float32Array, [mask.shape[1] as number, mask.shape[2] as number], loss, classes);
}

export { constantLoss };
