import { expect, test } from 'vitest';
import { UNARY_OPS } from '../../ts/native/kernels.gen';
import { kernels } from '../../ts/native';
import { input, onEveryLevel, output, read } from '../helpers/native_kernels';

/** erf in double precision: Maclaurin series below 3, Lentz's continued fraction of erfc beyond. */
function erf(x: number): number {
  const a = Math.abs(x);
  if (Number.isNaN(x) || x === 0) return x;
  if (a > 6) return Math.sign(x);
  if (a < 3) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-20 * sum; n++) sum += (term *= (-a * a) / n) / (2 * n + 1);
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let f = 0;
  for (let n = 60; n >= 1; n--) f = n / 2 / (a + f);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + f));
}
const sigmoid = (x: number): number => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));

/** Inputs of every sign and exponent with varied mantissas, dense where the functions turn, and the special ones. */
function inputs(): Float32Array {
  const words = Uint32Array.from({ length: 300_000 }, (_, i) => Math.imul(i, 14_317));
  const spread = new Float32Array(words.buffer);
  const dense = Float32Array.from({ length: 100_000 }, (_, i) => (i - 50_000) * 0.0021);
  const special = [0, -0, NaN, Infinity, -Infinity, 1, -1, -200, 200, 100, -100, 88.72283, 88.72284, -87.33, -103.97, -104, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38];
  return Float32Array.from([...special, ...dense, ...spread]);
}

/** Distance from the double value in units of the last place of the float nearest to it; special values must be equal. */
function ulps(got: number, want: number): number {
  const nearest = Math.fround(want);
  if (Object.is(got, nearest) || (Number.isNaN(got) && Number.isNaN(nearest))) return Math.min(0.5, Math.abs(got - want) || 0);
  if (!Number.isFinite(nearest)) return Number.isFinite(want) && Math.abs(got) > 3.4028e38 ? 1 : Infinity;
  if (!Number.isFinite(got) || want === 0) return Infinity;
  const unit = 2 ** Math.max(Math.floor(Math.log2(Math.abs(want))) - 23, -149);
  return Math.abs(got - want) / unit;
}

// The bounds that native/cpu/vmath.h states.
test.each([
  ['exp', Math.exp, 1.0],
  ['expm1', Math.expm1, 1.4],
  ['log', Math.log, 0.8],
  ['log1p', Math.log1p, 0.9],
  ['tanh', Math.tanh, 1.3],
  ['sigmoid', sigmoid, 2.3],
  ['erf', erf, 1.5],
] as const)('%s', (name, reference, bound) => {
  const x = inputs();
  const want = Float64Array.from(x, reference);
  const runs = onEveryLevel(() => {
    const y = output([x.length]);
    kernels.unary({ x: input([x.length], x), y, op: UNARY_OPS[name], a: 0, b: 0 });
    return { y: read(y) };
  });
  for (const { level, values } of runs) {
    let worst = 0;
    let at = 0;
    (values.y as Float32Array).forEach((got, i) => {
      const distance = ulps(got, want[i] as number);
      if (!(distance <= worst)) [worst, at] = [distance, x[i] as number];
    });
    expect(worst, `${name}(${at}) on ${level}`).toBeLessThanOrEqual(bound);
  }
});
