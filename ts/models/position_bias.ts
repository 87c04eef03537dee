import { SimmimError } from '../errors';
import type { Pair } from './encoder';

/** How a table of relative positions, or an absolute position embedding, is brought to another size. */
export type BiasInterpolation = 'geometric' | 'bicubic';

const OP = 'position_bias';
/** Windows of up to 256 tokens a side: solving the spline takes the cube of this. */
const MAX_SIDE = 511;

/**
 * A relative position bias table for another window.
 *
 * `table` [Sh * Sw + extra, heads] with S = 2 * window - 1 offsets along each side, row-major; `source` and
 * `target` are [Sh, Sw]; the `extra` last rows (3 in a ViT, for the class token) are copied. `geometric` is
 * the rule of microsoft/SimMIM `utils.py` (from BEiT): source offsets spread in geometric progression so that
 * they reach the target's, then an interpolating bicubic spline. `bicubic` is that of
 * microsoft/Swin-Transformer `utils.py`: convolution with a = -0.75, corners not aligned. An equal size is
 * returned unchanged. Arithmetic in float64.
 */
export function resizeBiasTable(table: Float32Array, heads: number, source: Pair, target: Pair, rule: BiasInterpolation, extra = 0): Float32Array {
  const from = source[0] * source[1];
  if (table.length !== (from + extra) * heads) {
    throw new SimmimError('invalid_argument', OP, `table has ${table.length} values, expected ${(from + extra) * heads} = (${source[0]} * ${source[1]} + ${extra}) * ${heads} heads`);
  }
  if (source[0] === target[0] && source[1] === target[1]) return table.slice();
  if (Math.max(...source, ...target) > MAX_SIDE) throw new SimmimError('unsupported', OP, `a table of ${Math.max(...source, ...target)} offsets along a side; at most ${MAX_SIDE}`);
  const weights = rule === 'geometric' ? geometricWeights : bicubicWeights;
  const grid = resample(table.subarray(0, from * heads), heads, source, target, weights);
  const to = target[0] * target[1];
  const out = new Float32Array((to + extra) * heads);
  out.set(grid);
  out.set(table.subarray(from * heads), to * heads);
  return out;
}

/**
 * An absolute position embedding [extra + H * W, C] for another grid of patches, by bicubic convolution
 * (microsoft/Swin-Transformer `utils.py`); the `extra` first rows (1 in a ViT, the class token's) are copied.
 */
export function resizePositionEmbedding(embedding: Float32Array, channels: number, source: Pair, target: Pair, extra = 0): Float32Array {
  if (embedding.length !== (extra + source[0] * source[1]) * channels) {
    throw new SimmimError('invalid_argument', OP, `embedding has ${embedding.length} values, expected ${(extra + source[0] * source[1]) * channels} = (${extra} + ${source[0]} * ${source[1]}) * ${channels} channels`);
  }
  if (source[0] === target[0] && source[1] === target[1]) return embedding.slice();
  const grid = resample(embedding.subarray(extra * channels), channels, source, target, bicubicWeights);
  const out = new Float32Array(extra * channels + grid.length);
  out.set(embedding.subarray(0, extra * channels));
  out.set(grid, extra * channels);
  return out;
}

/** weights[to * sourceSize + from]: what each source position gives to each target position. */
type Weights = (sourceSize: number, targetSize: number) => Float64Array;

/** Rows, then columns: values [H * W, C] -> [H' * W', C]. */
function resample(values: Float32Array, channels: number, [h, w]: Pair, [h2, w2]: Pair, weights: Weights): Float32Array {
  const down = weights(h, h2);
  const across = weights(w, w2);
  const rows = new Float64Array(h2 * w * channels);
  for (let y2 = 0; y2 < h2; y2++) {
    for (let y = 0; y < h; y++) {
      const weight = down[y2 * h + y] as number;
      if (weight === 0) continue;
      for (let i = 0; i < w * channels; i++) rows[y2 * w * channels + i] = (rows[y2 * w * channels + i] as number) + weight * (values[y * w * channels + i] as number);
    }
  }
  const out = new Float32Array(h2 * w2 * channels);
  for (let y2 = 0; y2 < h2; y2++) {
    for (let x2 = 0; x2 < w2; x2++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let x = 0; x < w; x++) sum += (across[x2 * w + x] as number) * (rows[(y2 * w + x) * channels + c] as number);
        out[(y2 * w2 + x2) * channels + c] = sum;
      }
    }
  }
  return out;
}

// ---- geometric

/** 0, +-1, +-(1 + q), +-(1 + q + q^2) ...: where the `sourceSize` known offsets are put. Exported for its test. */
export function geometricPositions(sourceSize: number, targetSize: number): { q: number; positions: Float64Array } {
  const half = sourceSize >> 1;
  const reach = targetSize >> 1;
  let low = 1.01;
  let high = 1.5;
  let q = low;
  while (high - low > 1e-6) {
    q = (low + high) / 2;
    if ((1 - q ** half) / (1 - q) > reach) high = q;
    else low = q;
  }
  const positions = new Float64Array(sourceSize);
  let distance = 0;
  for (let i = 1; i <= half; i++) {
    distance += q ** (i - 1);
    positions[half + i] = distance;
    positions[half - i] = -distance;
  }
  return { q, positions };
}

function geometricWeights(sourceSize: number, targetSize: number): Float64Array {
  if (sourceSize === targetSize) return identity(sourceSize);
  const { positions } = geometricPositions(sourceSize, targetSize);
  const reach = targetSize >> 1;
  return splineWeights(positions, Float64Array.from({ length: targetSize }, (_, i) => i - reach));
}

