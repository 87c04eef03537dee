import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { philox } from '../rng';
import { refuse, requireInteger, requireNumber } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'random_values';

export interface RandomValuesOptions {
  /** Which numbers of the generator, modulo 2^32: the key of all draws of a program. */
  seed: number;
  /** Which stream of it: one number for each tensor that is drawn. */
  site: number;
  /** 'normal': quantiles of the standard normal distribution at probabilities between `low` and `high`; 'uniform': numbers between them. */
  law: 'normal' | 'uniform';
  low: number;
  high: number;
  /** Factor on every number. */
  scale: number;
}

/** Numerator and denominator of the central region |p - 1/2| <= 0.425 (Wichura, AS 241, PPND16). */
const CENTRAL = {
  up: [2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608],
  down: [5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1],
};
/** The same for the tails, down to p = exp(-25). */
const TAIL = {
  up: [7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734],
  down: [1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1],
};
const LAST_PROBABILITY = Math.exp(-25);
/** artanh(s) / s as a series in s², |s| < 0.172: the first term left out is below 3e-17. */
const ARTANH = [1 / 19, 1 / 17, 1 / 15, 1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1];

function ratio(x: number, terms: { up: number[]; down: number[] }): number {
  let up = 0;
  let down = 0;
  for (let i = 0; i < 8; i++) {
    up = up * x + (terms.up[i] as number);
    down = down * x + (terms.down[i] as number);
  }
  return up / down;
}

/**
 * Natural logarithm of 0 < x < 0.075, within 2 ulps of Math.log's. Engines differ in the last bits of that one; this one is made of
 * correctly rounded operations, so that native code gives the same bits.
 */
export function naturalLog(x: number): number {
  let mantissa = x;
  let exponent = 0;
  for (; mantissa < Math.SQRT1_2; exponent--) mantissa *= 2;
  const s = (mantissa - 1) / (mantissa + 1);
  let series = 0;
  for (const coefficient of ARTANH) series = series * (s * s) + coefficient;
  return exponent * Math.LN2 + 2 * s * series;
}

/** Quantile of the standard normal for exp(-25) < p < 1 - exp(-25), to about 1e-16 relative. */
export function normalQuantile(p: number): number {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) return q * ratio(0.180625 - q * q, CENTRAL);
  const r = Math.sqrt(-naturalLog(q < 0 ? p : 1 - p));
  return Math.sign(q) * ratio(r - 1.6, TAIL);
}

/** The definition of the op, which the kernel follows operation by operation (native/kernels/random_values.h). */
function draw(size: number, { seed, site, law, low, high, scale }: RandomValuesOptions): Float32Array {
  const values = new Float32Array(size);
  const width = high - low;
  for (let i = 0; i < size; i += 4) {
    const words = philox(seed, site, 0, i / 4);
    const lanes = Math.min(4, size - i);
    for (let lane = 0; lane < lanes; lane++) {
      const p = low + width * ((((words[lane] as number) >>> 8) + 0.5) / 16777216);
      values[i + lane] = scale * (law === 'normal' ? normalQuantile(p) : p);
    }
  }
  return values;
}

interface Attrs extends RandomValuesOptions {
  shape: readonly number[];
}

const randomValuesOp = fusedOp<Record<never, tf.Tensor>, Attrs>({
  name: 'RandomValues',
  composed: (_, { shape, ...options }) => tf.tensor(draw(tf.util.sizeFromShape([...shape]), options), [...shape], 'float32'),
  native: {
    kernel(b, _, { shape, law, ...numbers }) {
      const y = b.output(shape);
      kernels.randomValues({ y: b.outRef(y), ...numbers, normal: law === 'normal' });
      return [y];
    },
  },
});

/**
 * Independent random numbers of one law, such as a model's first weights: scale * Q(low + (high - low) u), Q the quantile of the
 * standard normal for the law 'normal' (the whole of it between 0 and 1, restricted to [a, b] between their probabilities), the
 * identity for 'uniform'.
 *
 * u of element i is (word i % 4 of philox(seed, site, 0, i / 4) >> 8, + 1/2) / 2^24: 24 bits, strictly between 0 and 1. Computed in
 * doubles and rounded once: the same bits on every backend. -> float32 [...shape]. Not differentiable. Throws `invalid_argument` for
 * options that do not fit, such as probabilities within exp(-25) of 0 or 1, where the formula ends.
 */
export function randomValues(shape: readonly number[], options: RandomValuesOptions): tf.Tensor {
  const { seed, site, law, low, high, scale } = options;
  shape.forEach((size, axis) => requireInteger(OP, `shape[${axis}]`, size, 0));
  requireInteger(OP, 'seed', seed, -Infinity);
  requireInteger(OP, 'site', site, 0, 0xffffffff);
  if (law !== 'normal' && law !== 'uniform') refuse(OP, `law is '${String(law)}', expected 'normal' or 'uniform'`);
  requireNumber(OP, 'low', low, law === 'normal' ? 0 : -Infinity, law === 'normal' ? 1 : Infinity);
  requireNumber(OP, 'high', high, low, law === 'normal' ? 1 : Infinity);
  requireNumber(OP, 'scale', scale, -Infinity, Infinity);
  const margin = Math.min(low, 1 - high) + (high - low) / 33554432; // of the first and the last u
  if (law === 'normal' && !(margin > LAST_PROBABILITY)) refuse(OP, `low ${low} and high ${high} give probabilities within ${margin} of 0 or 1, expected more than exp(-25) = ${LAST_PROBABILITY}`);
  return randomValuesOp({}, { shape, seed, site, law, low, high, scale });
}
