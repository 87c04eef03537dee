import { SimmimError } from '../errors';

/** Names of the learning-rate schedules of the official recipes. */
export const SCHEDULES = ['cosine', 'linear', 'step', 'multistep'] as const;
export type ScheduleName = (typeof SCHEDULES)[number];

/**
 * A learning-rate schedule in units of scheduler steps. Rates belong to a parameter group's own base
 * rate; warm-up start and minimum are shared by all groups (facts of the official code).
 */
export interface Schedule {
  name: ScheduleName;
  /** Length of the whole run, warm-up included. */
  steps: number;
  /** Linear warm-up from `warmupLr` to the base rate over this many steps; 0 = none. */
  warmupSteps: number;
  warmupLr: number;
  /** Cosine: the rate at the end. (Linear ends at 1 % of the base rate, as the original.) */
  minLr: number;
  /** Cosine: true lets the cosine start after warm-up; false (microsoft/SimMIM) starts it at step 0. */
  warmupPrefix: boolean;
  /** Step: one factor `decayRate` per `decaySteps`, counted from step 0. */
  decaySteps: number;
  decayRate: number;
  /** Multistep: one factor `gamma` at each of these steps. */
  milestones: readonly number[];
  gamma: number;
}

const LINEAR_END = 0.01;

/** Checks a schedule and fills what its kind does not use. Throws `invalid_argument`. */
export function makeSchedule(given: Pick<Schedule, 'name' | 'steps'> & Partial<Schedule>): Schedule {
  const schedule: Schedule = {
    warmupSteps: 0, warmupLr: 0, minLr: 0, warmupPrefix: false, decaySteps: 1, decayRate: 1, milestones: [], gamma: 1, ...given,
  };
  const refuse = (message: string): never => {
    throw new SimmimError('invalid_argument', 'schedule', message);
  };
  if (!(schedule.steps >= 1)) refuse(`steps is ${schedule.steps}, expected at least 1: the run has no update`);
  if (schedule.warmupSteps < 0 || schedule.warmupSteps > schedule.steps) {
    refuse(`warm-up is ${schedule.warmupSteps} steps, expected 0 to ${schedule.steps}, the length of the run`);
  }
  if (schedule.name === 'step' && !(schedule.decaySteps >= 1)) refuse(`decaySteps is ${schedule.decaySteps}, expected at least 1`);
  const first = schedule.milestones[0];
  if (schedule.name === 'multistep' && first !== undefined && first < schedule.warmupSteps) {
    refuse(`first milestone is step ${first}, expected one not before the end of warm-up, step ${schedule.warmupSteps}`);
  }
  return schedule;
}

/**
 * The rate of scheduler step `t` (0-based, may lie past the end) for a group with base rate `base`.
 * Equal to timm 0.4.12's schedulers as the official code configures them, to the last bits.
 */
export function learningRate(schedule: Schedule, base: number, t: number): number {
  const { warmupSteps, warmupLr } = schedule;
  if (t < warmupSteps) return warmupLr + t * ((base - warmupLr) / warmupSteps);
  switch (schedule.name) {
    case 'cosine': {
      const length = schedule.warmupPrefix ? schedule.steps - warmupSteps : schedule.steps;
      const at = schedule.warmupPrefix ? t - warmupSteps : t;
      if (at >= length) return schedule.minLr;
      return schedule.minLr + 0.5 * (base - schedule.minLr) * (1 + Math.cos((Math.PI * at) / length));
    }
    case 'linear':
      return base - (base - base * LINEAR_END) * ((t - warmupSteps) / (schedule.steps - warmupSteps));
    case 'step':
      return base * schedule.decayRate ** Math.floor(t / schedule.decaySteps);
    case 'multistep':
      return base * schedule.gamma ** schedule.milestones.filter((milestone) => milestone <= t).length;
  }
}

/** The rate in force before the first scheduler step: the warm-up start, or the base rate without one. */
export function initialRate(schedule: Schedule, base: number): number {
  return schedule.warmupSteps > 0 ? schedule.warmupLr : base;
}
