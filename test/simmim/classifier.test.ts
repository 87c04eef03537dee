import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, it } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { backward } from '../../ts/autodiff/backward';
import { createEncoder } from '../../ts/models';
import { loadPretrained } from '../../ts/models/pretrained';
import { namedParameters } from '../../ts/nn/module';
import { Classifier, smoothedLabels, softCrossEntropy } from '../../ts/simmim';
import type { RawTensor } from '../../ts/formats/raw_tensor';
import { fixtures, maxAbsDiff, readFixture } from '../helpers/golden';
import { encoderOf, testContext, type ModelJson } from '../helpers/model_fixture';

interface Run {
  loss: number[];
  loss_first: number;
}
interface FinetuneJson {
  model: ModelJson & { num_classes: number };
  image_index: number[][];
  label_smoothing: number;
  runs: Record<'label_smoothing' | 'soft_target', Run>;
  tolerance: Record<'label_smoothing' | 'soft_target', { features: number; logits: number; loss: number; grad: number | Record<string, number> }>;
}

describe.each(['cpu', CPU_BACKEND])('on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
  });

  describe.each(fixtures(/^finetune_/))('%s', (name) => {
    const fixture = readFixture<FinetuneJson>(name);
    const { model: m, image_index: index } = fixture.json;
    const ctx = testContext();
    const [, ...shape] = fixture.shape('input/images');
    const pixels = shape.reduce((a, b) => a * b, 1);
    const pool = fixture.values('input/images');
    const rows = index[0] as number[];
    const images = (): tf.Tensor => tf.tensor(Float32Array.from(rows.flatMap((row) => [...pool.subarray(row * pixels, (row + 1) * pixels)])), [rows.length, ...shape]);
    const build = (): Classifier => {
      const model = new Classifier(encoderOf(m), { classes: m.num_classes });
      const state = new Map(fixture.under('param/').map((key) => [key, fixture.raw.get(`param/${key}`) as RawTensor]));
      loadPretrained(namedParameters(model), state, { strict: true });
      return model;
    };

    it('has the official parameters and gives the official features and logits', () => {
      const model = build();
      expect([...namedParameters(model).keys()].sort()).toEqual(fixture.under('param/').sort());
      const tolerance = fixture.json.tolerance.label_smoothing;
      expect(maxAbsDiff(model.features(images(), ctx).dataSync(), fixture.values('out/features'))).toBeLessThanOrEqual(tolerance.features);
      expect(maxAbsDiff(model.logits(images(), ctx).dataSync(), fixture.values('out/logits'))).toBeLessThanOrEqual(tolerance.logits);
    });

    it('gives the official losses and gradients', () => {
      const model = build();
      const [, batch = 0] = fixture.shape('input/labels');
      const labels = tf.tensor1d(Int32Array.from(fixture.values('input/labels').subarray(0, batch)), 'int32');
      const smooth = smoothedLabels(labels, m.num_classes, fixture.json.label_smoothing);
      const parameters = [...namedParameters(model)];
      const gradients = new Map<string, Float32Array>();
      const loss = backward(() => model.loss(images(), smooth, ctx), parameters.map(([, p]) => p.value), (i, gradient) => {
        gradients.set((parameters[i] as [string, unknown])[0], Float32Array.from(gradient.dataSync()));
        gradient.dispose();
      });
      const tolerance = fixture.json.tolerance.label_smoothing;
      expect(Math.abs((loss.dataSync()[0] as number) - fixture.json.runs.label_smoothing.loss_first)).toBeLessThanOrEqual(tolerance.loss);
      for (const key of fixture.under('grad/label_smoothing/')) {
        const allowed = typeof tolerance.grad === 'number' ? tolerance.grad : (tolerance.grad[key] as number);
        expect(maxAbsDiff(gradients.get(key) ?? [], fixture.values(`grad/label_smoothing/${key}`)), key).toBeLessThanOrEqual(allowed);
      }
      const soft = fixture.values('input/soft_targets').subarray(0, batch * m.num_classes);
      const softLoss = model.loss(images(), tf.tensor2d(Float32Array.from(soft), [batch, m.num_classes]), ctx).dataSync()[0] as number;
      expect(Math.abs(softLoss - fixture.json.runs.soft_target.loss_first)).toBeLessThanOrEqual(fixture.json.tolerance.soft_target.loss);
    });
  });

  describe.each(fixtures(/^load_pretrained_/))('%s: pre-trained weights through the classifier', (name) => {
    it('gives the official logits', () => {
      const fixture = readFixture<{ pretrained: Record<string, number & number[]> & { type: string }; finetune: { img_size: number; window: number; num_classes: number }; tolerance: { logits: number } }>(name);
      const { pretrained: p, finetune: f } = fixture.json;
      const common = { imageSize: f.img_size, patchSize: p.patch as number, embedDim: p.embed as number };
      const encoder = p.type === 'swin'
        ? createEncoder('swin_base', { ...common, depths: p.depths as number[], heads: p.heads as number[], windowSize: f.window })
        : createEncoder('vit_base', { ...common, depth: p.depth as number, heads: p.heads as number, relativeBias: 'per_block', finalNorm: false });
      const model = new Classifier(encoder, { classes: f.num_classes });
      const parameters = namedParameters(model);
      const state = new Map(fixture.under('pretrained/').map((key) => [key, fixture.raw.get(`pretrained/${key}`) as RawTensor]));
      const report = loadPretrained(parameters, state);
      for (const key of report.missing) parameters.get(key)?.set(Float32Array.from(fixture.values(`finetune/${key}`)));
      const images = tf.tensor(Float32Array.from(fixture.values('input/images')), fixture.shape('input/images'));
      expect(maxAbsDiff(model.logits(images, testContext()).dataSync(), fixture.values('out/logits'))).toBeLessThanOrEqual(fixture.json.tolerance.logits);
    });
  });
});

describe('Classifier', () => {
  beforeAll(async () => {
    await tf.setBackend('cpu');
  });

  it('refuses what cannot be', () => {
    const encoder = createEncoder('vit_small', { imageSize: 32, depth: 1 });
    expect(() => new Classifier(encoder, { classes: 0 })).toThrow(/classes is 0, expected a whole number/);
    expect(() => softCrossEntropy(tf.zeros([2, 3]), tf.zeros([2, 4]))).toThrow(/targets are \[2, 4\], expected \[2, 3\]/);
  });
});
