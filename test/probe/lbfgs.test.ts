import { expect, test } from 'vitest';
import { cholesky, solveCholesky } from '../../ts/probe/cholesky';
import { lbfgs, type Objective } from '../../ts/probe/lbfgs';
import { Rng } from '../../ts/rng';

/** 1/2 sum a_i x_i^2 - b_i x_i with curvatures from 1e-4 to 1: the optimum is b / a. */
function quadratic(n: number): { objective: Objective; optimum: Float64Array } {
  const rng = new Rng(1);
  const a = Float64Array.from({ length: n }, (_, i) => 10 ** (-4 * (i / (n - 1))));
  const b = Float64Array.from({ length: n }, () => rng.normal());
  const objective: Objective = (x, gradient) => x.reduce((sum, v, i) => {
    gradient[i] = (a[i] as number) * v - (b[i] as number);
    return sum + 0.5 * (a[i] as number) * v * v - (b[i] as number) * v;
  }, 0);
  return { objective, optimum: b.map((v, i) => v / (a[i] as number)) };
}

test('an ill-conditioned quadratic ends at its optimum, within gradient norm / least curvature', () => {
  const { objective, optimum } = quadratic(40);
  const found = lbfgs(objective, new Float64Array(40), { gradientNorm: 1e-9, maxIterations: 2000 });
  expect(found.converged).toBe(true);
  expect(found.gradientNorm).toBeLessThanOrEqual(1e-9);
  const distance = Math.sqrt(found.x.reduce((sum, v, i) => sum + (v - (optimum[i] as number)) ** 2, 0));
  expect(distance).toBeLessThanOrEqual(1e-9 / 1e-4);
});

test('with the inverse curvature at hand it is Newton\'s method', () => {
  const { objective, optimum } = quadratic(40);
  const found = lbfgs(objective, new Float64Array(40), { gradientNorm: 1e-9, maxIterations: 2000, precondition: (v) => v.forEach((x, i) => (v[i] = x / 10 ** (-4 * (i / 39)))) });
  expect(found.iterations).toBeLessThanOrEqual(2);
  expect(Math.abs((found.x[39] as number) / (optimum[39] as number) - 1)).toBeLessThan(1e-6);
});

test('Cholesky: the factor gives the matrix back, and solves', () => {
  const rng = new Rng(3);
  const n = 7;
  const m = Float64Array.from({ length: n * n }, () => rng.normal());
  const at = (i: number, j: number, of: Float64Array): number => of[i * n + j] as number;
  const a = Float64Array.from({ length: n * n }, (_, e) => Array.from({ length: n }, (_, k) => at(Math.floor(e / n), k, m) * at(e % n, k, m)).reduce((x, y) => x + y) + (e % (n + 1) === 0 ? 0.1 : 0));
  const l = cholesky(a, n);
  const b = Float64Array.from({ length: n + 2 }, (_, i) => i);
  solveCholesky(l, n, b, 1);
  for (let i = 0; i < n; i++) {
    const product = Array.from({ length: n }, (_, k) => at(i, k, a) * (b[1 + k] as number)).reduce((x, y) => x + y);
    expect(product).toBeCloseTo(1 + i, 9);
  }
  expect([b[0], b[n + 1]]).toEqual([0, n + 1]);
  expect(() => cholesky(Float64Array.of(1, 2, 2, 1), 2)).toThrow(/is not positive definite: pivot 1 is -3/);
});

test("Rosenbrock's valley", () => {
  const objective: Objective = ([x = 0, y = 0], gradient) => {
    gradient[0] = -2 * (1 - x) - 400 * x * (y - x * x);
    gradient[1] = 200 * (y - x * x);
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2;
  };
  const found = lbfgs(objective, Float64Array.of(-1.2, 1), { gradientNorm: 1e-8, maxIterations: 500 });
  expect(found.converged).toBe(true);
  expect([...found.x].map((v) => Number(v.toFixed(7)))).toEqual([1, 1]);
});

test('a value rounded to float32 does not stop it: slopes decide', () => {
  const { objective, optimum } = quadratic(10);
  const rounded: Objective = (x, gradient) => Math.fround(1000 + objective(x, gradient));
  const found = lbfgs(rounded, new Float64Array(10), { gradientNorm: 1e-8, maxIterations: 1000 });
  expect(found.converged).toBe(true);
  expect(Math.abs((found.x[9] as number) - (optimum[9] as number))).toBeLessThan(1e-8 / 1e-4);
});

test('what ends it otherwise is told', () => {
  const { objective } = quadratic(40);
  expect(lbfgs(objective, new Float64Array(40), { gradientNorm: 1e-9, maxIterations: 3 })).toMatchObject({ converged: false, iterations: 3 });
  const flat: Objective = (_, gradient) => (gradient.fill(1), 0); // a slope that leads nowhere
  expect(lbfgs(flat, new Float64Array(2), { gradientNorm: 1e-9, maxIterations: 50 }).converged).toBe(false);
  expect(() => lbfgs(objective, new Float64Array(40), { gradientNorm: 0, maxIterations: 3 })).toThrow(/gradientNorm is 0, expected above 0/);
});
