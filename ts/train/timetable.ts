import { SimmimError } from '../errors';
import type { RunRecipe } from './recipe';
import { initialRate, learningRate, makeSchedule, type Schedule } from './schedule';

/** The images of one update over the reference batch of 512, to which the recipe's rates refer. */
const REFERENCE_BATCH = 512;

/**
 * When what happens: how many updates a run has, which rate each uses, where epochs end. A pure function
 * of the recipe and of the number of batches in an epoch.
 */
export class Timetable {
  /** Updates of the whole run. */
  readonly updates: number;
  /** Micro steps of one update. */
  readonly accumulation: number;
  /** Batches at the end of each epoch that never become an update (official behaviour only). */
  readonly droppedBatches: number;
  private readonly schedule: Schedule;
  private readonly baseLr: number;

  /** Throws `invalid_argument` when an epoch is too short for one update. */
  constructor(private readonly recipe: RunRecipe, readonly batchesPerEpoch: number) {
    const { epochs, accumulation, batchSize } = recipe.train;
    const official = recipe.quirks.schedulerCountsDroppedSteps;
    this.accumulation = accumulation;
    this.droppedBatches = official ? batchesPerEpoch % accumulation : 0;
    this.updates = official ? epochs * Math.floor(batchesPerEpoch / accumulation) : Math.floor((epochs * batchesPerEpoch) / accumulation);
    if (this.updates < 1) {
      throw new SimmimError('invalid_argument', 'train.accumulation', `is ${accumulation} batches of ${batchSize} images, but ${official ? 'an epoch' : 'the whole run'} has ${official ? batchesPerEpoch : epochs * batchesPerEpoch}: no update would ever happen`);
    }
    const scale = recipe.optimizer.scaleLr ? (batchSize * accumulation) / REFERENCE_BATCH : 1;
    const perEpoch = official ? batchesPerEpoch : batchesPerEpoch / accumulation;
    const inSteps = (inEpochs: number): number => Math.round(inEpochs * perEpoch);
    const s = recipe.schedule;
    this.baseLr = recipe.optimizer.baseLr * scale;
    this.schedule = makeSchedule({
      name: s.name, steps: official ? epochs * batchesPerEpoch : this.updates, warmupSteps: Math.min(inSteps(s.warmupEpochs), official ? Infinity : this.updates),
      warmupLr: recipe.optimizer.warmupLr * scale, minLr: recipe.optimizer.minLr * scale, warmupPrefix: s.warmupPrefix,
      decaySteps: Math.max(1, inSteps(s.decayEpochs)), decayRate: s.decayRate, milestones: s.milestones.map(inSteps), gamma: s.gamma,
    });
  }

  /**
   * The learning rate of update `u`, counted from 0, of parameters whose base rate is `scale` times the recipe's. Warm-up
   * starts, and the cosine ends, at the same rate for all (official code), so it is not `scale` times that of the others.
   */
  lr(u: number, scale = 1): number {
    const base = this.baseLr * scale;
    if (!this.recipe.quirks.lrLag) return learningRate(this.schedule, base, this.counter(u, 0));
    return u === 0 ? initialRate(this.schedule, base) : learningRate(this.schedule, base, this.counter(u - 1, this.accumulation - 1));
  }

  /** Epoch of update `u`. */
  epoch(u: number): number {
    if (this.recipe.quirks.schedulerCountsDroppedSteps) return Math.floor(u / this.updatesPerFullEpoch());
    return Math.floor((u * this.accumulation) / this.batchesPerEpoch);
  }

  /** Where the schedule stands at micro step `micro` of update `u`. */
  private counter(u: number, micro: number): number {
    if (!this.recipe.quirks.schedulerCountsDroppedSteps) return u;
    const perEpoch = this.updatesPerFullEpoch();
    return Math.floor(u / perEpoch) * this.batchesPerEpoch + (u % perEpoch) * this.accumulation + micro;
  }

  private updatesPerFullEpoch(): number {
    return Math.floor(this.batchesPerEpoch / this.accumulation);
  }
}
