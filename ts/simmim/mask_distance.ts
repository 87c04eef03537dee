import type { Pair } from '../models/encoder';
import { avgDist } from './avg_dist';
import { Masking, type MaskStrategy } from './masking';

/** Where AvgDist is measured: `token` on the grid of 4-pixel tokens times 4, as the paper's values; `pixel` between pixels. */
export type DistanceUnit = 'token' | 'pixel';

/** Side of a token in pixels: Swin's patch. */
const TOKEN = 4;

/**
 * AvgDist in pixels of a strategy at an image size: the mean over `draws` masks, null when nothing or everything is
 * hidden; and the hidden share of those masks. Throws as `Masking` for cells that do not fit.
 */
export function averageDistance(strategy: MaskStrategy, size: Pair, unit: DistanceUnit, { draws, seed }: { draws: number; seed: number }): { mean: number | null; hidden: number } {
  const scale = unit === 'token' ? TOKEN : 1;
  const masking = new Masking(strategy, size, scale);
  const grid: [number, number] = [size[0] / scale, size[1] / scale];
  const total = { distance: 0, hidden: 0, measured: 0 };
  const rounds = strategy.kind === 'explicit' ? 1 : draws;
  for (let step = 0; step < rounds; step++) {
    const mask = masking.onHost({ seed, step, micro: 0 }, 1);
    total.hidden += mask.reduce((sum, v) => sum + v, 0) / mask.length;
    const distance = avgDist(mask, grid, scale);
    if (distance === null) continue;
    total.distance += distance;
    total.measured++;
  }
  return { mean: total.measured > 0 ? total.distance / total.measured : null, hidden: total.hidden / rounds };
}
