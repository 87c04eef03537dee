import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { ImageStatistics } from '../image_statistics';
import { type Encoder, hiddenCells } from '../models/encoder';
import type { Context } from '../nn/context';
import { leavesRowsOut } from '../ops/linear';
import { createHead, type Head, type HeadName } from './heads';
import { lossNames, targetLoss, type LossSpec } from './losses';
import { createTarget, type Target, type TargetSpec } from './targets';

/** Everything but the encoder; the defaults are the paper's. */
export interface SimMIMOptions {
  head?: HeadName;
  target?: TargetSpec;
  loss?: LossSpec;
  /** Count hidden pixels only (prediction) or all pixels (reconstruction). Default true. */
  maskedOnly?: boolean;
  /** Normalisation of the images, needed by targets that are classes. Default: ImageNet's. */
  statistics?: ImageStatistics;
  /** Seed of the head's initial parameters. */
  seed?: number;
}

/**
 * SimMIM (Xie et al., CVPR 2022): hide part of an image behind a mask token, encode, and predict what
 * was hidden. Parameters are the official `encoder.*` and `decoder.0.*`.
 */
export class SimMIM {
  readonly encoder: Encoder;
  readonly decoder: Head;
  readonly target: Target;
  readonly lossSpec: LossSpec;
  readonly maskedOnly: boolean;

  /** Throws `invalid_argument` when head, target and loss do not fit each other or the encoder. */
  constructor(encoder: Encoder, options: SimMIMOptions = {}) {
    this.encoder = encoder;
    const spec = options.target ?? { kind: 'rgb' };
    this.target = createTarget(spec, encoder.imageSize, encoder.inChannels, options.statistics);
    this.lossSpec = options.loss ?? { kind: this.target.classes ? 'cross_entropy' : 'l1' };
    this.maskedOnly = options.maskedOnly ?? true;
    checkLoss(this.lossSpec, spec.kind, this.target.classes);
    checkMaskGrid(encoder, this.target);
    this.decoder = createHead(options.head ?? 'linear', encoder, this.target, options.seed ?? 0);
  }

  /**
   * The loss of a batch: images [B, C, H, W] normalised, mask [B, H/patch, W/patch] with 1 = hidden; `tokens`
   * int32 [B, rows, columns] for token targets.
   */
  loss(images: tf.Tensor, mask: tf.Tensor, ctx: Context, tokens?: tf.Tensor): tf.Scalar {
    const target = this.target.make(images, tokens);
    const pred = this.predict(images, mask, ctx, this.maskedOnly);
    return targetLoss(this.lossSpec, pred, target, this.maskedOnly ? mask : tf.onesLike(mask));
  }

  /** The head's raw output [B, h, w, values * r * r]; with `hiddenOnly` it may be 0 in cells of which nothing is hidden. */
  predict(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context, hiddenOnly = false): tf.Tensor {
    const alone = hiddenOnly && this.decoder.perCell;
    const z = this.encoder.forward(images, mask, ctx, alone);
    ctx.observe?.('z', z);
    const [, h = 0, w = 0] = z.shape;
    return this.decoder.apply(z, ctx, alone && mask && leavesRowsOut() ? hiddenCells(mask, h, w) : null);
  }

  /** The predicted picture [B, C, R, S], at the target's resolution and in the images' normalised scale. */
  reconstruct(images: tf.Tensor, mask: tf.Tensor | null, ctx: Context): tf.Tensor {
    return tf.tidy(() => this.target.picture(this.predict(images, mask, ctx)));
  }
}

function checkLoss(loss: LossSpec, target: string, classes: boolean): void {
  if (!lossNames.includes(loss.kind)) {
    throw new SimmimError('invalid_argument', 'SimMIM', `loss is '${String(loss.kind)}', expected one of ${lossNames.join(', ')}`);
  }
  if (classes !== (loss.kind === 'cross_entropy')) {
    const why = classes ? `has classes, which only cross_entropy compares` : `has colours, which l1, l2 and smooth_l1 compare`;
    throw new SimmimError('invalid_argument', 'SimMIM', `loss ${loss.kind} does not fit target ${target}: it ${why}`);
  }
}

/** Refuses a target whose pixels and the mask's patches have no common cells, before the first step does. */
function checkMaskGrid(encoder: Encoder, target: Target): void {
  const [rows, columns] = [encoder.imageSize[0] / encoder.patchSize, encoder.imageSize[1] / encoder.patchSize];
  const [height, width] = target.resolution;
  if ((height % rows === 0 && width % columns === 0) || (rows % height === 0 && columns % width === 0)) return;
  throw new SimmimError('invalid_argument', 'SimMIM', `a target of ${height}x${width} pixels and a mask of ${rows}x${columns} patches have no common cells: one grid must divide the other`);
}
