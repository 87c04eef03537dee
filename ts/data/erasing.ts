/** Random erasing (Zhong et al. 2017) as timm's RandomErasing in `pixel` mode: one box of normal noise per picture. */
import { SimmimError } from '../errors';
import { roundHalfEven, type Uniform } from './draws';
import type { Box } from './resample';

export interface ErasingOptions {
  /** Probability that a picture is erased. Default 0.25. */
  probability?: number;
  /** Share of the area. Default [0.02, 1/3]. */
  area?: readonly [number, number];
  /** Height / width of the box. Default [0.3, 1/0.3]. */
  aspect?: readonly [number, number];
}

export type Erasing = Required<ErasingOptions>;

const ATTEMPTS = 10;

/** Fills in the defaults and checks every value. Throws invalid_argument naming the option. */
export function erasing(options: ErasingOptions = {}): Erasing {
  const o: Erasing = { probability: 0.25, area: [0.02, 1 / 3], aspect: [0.3, 1 / 0.3], ...options };
  const bad = (message: string): SimmimError => new SimmimError('invalid_argument', 'erasing', message);
  if (!(o.probability >= 0 && o.probability <= 1)) throw bad(`probability is ${o.probability}, expected 0 to 1`);
  if (!(o.area[0] > 0 && o.area[0] <= o.area[1] && o.area[1] <= 1)) throw bad(`area is [${o.area.join(', ')}], expected 0 < low <= high <= 1`);
  if (!(o.aspect[0] > 0 && o.aspect[0] <= o.aspect[1])) throw bad(`aspect is [${o.aspect.join(', ')}], expected 0 < low <= high`);
  return o;
}

/** The box to erase, or null. Draws: probability; then for up to 10 attempts area, log-aspect, and where it fits top, left. */
export function erasingBox(height: number, width: number, o: Erasing, uniform: Uniform): Box | null {
  if (uniform() > o.probability) return null;
  const [low, high] = [Math.log(o.aspect[0]), Math.log(o.aspect[1])];
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const target = (o.area[0] + (o.area[1] - o.area[0]) * uniform()) * height * width;
    const aspect = Math.exp(low + (high - low) * uniform());
    const h = roundHalfEven(Math.sqrt(target * aspect));
    const w = roundHalfEven(Math.sqrt(target / aspect));
    if (w < width && h < height) {
      const top = Math.floor(uniform() * (height - h + 1));
      const left = Math.floor(uniform() * (width - w + 1));
      return { top, left, height: h, width: w };
    }
  }
  return null;
}

/** Writes noise() into the box of every channel of a planar [3, height, width] image, channel by channel, row by row. */
export function eraseInto(image: Float32Array, height: number, width: number, box: Box, noise: () => number): void {
  for (let c = 0; c < 3; c++) {
    for (let y = box.top; y < box.top + box.height; y++) {
      for (let x = box.left; x < box.left + box.width; x++) image[(c * height + y) * width + x] = noise();
    }
  }
}
