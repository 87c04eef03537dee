import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { Encoder } from '../models/encoder';
import { SwinBlock, swinPresets, type SwinConfig } from '../models/swin';
import { blockDrops, runBlocks } from '../models/swin_pyramid';
import { rngSites, type Context } from '../nn/context';
import { Init } from '../nn/init';
import { Conv, LayerNorm, Linear } from '../nn/layers';

/** The heads of the paper's Table 2. */
export type HeadName = 'linear' | 'mlp' | 'inverse_swin_tiny' | 'inverse_swin_base';
export const headNames: readonly HeadName[] = ['linear', 'mlp', 'inverse_swin_tiny', 'inverse_swin_base'];

/** What a head has to produce. */
export interface HeadShape {
  /** Values per pixel of the target: channels, or channels * classes. */
  values: number;
  /** [height, width] of the target. */
  resolution: [number, number];
}

/** From encoder output z [B, h, w, C] to [B, h', w', values * r * r], channels in PixelShuffle's order, r = resolution / h'. */
export interface Head {
  /** Whether each cell's prediction follows from that cell of z alone. */
  readonly perCell: boolean;
  /** `counted` [B, h, w]: where it is 0, nobody asks for the prediction, and a head may leave it 0. */
  apply(z: tf.Tensor, ctx: Context, counted?: tf.Tensor | null): tf.Tensor;
}

/** One 1x1 convolution (official decoder; its parameters are `decoder.0.*`). */
class LinearHead implements Head {
  readonly perCell = true;
  readonly 0: Conv;

  constructor(channels: number, outputs: number, init: Init) {
    this[0] = new Conv(channels, outputs, 1, init);
  }

  apply(z: tf.Tensor, ctx: Context, counted: tf.Tensor | null = null): tf.Tensor {
    return this[0].pointwise(z, ctx, { rows: counted });
  }
}

/** Two 1x1 convolutions with GELU between, as wide as the encoder: the width that gives Table 2's 90.9 M. GELU is our assumption. */
class MlpHead implements Head {
  readonly perCell = true;
  readonly 0: Conv;
  readonly 2: Conv;

  constructor(channels: number, outputs: number, init: Init) {
    this[0] = new Conv(channels, channels, 1, init);
    this[2] = new Conv(channels, outputs, 1, init);
  }

  apply(z: tf.Tensor, ctx: Context, counted: tf.Tensor | null = null): tf.Tensor {
    return this[2].pointwise(this[0].pointwise(z, ctx, { activation: 'gelu' }), ctx, { rows: counted });
  }
}

/** factor x factor pixels out of one: Linear(C -> factor^2 * out, no bias), laid out in space, then LayerNorm(out). */
class PatchExpand {
  readonly expand: Linear;
  readonly norm: LayerNorm;

  constructor(
    channels: number,
    private readonly outputs: number,
    private readonly factor: number,
    eps: number,
    init: Init,
  ) {
    this.expand = new Linear(channels, factor * factor * outputs, init, { bias: false });
    this.norm = new LayerNorm(outputs, eps, init);
  }

  /** [B, h, w, C] -> [B, h * factor, w * factor, out]. */
  apply(x: tf.Tensor, ctx: Context): tf.Tensor {
    const [batch = 0, h = 0, w = 0] = x.shape;
    const f = this.factor;
    const cells = tf.reshape(this.expand.apply(x, ctx), [batch, h, w, f, f, this.outputs]);
    return this.norm.apply(tf.reshape(tf.transpose(cells, [0, 1, 3, 2, 4, 5]), [batch, h * f, w * f, this.outputs]), ctx);
  }
}

/**
 * A Swin run backwards: depths and widths mirrored, patch expanding in place of merging, then 4 x 4 pixels per
 * position. The paper gives no definition; this wiring (Swin-Unet's) is ours, found by matching all
 * of Table 2's parameter counts.
 */
class InverseSwinHead implements Head {
  readonly perCell = false;
  readonly proj: Linear;
  readonly layers: { blocks: SwinBlock[]; upsample: PatchExpand | null }[];
  readonly norm: LayerNorm;
  readonly up: PatchExpand;
  readonly output: Linear;

  constructor(channels: number, grid: [number, number], values: number, config: SwinConfig, init: Init) {
    const eps = config.layerNormEps;
    const stages = config.depths.length;
    const top = config.embedDim * 2 ** (stages - 1);
    this.proj = new Linear(channels, top, init);
    let index = 0;
    this.layers = [...config.depths].reverse().map((depth, i) => {
      const width = top / 2 ** i;
      const resolution: [number, number] = [grid[0] * 2 ** i, grid[1] * 2 ** i];
      const heads = config.heads[stages - 1 - i] as number;
      const blocks = Array.from({ length: depth }, (_, j) => {
        const [dropPath, second] = blockDrops([], index++, rngSites.headDropPath);
        return new SwinBlock({ resolution, channels: width, heads, windowSize: config.windowSize, shifted: j % 2 === 1, dropPath }, config, init, second);
      });
      return { blocks, upsample: i + 1 < stages ? new PatchExpand(width, width / 2, 2, eps, init) : null };
    });
    this.norm = new LayerNorm(config.embedDim, eps, init);
    this.up = new PatchExpand(config.embedDim, config.embedDim, config.patchSize, eps, init);
    this.output = new Linear(config.embedDim, values, init);
  }

  apply(z: tf.Tensor, ctx: Context): tf.Tensor {
    let x = this.proj.apply(z, ctx);
    this.layers.forEach(({ blocks, upsample }, i) => {
      x = runBlocks(x, blocks, `decoder.layers.${i}.blocks`, false, ctx);
      if (upsample) x = upsample.apply(x, ctx);
    });
    return this.output.apply(this.up.apply(this.norm.apply(x, ctx), ctx), ctx);
  }
}

function refuse(message: string): never {
  throw new SimmimError('invalid_argument', 'head', message);
}

/**
 * Builds a head for an encoder. Throws `invalid_argument` when the target's pixels are not a whole number per
 * output position, or, for inverse Swin heads, when the encoder's stride is not 32 or the target not at full size.
 */
export function createHead(name: HeadName, encoder: Encoder, shape: HeadShape, seed: number): Head {
  const { stride, channels, imageSize } = encoder;
  const grid: [number, number] = [imageSize[0] / stride, imageSize[1] / stride];
  const [height, width] = shape.resolution;
  const init = new Init(seed, 2, rngSites.headInitial);
  if (name === 'linear' || name === 'mlp') {
    const r = height / grid[0];
    if (!Number.isInteger(r) || r * grid[1] !== width) {
      refuse(`a target of ${height}x${width} is not a whole number of pixels for each of the ${grid[0]}x${grid[1]} outputs of ${encoder.name}`);
    }
    const outputs = shape.values * r * r;
    return name === 'linear' ? new LinearHead(channels, outputs, init) : new MlpHead(channels, outputs, init);
  }
  const config = name === 'inverse_swin_tiny' ? swinPresets.swin_tiny : name === 'inverse_swin_base' ? swinPresets.swin_base : undefined;
  if (!config) return refuse(`unknown head '${String(name)}', expected one of ${headNames.join(', ')}`);
  if (stride !== 32) refuse(`${name} enlarges 32 times, but ${encoder.name} has stride ${stride}`);
  if (height !== imageSize[0] || width !== imageSize[1]) {
    refuse(`${name} predicts at full size ${imageSize[0]}x${imageSize[1]}, but the target is ${height}x${width}`);
  }
  return new InverseSwinHead(channels, grid, shape.values, config, init);
}
