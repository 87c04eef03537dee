import type * as Tf from '@tensorflow/tfjs-core';
import { Rng } from '../../ts/rng';
import type * as Ops from '../../ts/ops';

/** The ops under test; passed in, because the float64 reference is a second copy of them. */
export type OpsApi = typeof Ops;
export type TfApi = typeof Tf;

/** How an input of a case is made: shape and seedable values. */
export interface InputSpec {
  shape: readonly number[];
  dtype: 'float32' | 'int32';
  make(rng: Rng): number;
}

/** One call of an op: plain data, so that tests and benches draw the same. */
export interface OpCase<Args, Name extends string> {
  name: string;
  /** By name; an optional input may be left out. */
  inputs: Readonly<Partial<Record<Name, InputSpec>>>;
  args: Args;
  /** False where the op has a kink at the drawn values, so that finite differences do not apply (default true). */
  smooth?: boolean;
  /** Magnitude of the terms that cancel to a true value of exactly 0, where the size of the result says nothing (default 0). */
  terms?: number;
}

export interface BadCase {
  name: string;
  /** Makes its own tensors; runs inside tidy. */
  call(ops: OpsApi, tf: TfApi): unknown;
  message: string;
}

/** The case list of one op: drives checkOp and the bench. */
export interface OpSpec<Args, Name extends string = string> {
  /** Stem, e.g. `window_attention`. */
  op: string;
  /** Inputs that get a gradient; empty for ops without one. */
  differentiable: readonly Name[];
  /** Calls the op; an op that changes variables makes them of the inputs and returns what they hold afterwards. */
  run(ops: OpsApi, inputs: Readonly<Record<Name, Tf.Tensor>>, args: Args, tf: TfApi): Tf.Tensor;
  /** Sets of inputs that are stored in bf16 when the op runs under that policy (with the residual stream in bf16 or f32); absent for ops that know f32 only. */
  bf16?: readonly (readonly Name[])[];
  cases: readonly OpCase<Args, Name>[];
  bad: readonly BadCase[];
}

export const normal = (shape: readonly number[], scale = 1, mean = 0): InputSpec => ({ shape, dtype: 'float32', make: (rng) => mean + scale * rng.normal() });
export const uniform = (shape: readonly number[], low: number, high: number): InputSpec => ({ shape, dtype: 'float32', make: (rng) => low + (high - low) * rng.uniform() });
/** `one` with the given probability, else 0. */
export const bits = (shape: readonly number[], probability: number, one = 1): InputSpec => ({ shape, dtype: 'float32', make: (rng) => (rng.uniform() < probability ? one : 0) });
/** These values, as int32. */
export const integers = (...values: number[]): InputSpec => {
  let i = 0;
  return { shape: [values.length], dtype: 'int32', make: () => values[i++ % values.length] as number };
};
export const constant = (shape: readonly number[], value: number): InputSpec => ({ shape, dtype: 'float32', make: () => value });
/** seed, step, micro-step, 0 */
export const clock = (seed: number, step: number, micro: number): InputSpec => integers(seed, step, micro, 0);

/** The float32 values of a case's inputs, a function of the case's name. */
export function drawInputs(inputs: Readonly<Partial<Record<string, InputSpec>>>, name: string): Record<string, Float32Array | Int32Array> {
  const seed = [...name].reduce((hash, letter) => (Math.imul(hash, 31) + letter.charCodeAt(0)) | 0, 7);
  return Object.fromEntries(
    Object.entries(inputs).map(([key, spec], site) => {
      const { shape, dtype, make } = spec as InputSpec;
      const rng = new Rng(seed, site);
      const count = shape.reduce((a, b) => a * b, 1);
      const values = Array.from({ length: count }, () => make(rng));
      return [key, dtype === 'int32' ? Int32Array.from(values) : Float32Array.from(values)];
    }),
  );
}
