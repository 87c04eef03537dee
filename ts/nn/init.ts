import { philox } from '../rng';
import { rngSites } from './context';
import { Parameter } from './module';

/** Numerator and denominator of the central region |p - 1/2| <= 0.425 (Wichura, AS 241, PPND16). */
const CENTRAL = {
  up: [2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608],
  down: [5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1],
};
/** The same for the tails, down to p = exp(-25): a 24-bit uniform number stops at 2^-25 (> exp(-18)). */
const TAIL = {
  up: [7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734],
  down: [1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1],
};

function ratio(x: number, terms: { up: number[]; down: number[] }): number {
  let up = 0;
  let down = 0;
  for (let i = 0; i < 8; i++) {
    up = up * x + (terms.up[i] as number);
    down = down * x + (terms.down[i] as number);
  }
  return up / down;
}

/** Quantile of the standard normal for exp(-25) < p < 1 - exp(-25), to about 1e-16 relative. */
export function normalQuantile(p: number): number {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) return q * ratio(0.180625 - q * q, CENTRAL);
  const r = Math.sqrt(-Math.log(q < 0 ? p : 1 - p));
  return Math.sign(q) * ratio(r - 1.6, TAIL);
}

/** Distribution function of the standard normal, by its power series (0 or 1 beyond 8 deviations). */
export function normalCdf(x: number): number {
  if (Math.abs(x) > 8) return x < 0 ? 0 : 1;
  let term = x;
  let sum = x;
  for (let k = 3; Math.abs(term) > 1e-18; k += 2) {
    term *= (x * x) / k;
    sum += term;
  }
  return 0.5 + sum * Math.exp(-0.5 * x * x) * 0.3989422804014327;
}

/** Draws `size` numbers; `map` takes a uniform number strictly between 0 and 1 (24 bits, centred in its cell). */
function draw(size: number, seed: number, site: number, map: (u: number) => number): Float32Array {
  const values = new Float32Array(size);
  for (let i = 0; i < size; i += 4) {
    const words = philox(seed, site, 0, i / 4);
    const lanes = Math.min(4, size - i);
    for (let lane = 0; lane < lanes; lane++) values[i + lane] = map((((words[lane] as number) >>> 8) + 0.5) / 16777216);
  }
  return values;
}

/**
 * Makes the parameters of one model. Parameter number i draws from Philox(seed, site + i), so a
 * model's start depends on its seed and structure alone, and values appear only when they are used.
 */
export class Init {
  private made = 0;

  /** `bound`: where `weight` cuts its normal law (official: +-2 in Swin and SwinV2, +-0.02 in ViT). `site`: of the first parameter. */
  constructor(
    private readonly seed: number,
    private readonly bound = 2,
    private readonly site: number = rngSites.initial,
  ) {}

  /**
   * Normal(0, std) restricted to [-bound, bound] through its inverse distribution function, as timm's
   * `trunc_normal_`, times `scale`. The uniform numbers never reach 0 or 1, where timm's float32 draw
   * now and then yields a weight of exactly +-bound (100 deviations for std 0.02).
   */
  truncNormal(shape: readonly number[], std: number, bound: number, scale = 1): Parameter {
    const low = normalCdf(-bound / std);
    const width = normalCdf(bound / std) - low;
    return this.parameter(shape, (u) => scale * std * normalQuantile(low + width * u));
  }

  /** A matrix or token as both official repositories draw it: std 0.02, cut at this model's bound. */
  weight(shape: readonly number[], scale = 1): Parameter {
    return this.truncNormal(shape, 0.02, this.bound, scale);
  }

  /** Uniform in +-1/sqrt(fanIn): PyTorch's default for the weight and bias of a convolution. */
  fanIn(shape: readonly number[], fanIn: number): Parameter {
    const bound = 1 / Math.sqrt(fanIn);
    return this.parameter(shape, (u) => bound * (2 * u - 1));
  }

  /** The same value everywhere. */
  constant(shape: readonly number[], value: number): Parameter {
    this.made++;
    const size = shape.reduce((product, n) => product * n, 1);
    return new Parameter(shape, () => new Float32Array(size).fill(value));
  }

  private parameter(shape: readonly number[], map: (u: number) => number): Parameter {
    const site = this.site + this.made++;
    const size = shape.reduce((product, n) => product * n, 1);
    return new Parameter(shape, () => draw(size, this.seed, site, map));
  }
}
