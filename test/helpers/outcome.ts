import { Rng } from '../../ts/rng';
import type { TfApi } from './op_cases';

export type Values = Float32Array | Float64Array;

/** The result of one case and the gradient of sum(result * weights) for each differentiable input. */
export interface Outcome {
  shape: number[];
  result: Values;
  gradients: Record<string, Values>;
}

/** A fixed weight for each element of a result, so that its sum depends on all of them differently. */
export function weightsOf(count: number): number[] {
  const rng = new Rng(11);
  return Array.from({ length: count }, () => rng.normal());
}

export function tidied<T>(api: TfApi, f: () => T): T {
  api.engine().startScope();
  try {
    return f();
  } finally {
    api.engine().endScope();
  }
}

/** The parts of an outcome under their names, in one order. */
export function parts(outcome: Outcome): [string, Values][] {
  return [['result', outcome.result], ...Object.entries(outcome.gradients).map(([key, values]): [string, Values] => [`gradient of ${key}`, values])];
}
