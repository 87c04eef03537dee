import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { Encoder } from '../models/encoder';
import { VisionTransformer } from '../models/vit';
import { FLOAT32, rngSites, type Context } from '../nn/context';
import { Init } from '../nn/init';
import { LayerNorm, Linear } from '../nn/layers';
import { inStorage } from '../ops/in_storage';

export interface ClassifierOptions {
  /** Number of classes K. */
  classes: number;
  /** Seed of the head's initial parameters. */
  seed?: number;
}

/** Start of a ViT's head relative to the usual one (official `init_scale`). */
const VIT_HEAD_SCALE = 0.001;

/**
 * An encoder with a linear classification head, as the official code fine-tunes: Swin and SwinV2 average
 * norm(x) over all positions; a ViT without final norm averages its patch tokens and normalises after
 * (`fc_norm`), a ViT with one takes its class token. Parameter names are the official ones of the
 * classifiers: those of the encoder without prefix and without mask token, `fc_norm.*`, `head.*`.
 */
export class Classifier {
  readonly fc_norm: LayerNorm | null;
  readonly head: Linear;
  /** Private, so that the walk over fields meets the encoder's parts under their bare names. */
  readonly #encoder: Encoder;

  /** Throws `invalid_argument` unless `classes` is a whole number of at least 1. */
  constructor(encoder: Encoder, options: ClassifierOptions) {
    const { classes, seed = 0 } = options;
    if (!Number.isInteger(classes) || classes < 1) throw new SimmimError('invalid_argument', 'Classifier', `classes is ${classes}, expected a whole number of at least 1`);
    this.#encoder = encoder;
    for (const [name, part] of Object.entries(encoder)) {
      if (typeof part === 'object' && part !== null && name !== 'mask_token') Object.defineProperty(this, name, { value: part, enumerable: true });
    }
    const init = new Init(seed, 2, rngSites.headInitial);
    const vit = encoder instanceof VisionTransformer ? encoder : null;
    this.fc_norm = vit && !vit.config.finalNorm ? new LayerNorm(encoder.channels, vit.config.layerNormEps, init) : null;
    this.head = new Linear(encoder.channels, classes, init, { scale: vit ? VIT_HEAD_SCALE : 1 });
  }

  get encoder(): Encoder {
    return this.#encoder;
  }

  get classes(): number {
    return this.head.weight.shape[0] as number;
  }

  /** The pooled features [B, C] of images [B, Cin, H, W]. */
  features(images: tf.Tensor, ctx: Context): tf.Tensor {
    const encoder = this.#encoder;
    if (encoder instanceof VisionTransformer && encoder.config.finalNorm) {
      const tokens = encoder.tokens(images, null, ctx);
      return tf.reshape(tf.slice(tokens, [0, 0, 0], [-1, 1, -1]), [-1, encoder.channels]);
    }
    const pooled = tf.mean(encoder.forward(images, null, ctx), [1, 2]);
    return this.fc_norm ? this.fc_norm.apply(pooled, FLOAT32) : pooled;
  }

  /** Logits [B, K] of images [B, Cin, H, W]; the head computes in f32 under any policy, as the loss does. */
  logits(images: tf.Tensor, ctx: Context): tf.Tensor {
    return this.head.apply(inStorage(this.features(images, ctx), 'f32'), FLOAT32);
  }

  /** Mean cross-entropy with soft targets [B, K] whose rows sum to one (mixup, cutmix and label smoothing included). */
  loss(images: tf.Tensor, targets: tf.Tensor, ctx: Context): tf.Scalar {
    return softCrossEntropy(this.logits(images, ctx), targets);
  }
}

/** mean over the batch of -sum(targets * log softmax(logits)); both [B, K]. */
export function softCrossEntropy(logits: tf.Tensor, targets: tf.Tensor): tf.Scalar {
  if (logits.shape.join() !== targets.shape.join()) {
    throw new SimmimError('invalid_argument', 'softCrossEntropy', `targets are [${targets.shape.join(', ')}], expected [${logits.shape.join(', ')}] = [B, classes]`);
  }
  return tf.neg(tf.mean(tf.sum(tf.mul(targets, tf.logSoftmax(logits)), 1)));
}

/** One-hot labels smoothed as `(1 - s) onehot + s / K`: int32 [B] -> float32 [B, K]. With {@link softCrossEntropy} this is `(1-s) nll + s mean(-log p)`. */
export function smoothedLabels(labels: tf.Tensor, classes: number, smoothing: number): tf.Tensor {
  return tf.tidy(() => tf.add(tf.mul(tf.cast(tf.oneHot(tf.cast(labels, 'int32'), classes), 'float32'), 1 - smoothing), smoothing / classes));
}
