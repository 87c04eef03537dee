import * as tf from '@tensorflow/tfjs-core';
import { relativePositionIndex } from '../ops/window_attention';
import { FLOAT32 } from './context';
import type { Init } from './init';
import { Linear } from './layers';
import { Constant, type Parameter } from './module';

/** Rows of a ViT's bias table: one for each offset of the patch grid, then class->patch, patch->class, class->class. */
export function vitBiasRows([h, w]: readonly [number, number]): number {
  return (2 * h - 1) * (2 * w - 1) + 3;
}

/** `relativePositionIndex` of a patch grid with the class token in front: length (h*w + 1)^2. (BEiT's scheme.) */
export function vitPositionIndex(grid: readonly [number, number]): Int32Array {
  const patches = grid[0] * grid[1];
  const tokens = patches + 1;
  const rows = vitBiasRows(grid);
  const inner = relativePositionIndex(grid);
  const index = new Int32Array(tokens * tokens).fill(rows - 3, 0, tokens);
  for (let i = 0; i < patches; i++) {
    index[(i + 1) * tokens] = rows - 2;
    index.set(inner.subarray(i * patches, (i + 1) * patches), (i + 1) * tokens + 1);
  }
  index[0] = rows - 1;
  return index;
}

/** A ViT's relative position bias: table [rows, heads], all zeros at the start. */
export class VitPositionBias {
  readonly relative_position_bias_table: Parameter;
  private readonly index: Constant;
  private readonly tokens: number;

  constructor(grid: readonly [number, number], heads: number, init: Init) {
    this.tokens = grid[0] * grid[1] + 1;
    this.relative_position_bias_table = init.constant([vitBiasRows(grid), heads], 0);
    this.index = new Constant(() => tf.tensor1d(vitPositionIndex(grid), 'int32'));
  }

  /** The bias [heads, L, L], L = patches + 1. */
  apply(): tf.Tensor {
    const flat = tf.gather(this.relative_position_bias_table.value, this.index.value as tf.Tensor1D);
    return tf.transpose(tf.reshape(flat, [this.tokens, this.tokens, -1]), [2, 0, 1]);
  }
}

/**
 * SwinV2's log-spaced offsets for a window of h x w, [(2h-1)(2w-1), 2] row-major: the offset divided by
 * (w - 1) of the pre-trained window if that is > 0, else of the window in use, times 8, then
 * sign(t) log2(|t| + 1) / log2(8). A side of one position has only the offset 0.
 */
export function logSpacedCoordinates([h, w]: readonly [number, number], pretrained = 0): Float32Array {
  const log = (offset: number, side: number): number => {
    const reach = (pretrained > 0 ? pretrained : side) - 1;
    const t = reach > 0 ? (8 * offset) / reach : 0;
    return (Math.sign(t) * Math.log2(Math.abs(t) + 1)) / 3;
  };
  const coordinates = new Float32Array((2 * h - 1) * (2 * w - 1) * 2);
  let at = 0;
  for (let y = 1 - h; y < h; y++) {
    for (let x = 1 - w; x < w; x++) {
      coordinates[at++] = log(y, h);
      coordinates[at++] = log(x, w);
    }
  }
  return coordinates;
}

/** The MLP 2 -> 512 -> heads (ReLU between, no last bias) whose parameters are `cpb_mlp.0.*` and `cpb_mlp.2.weight`. */
export type BiasMlp = readonly [Linear, null, Linear];

/** Builds a `BiasMlp`. */
export function biasMlp(heads: number, init: Init): BiasMlp {
  return [new Linear(2, 512, init), null, new Linear(512, heads, init, { bias: false })];
}

/** SwinV2's continuous position bias 16 * sigmoid(mlp(coordinates)), always computed in f32: [(2h-1)(2w-1), heads], a table like version 1's. */
export function continuousBias(mlp: BiasMlp, coordinates: tf.Tensor): tf.Tensor {
  const hidden = tf.relu(mlp[0].apply(coordinates, FLOAT32));
  return tf.mul(tf.sigmoid(mlp[2].apply(hidden, FLOAT32)), 16);
}
