import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import type { Batch, BatchSource, SourceState } from '../../ts/data/types';
import { namedParameters, Parameter } from '../../ts/nn/module';
import { linear, maskTokens, maskedLoss, patchEmbed } from '../../ts/ops';
import { Rng } from '../../ts/rng';
import type { MaskedModel } from '../../ts/train/step';

/** The smallest model with everything that a step needs: embedding, mask token, GELU, head. Images [B, 3, 8, 8], patch 4. */
export class ToyModel implements MaskedModel {
  readonly embed = weight(1, [6, 3, 4, 4]);
  readonly bias = weight(2, [6]);
  readonly mask_token = weight(3, [1, 1, 6]);
  readonly hidden = weight(4, [6, 6]);
  readonly head = weight(5, [48, 6]);
  /** Multiplies the loss: NaN in the update numbers listed. */
  poison: (update: number) => number = () => 1;

  loss(images: tf.Tensor, mask: tf.Tensor, ctx: { clock: tf.Tensor }): tf.Scalar {
    const [batch = 0] = images.shape;
    const x = tf.reshape(patchEmbed(images as tf.Tensor4D, this.embed.value, this.bias.value), [batch, 4, 6]);
    const tokens = maskTokens(x, tf.reshape(this.mask_token.value, [6]), tf.reshape(mask, [batch, 4]));
    const h = linear(tokens, this.hidden.value, null, { activation: 'gelu', residual: tokens });
    const prediction = tf.reshape(linear(h, this.head.value, null, {}), [batch, 2, 2, 48]);
    const loss = maskedLoss(prediction, images, mask, { kind: 'l1' });
    return tf.mul(loss, this.poison(ctx.clock.dataSync()[1] as number));
  }
}

function weight(seed: number, shape: number[]): Parameter {
  return new Parameter(shape, () => {
    const rng = new Rng(seed);
    return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 0.2 * rng.normal());
  });
}

export function toyParameters(model: ToyModel): Map<string, Parameter> {
  return namedParameters(model);
}

/** Hides two of the four patches, chosen by the clock. */
export function toyMasks(clock: tf.Tensor, batch: number): tf.Tensor {
  const [seed, step, micro] = clock.dataSync();
  const values = new Float32Array(batch * 4);
  for (let b = 0; b < batch; b++) {
    const first = new Rng((seed as number) + b, step, micro).below(4);
    values[b * 4 + first] = 1;
    values[b * 4 + ((first + 1) % 4)] = 1;
  }
  return tf.tensor(values, [batch, 2, 2]);
}

/** Random smooth-ish images, a function of (epoch, step). */
export class ToySource implements BatchSource {
  readonly imageShape = [3, 8, 8] as const;
  readonly classes = [];
  private at: SourceState = { epoch: 0, step: 0, broken: [] };
  closed = false;

  constructor(readonly batchSize = 2, readonly batchesPerEpoch = 5) {}

  next(): Promise<Batch> {
    const { epoch, step } = this.at;
    const rng = new Rng(9, epoch, step);
    const images = Float32Array.from({ length: this.batchSize * 192 }, () => 0.3 * rng.normal() + 1);
    this.at = step + 1 === this.batchesPerEpoch ? { ...this.at, epoch: epoch + 1, step: 0 } : { ...this.at, step: step + 1 };
    const indices = Array.from({ length: this.batchSize }, (_, i) => step * this.batchSize + i);
    return Promise.resolve({ images, indices, files: indices.map((i) => `toy-${i}.png`), epoch, step });
  }
  state(): SourceState {
    return structuredClone(this.at);
  }
  restore(state: SourceState): void {
    this.at = structuredClone(state);
  }
  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}
