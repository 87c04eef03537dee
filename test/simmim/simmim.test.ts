import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { backward } from '../../ts/autodiff';
import { createEncoder } from '../../ts/models';
import { disposeModel, namedParameters } from '../../ts/nn/module';
import { headNames, Masking, SimMIM, type SimMIMOptions, type TargetSpec } from '../../ts/simmim';
import { testContext } from '../helpers/model_fixture';

beforeAll(async () => {
  await tf.setBackend('cpu');
});

const palette = [[0.1, 0.1, 0.1], [0.9, 0.9, 0.9], [0.8, 0.2, 0.1], [0.1, 0.5, 0.9]];
const targets: [string, TargetSpec][] = [
  ['rgb', { kind: 'rgb' }],
  ['rgb at 1/8', { kind: 'rgb', resolution: 8 }],
  ['rgb at 1/16, coarser than the mask', { kind: 'rgb', resolution: 4 }],
  ['rgb normalised per patch', { kind: 'rgb', normalise: 'patch', size: 16 }],
  ['rgb normalised in a window', { kind: 'rgb', normalise: 'window', size: 7 }],
  ['8 bins', { kind: 'bins', bins: 8, resolution: 16 }],
  ['clusters', { kind: 'clusters', palette, resolution: 16 }],
  ['tokens', { kind: 'tokens', vocabulary: 11, resolution: 4 }],
];

/** The smallest Swin with stride 32, which all heads fit. */
function tinySwin() {
  return createEncoder('swin_tiny', { imageSize: 64, embedDim: 4, depths: [1, 1, 1, 1], heads: [1, 1, 1, 2], windowSize: 4 });
}

/** A smooth picture [1, 3, 64, 64], about normalised. */
function picture(): tf.Tensor {
  return tf.tensor(Float32Array.from({ length: 3 * 64 * 64 }, (_, i) => Math.sin((i % 64) / 9 + Math.floor(i / 4096)) + Math.cos(Math.floor(i / 64) / 13)), [1, 3, 64, 64]);
}

/** The loss on one batch before and after two gradient steps against it. */
function descend(model: SimMIM, rate: number): [number, number] {
  const parameters = [...namedParameters(model).values()];
  const images = picture();
  const ctx = testContext({ training: true });
  const mask = new Masking({ kind: 'random', patch: 16, ratio: 0.6 }, [64, 64], 4).onDevice(ctx.clock, 1);
  const tokens = tf.tensor(Int32Array.from({ length: 16 }, (_, i) => (i * 3) % 11), [1, 4, 4], 'int32');
  const losses: number[] = [];
  for (let step = 0; step < 2; step++) {
    const gradients: (tf.Tensor | undefined)[] = [];
    const loss = backward(() => model.loss(images, mask, ctx, tokens), parameters.map((p) => p.value), (i, g) => {
      gradients[i] = tf.keep(tf.clone(g));
    });
    losses.push(loss.dataSync()[0] as number);
    tf.tidy(() => {
      // Sign steps reach every parameter whatever its scale.
      parameters.forEach((p, i) => p.value.assign(tf.sub(p.value, tf.mul(tf.sign(gradients[i] as tf.Tensor), rate))));
    });
    tf.dispose([loss, ...gradients.filter((g): g is tf.Tensor => g !== undefined)]);
  }
  const last = tf.tidy(() => model.loss(images, mask, ctx, tokens).dataSync()[0] as number);
  tf.dispose([images, mask, tokens, ctx.clock]);
  return [losses[0] as number, last];
}

