import { expect, test } from 'vitest';
import { encoderNames } from '../../ts/models';
import { planModel } from '../../ts/train/plan';
import { fixtures, readFixture } from '../helpers/golden';

interface Entry { stage: string; img_size: number; num_params: number; encoder_params?: number; official_flops_method?: number }

for (const fixture of fixtures(/^manifest_/)) {
  for (const [name, entry] of Object.entries(readFixture<Record<string, Entry>>(fixture).json)) {
    const preset = name.replace(/_pretrain$/, '');
    if (entry.stage !== 'pretrain' || !encoderNames.includes(preset)) continue;
    test(`${name}: parameters and multiply-adds as the official code counts them`, () => {
      const plan = planModel({ encoder: preset, imageSize: entry.img_size });
      expect(plan.parameters).toBe(entry.num_params);
      if (entry.encoder_params !== undefined) expect(plan.encoderParameters).toBe(entry.encoder_params);
      if (entry.official_flops_method !== undefined) expect(plan.encoderMacs).toBe(entry.official_flops_method);
    });
  }
}

test('every preset can be planned without memory', () => {
  for (const encoder of encoderNames) expect(planModel({ encoder }).activationBytes).toBeGreaterThan(0);
});
