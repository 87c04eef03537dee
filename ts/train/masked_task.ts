import * as tf from '@tensorflow/tfjs-core';
import type { Batch } from '../data/types';
import type { Context } from '../nn/context';
import type { Clock, Masking, Target } from '../simmim';
import type { HostBatch } from './step';
import type { TrainingTask } from './trainer';

/** What pre-training asks of a model. */
export interface MaskedModel {
  /** images [B, C, H, W], mask [B, H/patch, W/patch] float32, 1 = hidden -> the loss. */
  loss(images: tf.Tensor, mask: tf.Tensor, ctx: Context): tf.Scalar;
  /** What it predicts; absent = the images. */
  readonly target?: Target;
}

/** Masks of a batch, a function of the clock: drawn on the device where it can be, else on the host. */
export type MaskSource = Pick<Masking, 'drawsOnDevice' | 'onDevice' | 'onHost' | 'shape'>;

/** Masks outside of training: [B, rows, columns], from a clock that is known on both sides. */
export function drawMasks(masks: MaskSource, clock: tf.Tensor, time: Clock, batch: number): tf.Tensor {
  return masks.drawsOnDevice ? masks.onDevice(clock, batch) : tf.tensor(masks.onHost(time, batch), masks.shape(batch), 'float32');
}

/** Pre-training: a batch is its images, and its masks where they are drawn on the host. */
export class MaskedTask implements TrainingTask {
  constructor(private readonly model: MaskedModel, private readonly masks: MaskSource, private readonly seed: number) {}

  inputs(batch: Batch, imageShape: readonly number[], update: number, micro: number): HostBatch {
    const count = batch.files.length;
    const images = { shape: [count, ...imageShape], dtype: 'float32', values: batch.images } as const;
    if (this.masks.drawsOnDevice) return { images };
    const values = this.masks.onHost({ seed: this.seed, step: update, micro }, count);
    return { images, mask: { shape: this.masks.shape(count), dtype: 'float32', values } };
  }

  loss({ images, mask }: Readonly<Record<string, tf.Tensor>>, ctx: Context): tf.Scalar {
    const batch = images as tf.Tensor;
    return this.model.loss(batch, mask ?? this.masks.onDevice(ctx.clock, batch.shape[0] as number), ctx);
  }
}