describe('SimMIM', () => {
  it.each(targets)('learns %s with the linear head', (_, target) => {
    const losses = target.kind === 'rgb' ? (['l1', 'l2', 'smooth_l1'] as const) : (['cross_entropy'] as const);
    for (const kind of losses) {
      for (const maskedOnly of [true, false]) {
        const model = new SimMIM(tinySwin(), { target, loss: { kind }, maskedOnly });
        const [first, last] = descend(model, 2e-3);
        expect(last, `${kind}, ${maskedOnly ? 'hidden pixels' : 'all pixels'}`).toBeLessThan(first);
        disposeModel(model);
      }
    }
  });

  it('learns with the MLP head, and gives a picture at the target resolution', () => {
    for (const [, target] of targets) {
      const model = new SimMIM(tinySwin(), { head: 'mlp', target });
      const [first, last] = descend(model, 2e-3);
      expect(last).toBeLessThan(first);
      const ctx = testContext();
      const shown = target.kind === 'tokens' ? null : tf.tidy(() => model.reconstruct(picture(), null, ctx).shape);
      if (shown) expect(shown).toEqual([1, 3, ...model.target.resolution]);
      ctx.clock.dispose();
      disposeModel(model);
    }
  });

  it('runs an inverse Swin head to full size', () => {
    const model = new SimMIM(tinySwin(), { head: 'inverse_swin_tiny', target: { kind: 'bins', bins: 8 } });
    const ctx = testContext();
    const shape = tf.tidy(() => model.reconstruct(picture(), null, ctx).shape);
    expect(shape).toEqual([1, 3, 64, 64]);
    ctx.clock.dispose();
    disposeModel(model);
  });

  it('counts hidden pixels only, unless asked for all', () => {
    const [hidden, all] = [true, false].map((maskedOnly) => {
      const model = new SimMIM(tinySwin(), { maskedOnly });
      const ctx = testContext();
      const value = tf.tidy(() => model.loss(picture(), tf.zeros([1, 16, 16]), ctx).dataSync()[0] as number);
      ctx.clock.dispose();
      disposeModel(model);
      return value;
    });
    expect(hidden).toBe(0);
    expect(all).toBeGreaterThan(0.1);
  });

  it('turns class predictions into the colours they stand for', () => {
    const pictureOf = (target: TargetSpec): number[] => {
      const model = new SimMIM(tinySwin(), { target: { ...target, resolution: 2 } });
      const best = model.target.values === 4 ? [2] : [1, 3, 7].map((bin, channel) => channel * 8 + bin);
      const logits = Float32Array.from({ length: 4 * model.target.values }, (_, i) => (best.includes(i % model.target.values) ? 1 : 0));
      const shown = model.target.picture(tf.tensor(logits, [1, 2, 2, model.target.values]));
      return [0, 4, 8].map((i, c) => (shown.dataSync()[i] as number) * ([0.229, 0.224, 0.225][c] as number) + ([0.485, 0.456, 0.406][c] as number));
    };
    const near = (got: number[], expected: number[]): void => got.forEach((v, i) => expect(v).toBeCloseTo(expected[i] as number, 5));
    near(pictureOf({ kind: 'clusters', palette }), [0.8, 0.2, 0.1]);
    near(pictureOf({ kind: 'bins', bins: 8 }), [1.5 / 8, 3.5 / 8, 7.5 / 8]);
  });

  it.each<[SimMIMOptions, string]>([
    [{ loss: { kind: 'cross_entropy' } }, 'loss cross_entropy does not fit target rgb: it has colours, which l1, l2 and smooth_l1 compare'],
    [{ target: { kind: 'bins', bins: 8 }, loss: { kind: 'l1' } }, 'loss l1 does not fit target bins: it has classes, which only cross_entropy compares'],
    [{ target: { kind: 'bins', bins: 1 } }, 'bins is 1, expected a whole number from 2 to 256'],
    [{ target: { kind: 'rgb', resolution: 24 } }, 'resolution is 24x24, expected one that divides the image 64x64'],
    [{ target: { kind: 'rgb', resolution: 1 } }, 'a target of 1x1 is not a whole number of pixels for each of the 2x2 outputs of swin_tiny'],
    [{ target: { kind: 'rgb', resolution: 32, normalise: 'window' } }, 'normalised targets are defined at full size, but resolution is 32x32'],
    [{ target: { kind: 'rgb', normalise: 'window', size: 8 } }, 'size is 8, expected an odd number of at least 3'],
    [{ target: { kind: 'clusters', palette: [[0, 0, 0], [2, 0, 0]] } }, 'palette has the colour [2, 0, 0], expected 3 values between 0 and 1'],
    [{ head: 'inverse_swin_base', target: { kind: 'rgb', resolution: 32 } }, 'inverse_swin_base predicts at full size 64x64, but the target is 32x32'],
    [{ head: 'inverse' as 'linear' }, "unknown head 'inverse', expected one of " + headNames.join(', ')],
    [{ statistics: { mean: [0], std: [1] } }, 'statistics have 1 means and 1 deviations, expected 3'],
  ])('refuses %j', (options, message) => {
    expect(() => new SimMIM(tinySwin(), options)).toThrow(message);
  });
});
