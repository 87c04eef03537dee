import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { philox, uniformFromWord } from '../rng';
import { refuse, requireClock, requireInteger, requireNumber, requireShape, requireTensor } from './arguments';
import { fusedOp, sameData } from './fused_op';
import { storageOf, type FloatStorage } from './in_storage';

const OP = 'drop_path';

export interface DropPathOptions {
  /** Probability of dropping a sample's branch, in [0, 1). */
  rate: number;
  /** Which stream of the generator: one number for each random place of a program. */
  site: number;
  /** int32 [4] = seed, step, micro-step, 0. */
  clock: tf.Tensor;
  /** Off training nothing is dropped and nothing is scaled. */
  training: boolean;
}

interface Inputs {
  x: tf.Tensor; // [B, ...]
  residual: tf.Tensor; // [B, ...]
  clock: tf.Tensor; // int32 [4]
}

const dropPathOp = fusedOp<Inputs, { rate: number; site: number; storage: FloatStorage }>({
  name: 'DropPath',
  composed({ x, residual, clock }, { rate, site }) {
    if (rate === 0) return tf.add(residual, x);
    const [seed, step, micro] = clock.dataSync() as Int32Array as unknown as [number, number, number];
    const batch = x.shape[0] as number;
    const keep = Float32Array.from({ length: batch }, (_, b) => {
      const uniform = uniformFromWord(philox(seed, site, step, micro * batch + b)[0]);
      return uniform >= rate ? 1 / (1 - rate) : 0;
    });
    return tf.add(residual, tf.mul(x, tf.tensor(keep, [batch, ...x.shape.slice(1).fill(1)])));
  },
  native: {
    kernel(b, { x, residual, clock }, { rate, site }) {
      const y = b.outputLike(residual);
      kernels.dropPath({ x: b.ref(x), residual: b.ref(residual), clock: b.ref(clock), y: b.outRef(y), rate, site });
      return [y];
    },
    differentiable: ['x', 'residual'],
    save: ['clock'],
    gradient(b, dy, { inputs }, { rate, site, storage }) {
      const dx = b.output(dy.shape, 'float32', storage);
      kernels.dropPathGrad({ dy: b.ref(dy), clock: b.ref(inputs.clock as tf.Tensor), dx: b.outRef(dx), rate, site });
      return { x: dx, residual: sameData(b, dy) };
    },
  },
});

/**
 * Stochastic depth on a residual branch (Huang et al. 2016; timm's drop_path): residual + x keep[b] / (1 - rate).
 *
 * keep[b] is 1 when the upper 24 bits of word 0 of philox(seed, site, step, micro * B + b), as a number u in
 * [0, 1), satisfy u >= rate: the same samples whenever the clock is the same, so a recomputed block agrees.
 *
 * x, residual [B, ...] -> [B, ...], stored as the residual is. Differentiable in both. Off our own backends the clock is read synchronously:
 * there the backend must support dataSync. Throws `invalid_argument` for shapes and options that do not fit.
 */
export function dropPath(x: tf.Tensor, residual: tf.Tensor, options: DropPathOptions): tf.Tensor {
  const { rate, site, clock, training } = options;
  requireTensor(OP, 'x', x);
  if (x.rank === 0) refuse(OP, 'x is a scalar, expected samples along its first dimension [B, ...]');
  requireShape(OP, 'residual', residual, x.shape, 'the shape of x');
  requireNumber(OP, 'rate', rate, 0, 1);
  if (rate === 1) refuse(OP, 'rate is 1, expected less: the kept samples are divided by 1 - rate');
  requireInteger(OP, 'site', site, 0, 0xffffffff);
  requireClock(OP, clock);
  return dropPathOp({ x, residual, clock }, { rate: training ? rate : 0, site, storage: storageOf(x) });
}
