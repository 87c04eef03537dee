import type { Pair } from '../models/encoder';
import { avgDist } from './avg_dist';
import { Masking, type MaskStrategy } from './masking';

/** Where AvgDist is measured: `token` on the grid of 4-pixel tokens times 4, as the paper's values; `pixel` between pixels. */
export type DistanceUnit = 'token' | 'pixel';
export const distanceUnits: readonly DistanceUnit[] = ['token', 'pixel'];

/** Side of a token in pixels: Swin's patch. */
const TOKEN = 4;

/** AvgDist of a strategy, in pixels, and what it hides; each the mean over masks. */
export interface MeanDistance {
  /** null when every mask hid nothing or everything. */
  mean: number | null;
  /** Standard error of the mean; 0 when there is only one possible mask, null with fewer than 2 measured. */
  stderr: number | null;
  /** Hidden share of the image. */
  hidden: number;
  /** Masks that had a distance: those with a hidden and a visible part. */
  measured: number;
}

/**
 * AvgDist of a strategy at an image size, over `draws` masks (an explicit mask: one). Mask number i is drawn with
 * clock (seed, i, 0). Throws as `Masking` for cells that do not fit.
 */
export function averageDistance(strategy: MaskStrategy, size: Pair, unit: DistanceUnit, { draws, seed }: { draws: number; seed: number }): MeanDistance {
  const scale = unit === 'token' ? TOKEN : 1;
  const masking = new Masking(strategy, size, scale);
  const grid: [number, number] = [size[0] / scale, size[1] / scale];
  const distances: number[] = [];
  const rounds = strategy.kind === 'explicit' ? 1 : draws;
  let hidden = 0;
  for (let step = 0; step < rounds; step++) {
    const mask = masking.onHost({ seed, step, micro: 0 }, 1);
    hidden += mask.reduce((sum, v) => sum + v, 0) / mask.length / rounds;
    const distance = avgDist(mask, grid, scale);
    if (distance !== null) distances.push(distance);
  }
  return { ...meanAndError(distances, strategy.kind === 'explicit'), hidden, measured: distances.length };
}

function meanAndError(values: readonly number[], exact: boolean): { mean: number | null; stderr: number | null } {
  if (values.length === 0) return { mean: null, stderr: null };
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  if (exact) return { mean, stderr: 0 };
  if (values.length < 2) return { mean, stderr: null };
  const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1);
  return { mean, stderr: Math.sqrt(variance / values.length) };
}
