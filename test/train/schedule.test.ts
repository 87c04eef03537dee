import { expect, test } from 'vitest';
import { initialRate, learningRate, makeSchedule, type ScheduleName } from '../../ts/train/schedule';
import { fixtures, readFixture } from '../helpers/golden';

interface Case {
  repo: string; name: ScheduleName; epochs: number; n_iter_per_epoch: number; warmup_epochs: number; base_lrs: number[];
  warmup_lr: number; min_lr: number; warmup_prefix?: boolean; decay_epochs?: number; decay_rate?: number;
  multisteps?: number[]; gamma?: number; lr_initial: number[]; lr_after_update: number[][]; lr_used: number[][];
}

const TOLERANCE = 1e-15; // golden/README.md

for (const fixture of fixtures(/^schedulers/)) {
  readFixture<{ cases: Case[] }>(fixture).json.cases.forEach((c, index) => {
    test(`${fixture} case ${index}: ${c.repo} ${c.name}, warm-up ${c.warmup_epochs}`, () => {
      const n = c.n_iter_per_epoch;
      const schedule = makeSchedule({
        name: c.name, steps: c.epochs * n, warmupSteps: c.warmup_epochs * n, warmupLr: c.warmup_lr, minLr: c.min_lr,
        warmupPrefix: c.warmup_prefix ?? false, decaySteps: (c.decay_epochs ?? 1) * n, decayRate: c.decay_rate ?? 1,
        milestones: (c.multisteps ?? []).map((m) => m * n), gamma: c.gamma ?? 0.1,
      });
      c.base_lrs.forEach((base, column) => {
        expect(Math.abs(initialRate(schedule, base) - (c.lr_initial[column] as number))).toBeLessThanOrEqual(TOLERANCE);
        c.lr_after_update.forEach((rates, t) => {
          expect(Math.abs(learningRate(schedule, base, t) - (rates[column] as number)), `t = ${t}`).toBeLessThanOrEqual(TOLERANCE);
        });
        c.lr_used.forEach((rates, t) => {
          const lagging = t === 0 ? initialRate(schedule, base) : learningRate(schedule, base, t - 1);
          expect(Math.abs(lagging - (rates[column] as number)), `used at ${t}`).toBeLessThanOrEqual(TOLERANCE);
        });
      });
    });
  });
}

test('bad schedules are refused by name', () => {
  expect(() => makeSchedule({ name: 'cosine', steps: 0 })).toThrow('schedule: steps is 0');
  expect(() => makeSchedule({ name: 'cosine', steps: 4, warmupSteps: 5 })).toThrow('warm-up is 5 steps, expected 0 to 4');
  expect(() => makeSchedule({ name: 'multistep', steps: 9, warmupSteps: 4, milestones: [2] })).toThrow('first milestone is step 2');
});
