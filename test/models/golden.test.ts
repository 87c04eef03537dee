import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backward } from '../../ts/autodiff';
import { countParameters, disposeModel } from '../../ts/nn/module';
import { CPU_BACKEND } from '../../ts/backend';
import { OWN_BACKEND } from '../helpers/devices';
import { fixtures, maxAbsDiff } from '../helpers/golden';
import { modelFromFixture, testContext, type ModelFixture } from '../helpers/model_fixture';

/** Backends that run the models. */
const devices = OWN_BACKEND === CPU_BACKEND ? ['cpu', CPU_BACKEND] : [OWN_BACKEND];

/** [B, h, w, C] as the official [B, C, h, w]. */
function planar(z: tf.Tensor): tf.Tensor {
  return tf.transpose(z, [0, 3, 1, 2]);
}

describe.each(devices)('pre-training models against the official code on %s', (device) => {
  beforeAll(async () => {
    await tf.setBackend(device);
  });

  describe.each(fixtures(/^simmim_/))('%s', (name) => {
    let loaded: ModelFixture;
    beforeAll(() => {
      loaded = modelFromFixture(name);
    });
    afterAll(() => disposeModel(loaded.model));

    it('has the official parameters', () => {
      expect(countParameters(loaded.model)).toBe(loaded.fixture.json.num_params);
    });

    it('gives the official activations, reconstruction and loss', () => {
      const { fixture, model } = loaded;
      const { tolerance, loss } = fixture.json;
      tf.tidy(() => {
        const { images, mask } = loaded.batch(0);
        const seen = new Map<string, tf.Tensor>();
        const ctx = testContext({ observe: (what, value) => seen.set(what, value) });
        const pred = model.predict(images, mask, ctx);
        const close = (what: string, got: tf.Tensor, bound: number): void => {
          const worst = maxAbsDiff(got.dataSync(), fixture.values(what));
          expect(worst, `${what} differs by ${worst}`).toBeLessThanOrEqual(bound);
        };
        for (const [act, bound] of Object.entries(tolerance.act)) {
          const got = seen.get(act);
          expect(got, `activation ${act}`).toBeDefined();
          close(`act/${act}`, got as tf.Tensor, bound);
        }
        close('out/z', planar(seen.get('z') as tf.Tensor), tolerance.z);
        close('out/x_rec', model.target.picture(pred), tolerance.x_rec);
        const difference = Math.abs((model.loss(images, mask, testContext()).dataSync()[0] as number) - loss);
        expect(difference).toBeLessThanOrEqual(tolerance.loss);
      });
    });

    it('gives the official gradient of every parameter', () => {
      const { fixture, model, parameters } = loaded;
      const names = [...parameters.keys()];
      const worst = new Map<string, number>();
      const { images, mask } = loaded.batch(0);
      const ctx = testContext({ training: true });
      const variables = names.map((n) => (parameters.get(n) as { value: tf.Variable }).value);
      backward(() => model.loss(images, mask, ctx), variables, (index, gradient) => {
        const parameter = names[index] as string;
        worst.set(parameter, maxAbsDiff(gradient.dataSync(), fixture.values(`grad/${parameter}`)));
      }).dispose();
      tf.dispose([images, mask, ctx.clock]);
      const beyond = names.filter((n) => !((worst.get(n) ?? Infinity) <= (fixture.json.tolerance.grad[n] ?? 0)));
      expect(beyond.map((n) => `${n}: ${worst.get(n)} > ${fixture.json.tolerance.grad[n]}`)).toEqual([]);
    });
  });
});
