/** Whether one classifier is better than another on the same pictures. */
import { SimmimError } from '../errors';

export interface PairedComparison {
  /** Pictures that only the first, and only the second, gets right. */
  onlyFirst: number;
  onlySecond: number;
  /** Two-sided p-value of McNemar's exact test: how likely a difference at least this large is when both are equally good. */
  p: number;
}

/** McNemar's exact test (binomial with one half on the pictures that exactly one of both gets right). Each list has true for a picture that is right. */
export function mcnemar(first: readonly boolean[], second: readonly boolean[]): PairedComparison {
  if (first.length !== second.length) throw new SimmimError('invalid_argument', 'mcnemar', `the first has ${first.length} pictures and the second ${second.length}: the same pictures are compared`);
  const onlyFirst = first.filter((right, i) => right && !second[i]).length;
  const onlySecond = second.filter((right, i) => right && !first[i]).length;
  return { onlyFirst, onlySecond, p: binomialTwoSided(Math.min(onlyFirst, onlySecond), onlyFirst + onlySecond) };
}

/** min(1, 2 P(X <= k)) for X binomial(n, 1/2). */
function binomialTwoSided(k: number, n: number): number {
  let term = -n * Math.LN2; // log of C(n, i) / 2^n
  const logs = [term];
  for (let i = 1; i <= k; i++) {
    term += Math.log(n - i + 1) - Math.log(i);
    logs.push(term);
  }
  const most = Math.max(...logs);
  return Math.min(1, 2 * Math.exp(most) * logs.reduce((sum, l) => sum + Math.exp(l - most), 0));
}

/** Mean and sample standard deviation (0 for a single value). */
export function spread(values: readonly number[]): { mean: number; std: number } {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { mean, std: values.length < 2 ? 0 : Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1)) };
}
