/** Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019) of a batch with its own reverse, as timm 0.4.12 does them. */
import { SimmimError } from '../errors';
import { Rng } from '../rng';
import { SITE } from './sampler';

export interface MixupOptions {
  classes: number;
  /** Beta parameter of mixup's lambda; 0 switches mixup off. Default 0.8. */
  mixupAlpha?: number;
  /** Beta parameter of cutmix's lambda; 0 switches cutmix off. Default 1. */
  cutmixAlpha?: number;
  /** Probability of mixing at all. Default 1. */
  probability?: number;
  /** Probability of cutmix where both are on. Default 0.5. */
  switchProbability?: number;
  /** One draw for the whole batch, for each pair (i, B - 1 - i), or for each sample. Default batch. */
  mode?: 'batch' | 'pair' | 'elem';
  /** Default 0.1. */
  labelSmoothing?: number;
}

export type Mixup = Required<MixupOptions>;

/** How one sample is mixed with its partner: by weights, or by a box [y0, y1, x0, x1) of it. `lambda` is the sample's own share. */
export interface Mix {
  lambda: number;
  box: readonly [y0: number, y1: number, x0: number, x1: number] | null;
}

const NO_MIX: Mix = { lambda: 1, box: null };

/** Fills in the defaults and checks every value. Throws invalid_argument naming the option. */
export function mixup(options: MixupOptions): Mixup {
  const o: Mixup = { mixupAlpha: 0.8, cutmixAlpha: 1, probability: 1, switchProbability: 0.5, mode: 'batch', labelSmoothing: 0.1, ...options };
  const check = (name: string, value: number, most: number): void => {
    if (!(value >= 0 && value <= most)) throw new SimmimError('invalid_argument', 'mixup', `${name} is ${value}, expected 0 to ${most}`);
  };
  if (!Number.isInteger(o.classes) || o.classes < 1) throw new SimmimError('invalid_argument', 'mixup', `classes is ${o.classes}, expected an integer of at least 1`);
  check('mixupAlpha', o.mixupAlpha, 1000);
  check('cutmixAlpha', o.cutmixAlpha, 1000);
  check('probability', o.probability, 1);
  check('switchProbability', o.switchProbability, 1);
  check('labelSmoothing', o.labelSmoothing, 1);
  if (!['batch', 'pair', 'elem'].includes(o.mode)) throw new SimmimError('invalid_argument', 'mixup', `mode is '${String(o.mode)}', expected batch, pair or elem`);
  return o;
}

/** CutMix's box for a share `lambda` that stays, centred at floor(u * side), and the lambda that its real area gives. */
export function cutmixBox(height: number, width: number, lambda: number, uy: number, ux: number): Mix {
  const ratio = Math.sqrt(1 - lambda);
  const halfHeight = Math.floor(Math.trunc(height * ratio) / 2);
  const halfWidth = Math.floor(Math.trunc(width * ratio) / 2);
  const [cy, cx] = [Math.floor(uy * height), Math.floor(ux * width)];
  const clip = (v: number, most: number): number => Math.max(0, Math.min(most, v));
  const box = [clip(cy - halfHeight, height), clip(cy + halfHeight, height), clip(cx - halfWidth, width), clip(cx + halfWidth, width)] as const;
  return { lambda: 1 - ((box[1] - box[0]) * (box[3] - box[2])) / (height * width), box };
}

/** Gamma(shape, 1) by Marsaglia and Tsang (2000); below 1 by their boost. */
function gamma(shape: number, rng: Rng): number {
  if (shape < 1) return gamma(shape + 1, rng) * Math.pow(1 - rng.uniform(), 1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = rng.normal();
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - rng.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}

function beta(alpha: number, rng: Rng): number {
  const a = gamma(alpha, rng);
  const b = gamma(alpha, rng);
  return a + b === 0 ? 0.5 : a / (a + b);
}

function drawMix(o: Mixup, height: number, width: number, rng: Rng): Mix {
  if (rng.uniform() >= o.probability || (o.mixupAlpha === 0 && o.cutmixAlpha === 0)) return NO_MIX;
  const both = o.mixupAlpha > 0 && o.cutmixAlpha > 0;
  const cut = both ? rng.uniform() < o.switchProbability : o.cutmixAlpha > 0;
  const lambda = beta(cut ? o.cutmixAlpha : o.mixupAlpha, rng);
  return cut ? cutmixBox(height, width, lambda, rng.uniform(), rng.uniform()) : { lambda, box: null };
}

/** The mixes of the B samples of batch (epoch, step): a pure function of the seed and both. */
export function drawMixes(o: Mixup, batch: number, height: number, width: number, seed: number, epoch: number, step: number): Mix[] {
  const draw = (i: number): Mix => {
    const rng = new Rng(seed, SITE.mix, epoch);
    rng.state = (step * 65536 + i) * 1024;
    return drawMix(o, height, width, rng);
  };
  if (o.mode === 'batch') return new Array<Mix>(batch).fill(draw(0));
  return Array.from({ length: batch }, (_, i) => draw(o.mode === 'pair' ? Math.min(i, batch - 1 - i) : i));
}

/** What mixing B pictures of height x width needs beside them, see `ClassifyTask`. */
export interface MixWeights {
  /** [B]: share of each picture and of its partner, outside of the box. */
  own: Float32Array;
  partner: Float32Array;
  /** [B, height] and [B, width]: 1 in the rows and columns of the box, which is all the partner's. */
  rows: Float32Array;
  columns: Float32Array;
}

/** The weights of some mixes. */
export function mixWeights(mixes: readonly Mix[], height: number, width: number): MixWeights {
  const rows = new Float32Array(mixes.length * height);
  const columns = new Float32Array(mixes.length * width);
  mixes.forEach(({ box }, i) => {
    if (!box) return;
    rows.fill(1, i * height + box[0], i * height + box[1]);
    columns.fill(1, i * width + box[2], i * width + box[3]);
  });
  const share = (of: (lambda: number) => number): Float32Array => Float32Array.from(mixes, ({ lambda, box }) => (box ? of(1) : of(lambda)));
  return { own: share((l) => l), partner: share((l) => 1 - l), rows, columns };
}

/** Soft targets [B, classes] of the mixed batch, label smoothing included. */
export function mixTargets(labels: ArrayLike<number>, mixes: readonly Mix[], o: Mixup): Float32Array {
  const off = Math.fround(o.labelSmoothing / o.classes);
  const on = Math.fround(1 - o.labelSmoothing + o.labelSmoothing / o.classes);
  const batch = mixes.length;
  const targets = new Float32Array(batch * o.classes);
  mixes.forEach(({ lambda }, i) => {
    const [a, b] = [Math.fround(lambda), Math.fround(1 - lambda)];
    for (let c = 0; c < o.classes; c++) {
      const own = labels[i] === c ? on : off;
      const partner = labels[batch - 1 - i] === c ? on : off;
      targets[i * o.classes + c] = Math.fround(Math.fround(own * a) + Math.fround(partner * b));
    }
  });
  return targets;
}
