import * as tf from '@tensorflow/tfjs-core';
import { drawMixes, mixTargets, mixup, mixWeights, type Batch, type Mix, type Mixup, type MixWeights } from '../data';
import { SimmimError } from '../errors';
import type { Context } from '../nn/context';
import type { Classifier } from '../simmim';
import type { FinetuneRecipe } from './finetune_recipe';
import type { HostBatch, HostTensor } from './step';
import type { TrainingTask } from './trainer';

/** Fine-tuning: a batch is its pictures, how they are mixed with one another, and the soft labels [B, K] that this makes. */
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
    return {
      ...(this.mixing.mixupAlpha > 0 || this.mixing.cutmixAlpha > 0 ? mixInputs(mixes, height, width) : {}),
      images: { shape: [labels.length, ...imageShape], dtype: 'float32', values: images },
      targets: { shape: [labels.length, this.mixing.classes], dtype: 'float32', values: mixTargets(labels, mixes, this.mixing) },
    };
  }

  /** Mixing is a part of the recorded step, so that the event loop does not wait for it. */
  prepare(inputs: Readonly<Record<string, tf.Tensor>>): Readonly<Record<string, tf.Tensor>> {
    const { images, own, partner, rows, columns } = inputs as Record<string, tf.Tensor>;
    return images && own && partner && rows && columns ? { ...inputs, images: mixImages(images, { own, partner, rows, columns }) } : inputs;
  }

  loss({ images, targets }: Readonly<Record<string, tf.Tensor>>, ctx: Context): tf.Scalar {
    return this.model.loss(images as tf.Tensor, targets as tf.Tensor, ctx);
  }
}

/** The weights of mixes as inputs that broadcast against pictures [B, 3, H, W]. */
export function mixInputs(mixes: readonly Mix[], height: number, width: number): Record<keyof MixWeights, HostTensor> {
  const { own, partner, rows, columns } = mixWeights(mixes, height, width);
  const input = (values: Float32Array, h: number, w: number): HostTensor => ({ shape: [mixes.length, 1, h, w], dtype: 'float32', values });
  return { own: input(own, 1, 1), partner: input(partner, 1, 1), rows: input(rows, height, 1), columns: input(columns, 1, width) };
}

/** Images [B, 3, H, W] mixed with their reverse: each gets its partner's pixels in its box, and a weighted sum of both elsewhere. */
export function mixImages(images: tf.Tensor, { own, partner, rows, columns }: Record<keyof MixWeights, tf.Tensor>): tf.Tensor {
  return tf.tidy(() => {
    const inside = tf.mul(rows, columns); // [B, 1, H, W]
    const outside = tf.sub(1, inside);
    return tf.add(tf.mul(images, tf.mul(own, outside)), tf.mul(tf.reverse(images, 0), tf.add(tf.mul(partner, outside), inside)));
  });
}
