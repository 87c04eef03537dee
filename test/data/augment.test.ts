import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { describe, expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { fixtures, maxAbsDiff, readFixture } from '../helpers/golden';
import { erasing, erasingBox, eraseInto } from '../../ts/data/erasing';
import { cutmixBox, drawMixes, mixTargets, mixup, type Mix } from '../../ts/data/mixup';
import { OPERATIONS, applyOperation, applyRandAugment, colorJitter, randAugment } from '../../ts/data/rand_augment';
import type { DecodedImage } from '../../ts/data/resample';
import { Rng } from '../../ts/rng';
import { mixImages, mixInputs } from '../../ts/train/classify_task';

interface AugmentJson {
  randaugment: { fill: [number, number, number]; ops: { key: string; op: string; magnitude: number; sign: 'plus' | 'minus'; argument: number[] }[] };
  erasing: { probability: number; area: [number, number]; aspect: [number, number]; cases: { uniforms: number[]; erased: boolean; uniforms_used: number; top?: number; left?: number; height?: number; width?: number }[] };
  mix: { num_classes: number; label_smoothing: number; cases: { lam: number; u_box?: [number, number]; kind: 'mixup' | 'cutmix'; box?: [number, number, number, number]; lambda_corrected?: number }[] };
}

for (const name of fixtures(/^augment/)) {
  const fixture = readFixture<AugmentJson>(name);

  describe(`${name}: RandAugment`, () => {
    const [height, width] = fixture.shape('randaugment/image') as [number, number];
    const image: DecodedImage = { width, height, data: fixture.values('randaugment/image') as Uint8Array };
    for (const op of fixture.json.randaugment.ops) {
      test(op.key, () => {
        const sign = op.sign === 'minus' ? -1 : 1;
        const argument = OPERATIONS[op.op]?.argument(op.magnitude, sign);
        if (op.argument.length > 0) expect(argument).toBeCloseTo(op.argument[0] as number, 12);
        const before = image.data.slice();
        const got = applyOperation(op.op, image, op.magnitude, sign, fixture.json.randaugment.fill);
        expect(maxAbsDiff(got.data, fixture.values(op.key))).toBe(0);
        expect(image.data).toEqual(before);
      });
    }
  });

  describe(`${name}: erasing`, () => {
    const { cases, ...options } = fixture.json.erasing;
    const [, height, width] = fixture.shape('erasing/input') as [number, number, number];
    cases.forEach((c, i) => {
      test(`case ${i}`, () => {
        let used = 0;
        const box = erasingBox(height, width, erasing({ probability: options.probability, area: options.area, aspect: options.aspect }), () => c.uniforms[used++] ?? NaN);
        expect(used).toBe(c.uniforms_used);
        const image = (fixture.values('erasing/input') as Float32Array).slice();
        if (c.erased) {
          expect(box).toEqual({ top: c.top, left: c.left, height: c.height, width: c.width });
          const noise = fixture.values(`erasing/${i}/noise`);
          let at = 0;
          if (box) eraseInto(image, height, width, box, () => noise[at++] as number);
        } else expect(box).toBeNull();
        expect(maxAbsDiff(image, fixture.values(`erasing/${i}/output`))).toBe(0);
      });
    });
  });

  describe(`${name}: mixup and cutmix`, () => {
    const { cases, num_classes, label_smoothing } = fixture.json.mix;
    const [batch, , height, width] = fixture.shape('mix/images') as [number, number, number, number];
    cases.forEach((c, i) => {
      test.each([CPU_BACKEND, 'cpu'])(`case ${i}: ${c.kind} on %s`, async (backend) => {
        await tf.setBackend(backend);
        const mix: Mix = c.kind === 'mixup' ? { lambda: c.lam, box: null } : cutmixBox(height, width, c.lam, ...(c.u_box as [number, number]));
        if (c.kind === 'cutmix') expect(mix).toEqual({ lambda: c.lambda_corrected, box: c.box });
        const mixes = new Array<Mix>(batch).fill(mix);
        const inputs = mixInputs(mixes, height, width);
        const on = (name: keyof typeof inputs): tf.Tensor => tf.tensor(inputs[name].values, [...inputs[name].shape]);
        const images = mixImages(tf.tensor(fixture.values('mix/images'), [batch, 3, height, width]), { own: on('own'), partner: on('partner'), rows: on('rows'), columns: on('columns') });
        expect(maxAbsDiff(images.dataSync(), fixture.values(`mix/${i}/images`))).toBe(0);
        const targets = mixTargets(fixture.values('mix/labels'), mixes, mixup({ classes: num_classes, labelSmoothing: label_smoothing }));
        expect(maxAbsDiff(targets, fixture.values(`mix/${i}/targets`))).toBeLessThanOrEqual(2 ** -23); // 2 float32 ulps of 1/2: torch may fuse
      });
    });
  });
}

describe('augmentation draws', () => {
  test('mixes are fixed by (seed, epoch, step), symmetric in pairs, and lambda has the Beta mean and variance', () => {
    const o = mixup({ classes: 3, mode: 'pair' });
    const mixes = drawMixes(o, 8, 16, 16, 1, 2, 3);
    expect(mixes).toEqual(drawMixes(o, 8, 16, 16, 1, 2, 3));
    expect(mixes).not.toEqual(drawMixes(o, 8, 16, 16, 1, 2, 4));
    for (let i = 0; i < 4; i++) expect(mixes[i]).toEqual(mixes[7 - i]);
    const whole = drawMixes(mixup({ classes: 3 }), 8, 16, 16, 1, 2, 3);
    for (const m of whole) expect(m).toEqual(whole[0]);
    const only = mixup({ classes: 3, mode: 'elem', cutmixAlpha: 0 });
    const lambdas = drawMixes(only, 4000, 16, 16, 7, 0, 0).map((m) => m.lambda);
    const mean = lambdas.reduce((a, b) => a + b, 0) / lambdas.length;
    const variance = lambdas.reduce((a, b) => a + (b - mean) ** 2, 0) / lambdas.length;
    const expected = 1 / (4 * (2 * 0.8 + 1)); // Beta(a, a)
    expect(Math.abs(mean - 0.5)).toBeLessThan(4 * Math.sqrt(expected / 4000));
    expect(Math.abs(variance / expected - 1)).toBeLessThan(0.1);
    expect(drawMixes(mixup({ classes: 3, probability: 0 }), 2, 4, 4, 0, 0, 0)).toEqual([{ lambda: 1, box: null }, { lambda: 1, box: null }]);
  });

  test('RandAugment and colour jitter depend on the stream alone and keep the size', () => {
    const data = Uint8Array.from({ length: 20 * 30 * 3 }, (_, i) => (i * 37) & 255);
    const image: DecodedImage = { width: 30, height: 20, data };
    const o = randAugment();
    const seen = new Set<string>();
    for (let i = 0; i < 40; i++) {
      const got = applyRandAugment(image, o, new Rng(i));
      expect(got).toEqual(applyRandAugment(image, o, new Rng(i)));
      expect(got.data.length).toBe(data.length);
      seen.add(Buffer.from(got.data).toString('base64'));
      expect(colorJitter(image, 0.4, new Rng(i))).toEqual(colorJitter(image, 0.4, new Rng(i)));
    }
    expect(seen.size).toBeGreaterThan(15);
  });

  test('bad options are refused by name', () => {
    expect(() => randAugment({ magnitude: 11 })).toThrow(/rand_augment: magnitude is 11/);
    expect(() => erasing({ probability: 2 })).toThrow(/erasing: probability is 2/);
    expect(() => mixup({ classes: 0 })).toThrow(/mixup: classes is 0/);
    expect(() => applyOperation('Blur', { width: 1, height: 1, data: new Uint8Array(3) }, 1, 1, [0, 0, 0])).toThrow(/no operation 'Blur'/);
  });
});
