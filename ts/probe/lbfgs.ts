import { SimmimError } from '../errors';

/** A function to be made small: its value at x, and its gradient, which it writes. */
export type Objective = (x: Float64Array, gradient: Float64Array) => number;

export interface LbfgsOptions {
  /** Ends when the gradient's L2 norm is at most this. */
  gradientNorm: number;
  /** Ends after this many iterations, whatever the gradient. */
  maxIterations: number;
  /** Pairs of steps and gradient changes that are remembered. Default 10. */
  memory?: number;
  /** Replaces a vector by an approximate inverse Hessian times it, symmetric and positive definite. Default: leaves it as it is. */
  precondition?: (vector: Float64Array) => void;
}

export interface LbfgsResult {
  x: Float64Array;
  value: number;
  gradientNorm: number;
  iterations: number;
  evaluations: number;
  /** False when `maxIterations` or the precision of the objective ended it first. */
  converged: boolean;
}

interface Pair {
  step: Float64Array;
  change: Float64Array;
  /** 1 / (step . change) */
  rho: number;
}

const dot = (a: Float64Array, b: Float64Array): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
};
const norm = (a: Float64Array): number => Math.sqrt(dot(a, a));

/**
 * Limited-memory BFGS (Nocedal 1980; Nocedal & Wright, Numerical Optimization, algorithm 7.4) for a smooth convex
 * function. The line search accepts a step by the slopes at both ends ("approximate Wolfe" conditions, Hager & Zhang
 * 2005), because near the optimum differences of a float32 objective are noise long before its gradient is.
 */
export function lbfgs(objective: Objective, start: Float64Array, options: LbfgsOptions): LbfgsResult {
  const { gradientNorm, maxIterations, memory = 10, precondition } = options;
  if (!(gradientNorm > 0)) throw new SimmimError('invalid_argument', 'lbfgs', `gradientNorm is ${gradientNorm}, expected above 0`);
  let x = start.slice();
  let gradient = new Float64Array(x.length);
  let value = objective(x, gradient);
  let evaluations = 1;
  const pairs: Pair[] = [];
  for (let iteration = 0; ; iteration++) {
    const size = norm(gradient);
    if (size <= gradientNorm || iteration === maxIterations) return { x, value, gradientNorm: size, iterations: iteration, evaluations, converged: size <= gradientNorm };
    const direction = descend(gradient, pairs, precondition);
    const first = pairs.length > 0 || precondition ? 1 : Math.min(1, 1 / size);
    const found = search(objective, x, value, gradient, direction, first);
    evaluations += found.evaluations;
    if (!found.accepted) {
      if (pairs.length === 0) return { x, value, gradientNorm: size, iterations: iteration, evaluations, converged: false };
      pairs.length = 0; // a stale memory can spoil the direction; steepest descent is the last resort
      continue;
    }
    const step = found.x.map((v, i) => v - (x[i] as number));
    const change = found.gradient.map((v, i) => v - (gradient[i] as number));
    const curvature = dot(step, change);
    if (curvature > 0) {
      pairs.push({ step, change, rho: 1 / curvature });
      if (pairs.length > memory) pairs.shift();
    }
    ({ x, value, gradient } = found);
  }
}

/** -H g by the two-loop recursion. */
function descend(gradient: Float64Array, pairs: readonly Pair[], precondition?: (vector: Float64Array) => void): Float64Array<ArrayBuffer> {
  const q = gradient.map((g) => -g);
  const add = (factor: number, v: Float64Array): void => {
    for (let i = 0; i < q.length; i++) q[i] = (q[i] as number) + factor * (v[i] as number);
  };
  const weights = new Array<number>(pairs.length);
  for (let i = pairs.length - 1; i >= 0; i--) {
    const { step, change, rho } = pairs[i] as Pair;
    weights[i] = rho * dot(step, q);
    add(-(weights[i] as number), change);
  }
  precondition?.(q);
  const last = pairs.at(-1);
  if (last) {
    const changed = last.change.slice();
    precondition?.(changed);
    const scale = 1 / (last.rho * dot(last.change, changed));
    for (let i = 0; i < q.length; i++) q[i] = (q[i] as number) * scale;
  }
  pairs.forEach(({ step, change, rho }, i) => add((weights[i] as number) - rho * dot(change, q), step));
  return q;
}

interface Found {
  accepted: boolean;
  x: Float64Array<ArrayBuffer>;
  value: number;
  gradient: Float64Array<ArrayBuffer>;
  evaluations: number;
}

const ARMIJO = 0.1;
const CURVATURE = 0.9;
/** Rise of the value, relative to it, that is taken for rounding. */
const VALUE_NOISE = 1e-6;
const MOST_TRIALS = 30;

/** A step length along `direction`, bracketed by the sign of the slope and narrowed by secants and bisections. */
function search(objective: Objective, x: Float64Array, value: number, gradient: Float64Array, direction: Float64Array, first: number): Found {
  const slope = dot(gradient, direction);
  let [low, lowSlope] = [0, slope];
  let high: number | null = null;
  let length = first;
  const found: Found = { accepted: false, x: new Float64Array(x.length), value, gradient: new Float64Array(x.length), evaluations: 0 };
  for (let trial = 0; slope < 0 && trial < MOST_TRIALS; trial++) {
    for (let i = 0; i < x.length; i++) found.x[i] = (x[i] as number) + length * (direction[i] as number);
    found.value = objective(found.x, found.gradient);
    found.evaluations++;
    const here = dot(found.gradient, direction);
    const finite = Number.isFinite(found.value) && Number.isFinite(here);
    const noWorse = finite && found.value <= value + VALUE_NOISE * Math.abs(value);
    if (noWorse && here >= CURVATURE * slope && (2 * ARMIJO - 1) * slope >= here) return { ...found, accepted: true };
    if (!noWorse || here > 0) high = length;
    else [low, lowSlope] = [length, here];
    if (high === null) length *= 3;
    else {
      const secant = noWorse && here > 0 ? low - (lowSlope * (high - low)) / (here - lowSlope) : NaN;
      const inside = secant > low + 0.1 * (high - low) && secant < high - 0.1 * (high - low);
      length = inside ? secant : (low + high) / 2;
    }
  }
  return found;
}
