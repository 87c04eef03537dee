import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { createEncoder } from '../../ts/models';
import { countParameters, namedParameters, type Parameter } from '../../ts/nn/module';
import { SimMIM } from '../../ts/simmim';
import { fixtures, readFixture } from '../helpers/golden';

/** name, shape, mean, std, min, max of one official draw. */
type Row = [string, number[], number, number, number, number];

interface Manifest {
  stage: string;
  img_size: number;
  num_params: number;
  encoder_params?: number;
  tensors?: Row[];
}

interface Statistics {
  mean: number;
  std: number;
  min: number;
  max: number;
}

function statistics(parameter: Parameter): Statistics {
  const values = parameter.value.dataSync();
  parameter.dispose();
  let [sum, squares, min, max] = [0, 0, Infinity, -Infinity];
  for (const v of values) {
    sum += v;
    squares += v * v;
    min = Math.min(min, v);
    max = Math.max(max, v);
  }
  const mean = sum / values.length;
  const variance = Math.max(0, squares / values.length - mean * mean);
  return { mean, std: min === max ? 0 : Math.sqrt(variance * (values.length / Math.max(1, values.length - 1))), min, max };
}

/**
 * The official deviation without the rare values of exactly -2 or 2, where the original truncated normal hits the
 * end of its uniform draw (golden README); ours never does.
 */
function withoutStrays({ std, min, max }: Statistics, n: number): number {
  const strays = (min === -2 ? 1 : 0) + (max === 2 ? 1 : 0);
  return Math.sqrt(std * std - (strays * 4) / n);
}

/**
 * What two draws of one law may differ by: 5 standard errors of the difference (the laws are normal or flatter,
 * so the error of a standard deviation is at most std / sqrt(2 n)), and the manifest's rounding to 4 digits.
 */
function unlike(name: string, shape: number[], ours: Statistics, official: Statistics): string[] {
  const n = shape.reduce((a, b) => a * b, 1);
  const theirs = { ...official, std: withoutStrays(official, n) };
  const rounding = 5e-4;
  const bounds: [keyof Statistics, number][] = [
    ['mean', 5 * Math.SQRT2 * theirs.std / Math.sqrt(n) + rounding * Math.abs(theirs.mean)],
    ['std', 5 * Math.SQRT2 * theirs.std / Math.sqrt(2 * n) + rounding * theirs.std],
  ];
  // A constant has nothing but rounding; a bounded law comes near its bounds with enough draws.
  if (theirs.std === 0) bounds.push(['min', rounding * Math.abs(theirs.min)], ['max', rounding * Math.abs(theirs.max)]);
  const bounded = theirs.std > 0 && theirs.max < 2.2 * theirs.std && n > 5000;
  if (bounded) bounds.push(['min', 0.01 * theirs.std], ['max', 0.01 * theirs.std]);
  return bounds.filter(([key, bound]) => !(Math.abs(ours[key] - theirs[key]) <= bound)).map(([key]) => `${name}: ${key} is ${ours[key]}, official ${theirs[key]}`);
}

const entries = fixtures(/^manifest_/).flatMap((file) =>
  Object.entries(readFixture<Record<string, Manifest>>(file).json)
    .filter(([, manifest]) => typeof manifest === 'object' && manifest.stage === 'pretrain')
    .map(([key, manifest]): [string, Manifest] => [key.replace(/_pretrain$/, ''), manifest]));

describe.each(entries)('%s at its pre-training size', (preset, manifest) => {
  beforeAll(async () => {
    await tf.setBackend('cpu');
  });

  it('has the official number of parameters, counted without memory', () => {
    const model = new SimMIM(createEncoder(preset, { imageSize: manifest.img_size }));
    expect(countParameters(model)).toBe(manifest.num_params);
    if (manifest.encoder_params !== undefined) expect(countParameters(model.encoder)).toBe(manifest.encoder_params);
    expect([...namedParameters(model).values()].some((p) => p.allocated)).toBe(false);
  });

});

describe.each(entries.filter(([, manifest]) => manifest.tensors))('%s parameter by parameter', (preset, manifest) => {
  beforeAll(async () => {
    await tf.setBackend('cpu');
  });

  it('has the official names, order, shapes and starting laws', () => {
    const model = new SimMIM(createEncoder(preset, { imageSize: manifest.img_size, seed: 3 }), { seed: 3 });
    const parameters = namedParameters(model);
    const rows = manifest.tensors ?? [];
    expect([...parameters.keys()]).toEqual(rows.map(([name]) => name));
    const problems = rows.flatMap(([name, shape, mean, std, min, max]) => {
      const parameter = parameters.get(name) as Parameter;
      if (parameter.shape.join() !== shape.join()) return [`${name}: [${parameter.shape.join()}], official [${shape.join()}]`];
      return unlike(name, shape, statistics(parameter), { mean, std, min, max });
    });
    expect(problems).toEqual([]);
  });
});
