import type * as tf from '@tensorflow/tfjs-core';
import { drawMixes, mixImages, mixTargets, mixup, type Batch, type Mixup } from '../data';
import { SimmimError } from '../errors';
import type { Context } from '../nn/context';
import type { Classifier } from '../simmim';
import type { FinetuneRecipe } from './finetune_recipe';
import type { HostBatch } from './step';
import type { TrainingTask } from './trainer';

/** Fine-tuning: a batch is its pictures, mixed with one another, and the soft labels [B, K] that this makes. */
export class ClassifyTask implements TrainingTask {
  private readonly mixing: Mixup;

  constructor(private readonly model: Pick<Classifier, 'classes' | 'loss'>, augment: FinetuneRecipe['augment'], private readonly seed: number) {
    this.mixing = mixup({
      classes: model.classes, mixupAlpha: augment.mixup, cutmixAlpha: augment.cutmix, probability: augment.mixProbability, switchProbability: augment.switchProbability,
      mode: augment.mixMode, labelSmoothing: augment.labelSmoothing,
    });
  }

  inputs({ images, labels, epoch, step }: Batch, imageShape: readonly number[]): HostBatch {
    if (!labels) throw new SimmimError('internal', 'finetune', 'the batch has no labels');
    const [, height = 0, width = 0] = imageShape;
    const mixes = drawMixes(this.mixing, labels.length, height, width, this.seed, epoch, step);
    if (mixes.some(({ lambda, box }) => box !== null || lambda < 1)) mixImages(images, mixes, height, width);
    return {
      images: { shape: [labels.length, ...imageShape], dtype: 'float32', values: images },
      targets: { shape: [labels.length, this.mixing.classes], dtype: 'float32', values: mixTargets(labels, mixes, this.mixing) },
    };
  }

  loss({ images, targets }: Readonly<Record<string, tf.Tensor>>, ctx: Context): tf.Scalar {
    return this.model.loss(images as tf.Tensor, targets as tf.Tensor, ctx);
  }
}
