import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { philox } from '../rng';
import { refuse, requireClock, requireInteger } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'random_mask';

export interface RandomMaskOptions {
  /** Which stream of the generator: one number for each random place of a program. */
  site: number;
  batch: number;
  /** [gh, gw], the grid on which cells are hidden. */
  cells: readonly [number, number];
  /** Cells hidden in each sample. */
  count: number;
  /** Entries of the mask per cell in each direction. */
  repeat: number;
}

/** Hidden cells of one sample at clock (seed, step, micro): the `count` cells with the smallest (key, cell) pairs. */
export function hiddenCells(clock: ArrayLike<number>, sample: number, site: number, total: number, count: number, batch: number): number[] {
  const [seed, step, micro] = [clock[0] as number, clock[1] as number, clock[2] as number];
  const keys = Array.from({ length: total }, (_, cell) => philox(seed, site, step, (micro * batch + sample) * total + cell)[0]);
  const order = keys.map((_, cell) => cell).sort((a, b) => (keys[a] as number) - (keys[b] as number) || a - b);
  return order.slice(0, count);
}

const randomMaskOp = fusedOp<{ clock: tf.Tensor }, RandomMaskOptions>({
  name: 'RandomMask',
  composed({ clock }, { site, batch, cells: [rows, columns], count, repeat }) {
    const time = clock.dataSync();
    const values = new Float32Array(batch * rows * columns);
    for (let sample = 0; sample < batch; sample++) {
      for (const cell of hiddenCells(time, sample, site, rows * columns, count, batch)) values[sample * rows * columns + cell] = 1;
    }
    const mask = tf.tensor(values, [batch, rows, 1, columns, 1], 'float32');
    return tf.reshape(tf.mul(mask, tf.ones([1, 1, repeat, 1, repeat])), [batch, rows * repeat, columns * repeat]);
  },
  native: {
    kernel(b, { clock }, { site, batch, cells, count, repeat }) {
      const y = b.output([batch, cells[0] * repeat, cells[1] * repeat]);
      kernels.randomMask({ clock: b.ref(clock), y: b.outRef(y), site, count, repeat });
      return [y];
    },
  },
});

/**
 * SimMIM's random mask (section 3.1; official MaskGenerator): exactly `count` cells of a grid hidden in each
 * sample, uniformly without replacement.
 *
 * The key of cell c of sample b is word 0 of philox(seed, site, step, (micro * batch + b) * gh * gw + c); hidden
 * are the `count` cells with the smallest (key, c). So the mask is a function of the clock alone.
 *
 * clock int32 [4] = seed, step, micro-step, 0 -> float32 [B, gh repeat, gw repeat], 1 = hidden. Not
 * differentiable. Off our own backends the clock is read synchronously and the mask made on the host: there
 * the backend must support dataSync. Throws `invalid_argument` for options that do not fit.
 */
export function randomMask(clock: tf.Tensor, options: RandomMaskOptions): tf.Tensor {
  const { site, batch, cells, count, repeat } = options;
  requireClock(OP, clock);
  requireInteger(OP, 'site', site, 0, 0xffffffff);
  requireInteger(OP, 'batch', batch, 0);
  requireInteger(OP, 'cells[0]', cells[0], 1);
  requireInteger(OP, 'cells[1]', cells[1], 1);
  requireInteger(OP, 'count', count, 0);
  requireInteger(OP, 'repeat', repeat, 1);
  if (count > cells[0] * cells[1]) refuse(OP, `count is ${count}, expected at most ${cells[0] * cells[1]}, the cells of a ${cells[0]} x ${cells[1]} grid`);
  return randomMaskOp({ clock }, { site, batch, cells: [cells[0], cells[1]], count, repeat });
}
