import * as tf from '@tensorflow/tfjs-core';
import { randomValues, type RandomValuesOptions } from '../ops/random_values';
import { rngSites } from './context';
import { Parameter } from './module';

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
    return this.parameter(shape, { law: 'normal', low: normalCdf(-bound / std), high: normalCdf(bound / std), scale: scale * std });
  }

  /** A matrix or token as both official repositories draw it: std 0.02, cut at this model's bound. */
  weight(shape: readonly number[], scale = 1): Parameter {
    return this.truncNormal(shape, 0.02, this.bound, scale);
  }

  /** Uniform in +-1/sqrt(fanIn): PyTorch's default for the weight and bias of a convolution. */
  fanIn(shape: readonly number[], fanIn: number): Parameter {
    return this.parameter(shape, { law: 'uniform', low: -1, high: 1, scale: 1 / Math.sqrt(fanIn) });
  }

  /** The same value everywhere. */
  constant(shape: readonly number[], value: number): Parameter {
    this.made++;
    return new Parameter(shape, () => tf.fill([...shape], value, 'float32'));
  }

  private parameter(shape: readonly number[], law: Omit<RandomValuesOptions, 'seed' | 'site'>): Parameter {
    const site = this.site + this.made++;
    return new Parameter(shape, () => randomValues(shape, { seed: this.seed, site, ...law }));
  }
}