/**
 * The interpolating cubic spline through (x, values) with not-a-knot ends, at `at` clamped to [x0, xn]: as
 * weights of the values. Fewer than four points: the polynomial through them.
 */
function splineWeights(x: Float64Array, at: Float64Array): Float64Array {
  const n = x.length;
  const weights = new Float64Array(at.length * n);
  const curvature = n > 3 ? curvatures(x) : null;
  for (let t = 0; t < at.length; t++) {
    const p = Math.min(Math.max(at[t] as number, x[0] as number), x[n - 1] as number);
    const row = weights.subarray(t * n, (t + 1) * n);
    if (curvature) splineRow(x, curvature, p, row);
    else lagrangeRow(x, p, row);
  }
  return weights;
}

function lagrangeRow(x: Float64Array, p: number, row: Float64Array): void {
  for (let i = 0; i < x.length; i++) {
    let product = 1;
    for (let j = 0; j < x.length; j++) if (j !== i) product *= (p - (x[j] as number)) / ((x[i] as number) - (x[j] as number));
    row[i] = product;
  }
}

/** One interval's cubic in terms of its end values and second derivatives. */
function splineRow(x: Float64Array, curvature: Float64Array, p: number, row: Float64Array): void {
  const n = x.length;
  let i = 0;
  while (i < n - 2 && p > (x[i + 1] as number)) i++;
  const h = (x[i + 1] as number) - (x[i] as number);
  const b = (p - (x[i] as number)) / h;
  const a = 1 - b;
  const left = ((a * a * a - a) * h * h) / 6;
  const right = ((b * b * b - b) * h * h) / 6;
  for (let j = 0; j < n; j++) row[j] = left * (curvature[i * n + j] as number) + right * (curvature[(i + 1) * n + j] as number);
  row[i] = (row[i] as number) + a;
  row[i + 1] = (row[i + 1] as number) + b;
}

/** Second derivatives at the points as weights of the values, [n, n]: the not-a-knot system solved for every unit vector. */
function curvatures(x: Float64Array): Float64Array {
  const n = x.length;
  const step = (i: number): number => (x[i + 1] as number) - (x[i] as number);
  const system = new Float64Array(n * n);
  const right = new Float64Array(n * n);
  for (let i = 1; i < n - 1; i++) {
    const [h0, h1] = [step(i - 1), step(i)];
    system.set([h0 / 6, (h0 + h1) / 3, h1 / 6], i * n + i - 1);
    right.set([1 / h0, -1 / h0 - 1 / h1, 1 / h1], i * n + i - 1);
  }
  // Not a knot: the third derivative is continuous at the second and the last but one point.
  const ends: [number, number][] = [[0, 0], [n - 1, n - 3]];
  for (const [row, i] of ends) system.set([1 / step(i), -1 / step(i) - 1 / step(i + 1), 1 / step(i + 1)], row * n + i);
  solve(system, right, n);
  return right;
}

/** Gaussian elimination with row exchange: `right` becomes system^-1 right, both [n, n]. */
function solve(system: Float64Array, right: Float64Array, n: number): void {
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(system[i * n + k] as number) > Math.abs(system[pivot * n + k] as number)) pivot = i;
    for (const matrix of [system, right]) {
      const upper = matrix.slice(k * n, (k + 1) * n);
      matrix.copyWithin(k * n, pivot * n, (pivot + 1) * n);
      matrix.set(upper, pivot * n);
    }
    for (let i = 0; i < n; i++) {
      if (i === k) continue;
      const factor = (system[i * n + k] as number) / (system[k * n + k] as number);
      if (factor === 0) continue;
      for (let j = 0; j < n; j++) {
        system[i * n + j] = (system[i * n + j] as number) - factor * (system[k * n + j] as number);
        right[i * n + j] = (right[i * n + j] as number) - factor * (right[k * n + j] as number);
      }
    }
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) right[i * n + j] = (right[i * n + j] as number) / (system[i * n + i] as number);
}

// ---- bicubic

/**
 * Keys' cubic convolution with a = -0.75 at pixel centres, edges repeated: PyTorch's bicubic, align_corners false.
 * Positions and weights are rounded to float32 where its fused multiply-adds round: a position's rounding shows in the sixth digit.
 */
function bicubicWeights(sourceSize: number, targetSize: number): Float64Array {
  if (sourceSize === targetSize) return identity(sourceSize);
  const f = Math.fround;
  const a = -0.75;
  const near = (d: number): number => f(f(f((a + 2) * d - (a + 3)) * d) * d + 1);
  const far = (d: number): number => f(f(f(a * d - 5 * a) * d + 8 * a) * d - 4 * a);
  const scale = f(sourceSize / targetSize);
  const weights = new Float64Array(targetSize * sourceSize);
  for (let t = 0; t < targetSize; t++) {
    const centre = f(scale * (t + 0.5) - 0.5);
    const first = Math.floor(centre);
    const d = f(centre - first);
    [far(f(d + 1)), near(d), near(f(1 - d)), far(f(f(1 - d) + 1))].forEach((weight, k) => {
      const from = Math.min(Math.max(first - 1 + k, 0), sourceSize - 1);
      weights[t * sourceSize + from] = (weights[t * sourceSize + from] as number) + weight;
    });
  }
  return weights;
}

function identity(size: number): Float64Array {
  const weights = new Float64Array(size * size);
  for (let i = 0; i < size; i++) weights[i * size + i] = 1;
  return weights;
}
