import { describe, expect, test } from 'vitest';
import { randomValues, type RandomValuesOptions } from '../../ts/ops';
import { naturalLog, normalQuantile } from '../../ts/ops/random_values';
import { checkOp } from '../helpers/check_op';
import { firstBitDifference } from '../helpers/compare';
import { activate, alikeDevices, COMPOSED, lacking, nativeDevices } from '../helpers/devices';
import { randomValuesSpec } from './random_values.cases';

checkOp(randomValuesSpec);

/** The distance of neighbouring doubles at x. */
const ulp = (x: number): number => 2 ** (Math.floor(Math.log2(Math.abs(x))) - 52);

test('the logarithm is that of Math.log to 2 ulps, at every probability of 24 bits outside the central region', () => {
  let worst = 0;
  for (let i = 0; i < 0.075 * 2 ** 24; i++) {
    const p = (i + 0.5) / 2 ** 24;
    worst = Math.max(worst, Math.abs(naturalLog(p) - Math.log(p)) / ulp(Math.log(p)));
  }
  expect(worst).toBeLessThanOrEqual(2);
});

test('quantiles are odd about 1/2 and rise', () => {
  const wrong: number[] = [];
  let before = -Infinity;
  for (let i = 0; i < 2 ** 24; i += 61) {
    const p = (i + 0.5) / 2 ** 24;
    const quantile = normalQuantile(p);
    if (!(quantile === -normalQuantile(1 - p) && quantile > before)) wrong.push(p);
    before = quantile;
  }
  expect(wrong).toEqual([]);
});

const COUNT = 300_001;
const law = { seed: 11, site: 7, scale: 0.02 };
const LAWS: [string, RandomValuesOptions][] = [
  ['the whole normal law', { ...law, law: 'normal', low: 0, high: 1 }],
  ['cut at one deviation', { ...law, law: 'normal', low: 0.15865525393145707, high: 0.8413447460685429 }],
  // The ends alone, at every exponent of a probability that there is.
  ['the lower end', { ...law, law: 'normal', low: 0, high: 0.075 }],
  ['the lower end of it', { ...law, law: 'normal', low: 0, high: 2 ** -10 }],
  ['the upper end', { ...law, law: 'normal', low: 0.925, high: 1 }],
  ['about where the formulas change', { ...law, law: 'normal', low: 0.07499, high: 0.07501 }],
  ['uniform', { ...law, law: 'uniform', low: -1, high: 1 }],
];

describe.skipIf(lacking('random_values')).each(nativeDevices())('random_values on $name has the bits of its definition', (device) => {
  test.each(LAWS)('%s', async (_, options) => {
    const drawn = async (on: typeof device): Promise<Float32Array> => {
      await activate(on);
      const y = randomValues([COUNT], options);
      const values = y.dataSync<'float32'>();
      y.dispose();
      return values;
    };
    const want = await drawn(COMPOSED);
    for (const alike of [device, ...alikeDevices(device, [2, 5])]) expect(firstBitDifference(await drawn(alike), want), alike.name).toBeNull();
  });
});
