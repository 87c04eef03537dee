import { expect, test } from 'vitest';
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
