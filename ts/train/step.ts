import * as tf from '@tensorflow/tfjs-core';
import { backward } from '../autodiff';
import type { Context } from '../nn/context';
import type { Target } from '../simmim';
import type { FlatBuffers } from './flat_buffers';
import type { StepState } from './step_state';

/** What a training step asks of a model. */
export interface MaskedModel {
  /** images [B, C, H, W], mask [B, H/patch, W/patch] float32, 1 = hidden -> the loss. */
  loss(images: tf.Tensor, mask: tf.Tensor, ctx: Context): tf.Scalar;
  /** What it predicts; absent = the images. */
  readonly target?: Target;
}

/** Makes the masks of a batch from the clock; called once for each micro step. */
export type MaskSource = (clock: tf.Tensor, batch: number) => tf.Tensor;

/** What stays the same from step to step. */
export interface StepOptions {
  /** Micro steps of one update: the gradient is the mean over them. */
  accumulation: number;
  /** Largest gradient norm; null = no clipping. */
  clip: number | null;
  /** Official quirk: clip the running sum after every micro step. */
  clipEveryMicroStep: boolean;
  betas: readonly [number, number];
  eps: number;
  weightDecay: number;
}

/** What one micro step or update measured. */
export interface UpdateResult {
  /** False when the norm or a loss was not finite, so that nothing was changed. */
  applied: boolean;
  /** Norm of the whole gradient before clipping (with the quirk: of the last micro step). */
  gradientNorm: number;
}

/**
 * The arithmetic of training: forward, backward and accumulate for each micro batch, then norm, clip and
 * AdamW. It knows nothing of files, epochs or schedules.
 */
export class TrainingStep {
  private losses: number[] = [];
  private microNorm: number | null = null;
  private readonly variables: tf.Variable[];

  constructor(
    private readonly model: MaskedModel,
    private readonly buffers: FlatBuffers,
    private readonly state: StepState,
    private readonly options: StepOptions,
  ) {
    this.variables = buffers.variables;
  }

  /** Starts an update afresh: gradients of an unfinished one are forgotten. */
  begin(): void {
    this.losses = [];
    this.microNorm = null;
    this.buffers.zeroGradients();
  }

  /**
   * Forward and backward of one micro batch: images [B, C, H, W]. Returns its loss (not divided by the
   * accumulation) and, with `clipEveryMicroStep`, the norm of the gradient summed so far.
   */
  micro(images: tf.Tensor, masks: MaskSource): { loss: number; gradientNorm: number | null } {
    const { accumulation, clip } = this.options;
    const ctx: Context = { training: true, precision: 'f32', clock: this.state.clock };
    const mask = masks(this.state.clock, images.shape[0] as number);
    const loss = backward(() => {
      const whole = this.model.loss(images, mask, ctx);
      return accumulation === 1 ? whole : (tf.div(whole, accumulation) as tf.Scalar);
    }, this.variables, (index, gradient) => this.buffers.accumulate(index, gradient));
    const value = (loss.dataSync()[0] as number) * accumulation;
    tf.dispose([loss, mask]);
    this.losses.push(value);
    if (!this.options.clipEveryMicroStep) return { loss: value, gradientNorm: null };
    const norm = this.buffers.gradientNorm();
    const gradientNorm = norm.dataSync()[0] as number;
    if (clip !== null && accumulation > 1) this.buffers.clipGradients(norm, clip);
    norm.dispose();
    this.microNorm = gradientNorm;
    return { loss: value, gradientNorm };
  }

  /**
   * Updates the weights from the micro steps since `begin`, as AdamW's update number `t` (from 1) with this
   * learning rate. A loss or norm that is not finite changes nothing. The gradients stay for inspection
   * until the next `begin`.
   */
  apply(lr: number, t: number): UpdateResult {
    const { clip, betas, eps, weightDecay, clipEveryMicroStep, accumulation } = this.options;
    const norm = this.buffers.gradientNorm();
    const gradientNorm = norm.dataSync()[0] as number;
    const finite = Number.isFinite(gradientNorm) && this.losses.every((loss) => Number.isFinite(loss));
    if (finite) {
      const clipped = clipEveryMicroStep && accumulation > 1;
      this.state.writeHyper({ lr, weightDecay, beta1: betas[0], beta2: betas[1], eps, t, clip: clipped ? 0 : (clip ?? 0) });
      this.buffers.update(norm, this.state.hyper);
    }
    norm.dispose();
    return { applied: finite, gradientNorm: this.microNorm ?? gradientNorm };
  }
}
