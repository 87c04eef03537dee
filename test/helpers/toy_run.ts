import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import type { Batch, BatchSource, LeasedBatch, SourceState } from '../../ts/data/types';
import { namedParameters, Parameter } from '../../ts/nn/module';
import { linear, maskTokens, maskedLoss, patchEmbed } from '../../ts/ops';
import { Rng } from '../../ts/rng';
import type { MaskedModel, MaskSource } from '../../ts/train/masked_task';

/** The smallest model with everything that a step needs: embedding, mask token, GELU, head. Images [B, 3, 8, 8], patch 4. */
export class ToyModel implements MaskedModel {
  readonly embed = weight(1, [6, 3, 4, 4]);
  readonly bias = weight(2, [6]);
  readonly mask_token = weight(3, [1, 1, 6]);
  readonly hidden = weight(4, [6, 6]);
  readonly head = weight(5, [48, 6]);
  loss(images: tf.Tensor, mask: tf.Tensor): tf.Scalar {
    const [batch = 0] = images.shape;
    const x = tf.reshape(patchEmbed(images as tf.Tensor4D, this.embed.value, this.bias.value), [batch, 4, 6]);
    const tokens = maskTokens(x, { token: tf.reshape(this.mask_token.value, [6]), mask: tf.reshape(mask, [batch, 4]) });
    const h = linear(tokens, this.hidden.value, null, { activation: 'gelu', residual: tokens });
    const prediction = tf.reshape(linear(h, this.head.value, null, {}), [batch, 2, 2, 48]);
    return maskedLoss(prediction, images, mask, { kind: 'l1' });
  }
}

function weight(seed: number, shape: number[]): Parameter {
  return new Parameter(shape, () => {
    const rng = new Rng(seed);
    return tf.tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 0.2 * rng.normal()), shape);
  });
}

export function toyParameters(model: ToyModel): Map<string, Parameter> {
  return namedParameters(model);
}

/** Hides two of the four patches, chosen by the clock on the host. */
export const toyMasks: MaskSource = {
  drawsOnDevice: false,
  onDevice: () => {
    throw new Error('drawn on the host');
  },
  onHost: ({ seed, step, micro }, batch) => {
    const values = new Float32Array(batch * 4);
    for (let b = 0; b < batch; b++) {
      const first = new Rng(seed + b, step, micro).below(4);
      values[b * 4 + first] = 1;
      values[b * 4 + ((first + 1) % 4)] = 1;
    }
    return values;
  },
  shape: (batch) => [batch, 2, 2],
};

/** Random smooth-ish images, a function of (epoch, step). */
export class ToySource implements BatchSource {
  readonly imageShape = [3, 8, 8] as const;
  readonly classes = [];
  private at: SourceState = { epoch: 0, step: 0, broken: [] };
  closed = false;
  /** Multiplies the images of the batches taken so far: NaN makes the loss NaN. */
  poison: (taken: number) => number = () => 1;
  private taken = 0;

  constructor(readonly batchSize = 2, readonly batchesPerEpoch = 5) {}

  next(): Promise<Batch> {
    const { epoch, step } = this.at;
    const rng = new Rng(9, epoch, step);
    const factor = this.poison(this.taken++);
    const images = Float32Array.from({ length: this.batchSize * 192 }, () => (0.3 * rng.normal() + 1) * factor);
    this.at = step + 1 === this.batchesPerEpoch ? { ...this.at, epoch: epoch + 1, step: 0 } : { ...this.at, step: step + 1 };
    const indices = Array.from({ length: this.batchSize }, (_, i) => step * this.batchSize + i);
    return Promise.resolve({ images, indices, files: indices.map((i) => `toy-${i}.png`), epoch, step });
  }
  async lease(): Promise<LeasedBatch> {
    return { ...(await this.next()), release: () => undefined };
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
