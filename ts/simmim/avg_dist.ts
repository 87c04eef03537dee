import type { Pair } from '../models/encoder';

/**
 * Squared distance of each entry to the nearest 0 entry (itself if it is 0), between centres: the exact
 * Euclidean distance transform in two passes (Felzenszwalb & Huttenlocher 2012). mask [h, w] row-major;
 * Infinity everywhere when there is no 0.
 */
export function squaredDistances(mask: ArrayLike<number>, [height, width]: Pair): Float64Array {
  const result = new Float64Array(height * width);
  const column = new Float64Array(height);
  for (let x = 0; x < width; x++) {
    nearestInColumn(mask, x, width, column);
    for (let y = 0; y < height; y++) result[y * width + x] = column[y] as number;
  }
  const row = new Float64Array(width);
  for (let y = 0; y < height; y++) {
    row.set(result.subarray(y * width, (y + 1) * width));
    lowerEnvelope(row, result.subarray(y * width, (y + 1) * width));
  }
  return result;
}

/** Squared distance to the nearest 0 within column x. */
function nearestInColumn(mask: ArrayLike<number>, x: number, width: number, out: Float64Array): void {
  let distance = Infinity;
  for (let y = 0; y < out.length; y++) {
    distance = mask[y * width + x] ? distance + 1 : 0;
    out[y] = distance;
  }
  distance = Infinity;
  for (let y = out.length - 1; y >= 0; y--) {
    distance = mask[y * width + x] ? distance + 1 : 0;
    out[y] = Math.min(out[y] as number, distance) ** 2;
  }
}

/** out[x] = min over p of (x - p)^2 + f[p]: walks the lower envelope of the parabolas that stand on finite f. */
function lowerEnvelope(f: Float64Array, out: Float64Array): void {
  const at: number[] = [];
  const from: number[] = [];
  for (let p = 0; p < f.length; p++) {
    if (!Number.isFinite(f[p])) continue;
    let start = -Infinity;
    while (at.length > 0) {
      const q = at[at.length - 1] as number;
      start = ((f[p] as number) + p * p - (f[q] as number) - q * q) / (2 * (p - q));
      if (start > (from[from.length - 1] as number)) break;
      at.pop();
      from.pop();
      start = -Infinity;
    }
    at.push(p);
    from.push(start);
  }
  for (let x = 0, k = 0; x < out.length; x++) {
    while (k + 1 < at.length && (from[k + 1] as number) < x) k++;
    const p = at[k];
    out[x] = p === undefined ? Infinity : (x - p) ** 2 + (f[p] as number);
  }
}

/**
 * AvgDist (paper section 4.1.2): the mean distance of hidden entries of a mask [h, w] to the nearest visible
 * one, times `scale`. Undefined (null) when nothing or everything is hidden.
 *
 * With the mask at pixel size and scale 1 this is the caption's definition ("pixel"). The paper's printed
 * values agree instead with the distance on the grid of 4-pixel tokens times 4 ("token"): pass the token mask
 * and scale 4.
 */
export function avgDist(mask: ArrayLike<number>, size: Pair, scale = 1): number | null {
  const squared = squaredDistances(mask, size);
  let sum = 0;
  let hidden = 0;
  for (let i = 0; i < squared.length; i++) {
    if (!mask[i]) continue;
    sum += Math.sqrt(squared[i] as number);
    hidden++;
  }
  return hidden === 0 || hidden === squared.length ? null : (sum / hidden) * scale;
}
