import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { elementwiseLoss } from '../../ts/ops';
import { createTarget, targetLoss, type LossSpec } from '../../ts/simmim';
import { fixtures, maxAbsDiff, readFixture, type Fixture } from '../helpers/golden';

interface LossesJson {
  regression: Record<string, { loss: number } | number>;
  lowres: { ratios: Record<string, { loss?: number }> };
  bins: Record<string, { loss: number }>;
  clusters: { ce_loss: number };
  tolerance: { elementwise: number; loss: number; grad: number; cross_entropy: number; norm_targets: number; lowres_target: Record<string, number> };
}

beforeAll(async () => {
  await tf.setBackend('cpu');
});

const mean = [0.485, 0.456, 0.406];
const std = [0.229, 0.224, 0.225];

function tensor(fixture: Fixture<LossesJson>, name: string): tf.Tensor {
  return tf.tensor(Float32Array.from(fixture.values(name)), fixture.shape(name));
}

/** The official NCHW prediction as the head's channels-last output with one pixel per position. */
function pixels(planar: tf.Tensor): tf.Tensor {
  return tf.transpose(planar, [0, 2, 3, 1]);
}

/** Loss and its gradient for an NCHW prediction. */
function lossAndGrad(spec: LossSpec, planar: tf.Tensor, target: tf.Tensor, mask: tf.Tensor): { value: number; grad: Float32Array } {
  const { value, grad } = tf.valueAndGrad((pred: tf.Tensor) => targetLoss(spec, pixels(pred), target, mask))(planar);
  return { value: value.dataSync()[0] as number, grad: grad.dataSync() as Float32Array };
}

/** An 8-bit picture [1, C, H, W] as a normalised image. */
function normalised(u8: tf.Tensor): tf.Tensor {
  return tf.div(tf.sub(tf.div(u8, 255), tf.tensor(mean, [1, 3, 1, 1])), tf.tensor(std, [1, 3, 1, 1]));
}

describe.each(fixtures(/^losses/))('losses and targets (%s)', (name) => {
  const fixture = readFixture<LossesJson>(name);
  const { tolerance, regression, lowres, bins, clusters } = fixture.json;

  const regressions = Object.entries(regression).filter((entry): entry is [string, { loss: number }] => typeof entry[1] === 'object');
  it.each(regressions)('%s: elementwise, masked mean and gradient', (key, { loss }) => {
    const [, kind, beta] = /^(l1|l2|smooth_l1)(?:_beta(.*))?$/.exec(key) as unknown as [string, 'l1' | 'l2' | 'smooth_l1', string | undefined];
    const [target, pred, mask] = ['target', 'pred', 'mask'].map((part) => tensor(fixture, `regression/${part}`)) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const each = elementwiseLoss(tf.sub(target, pred), kind, Number(beta ?? 1));
    expect(maxAbsDiff(each.dataSync(), fixture.values(`regression/${key}/elementwise`))).toBeLessThanOrEqual(tolerance.elementwise);
    const got = lossAndGrad({ kind, beta: Number(beta ?? 1) }, pred, target, mask);
    expect(Math.abs(got.value - loss)).toBeLessThanOrEqual(tolerance.loss);
    expect(maxAbsDiff(got.grad, fixture.values(`regression/${key}/grad`))).toBeLessThanOrEqual(tolerance.grad);
  });

  it.each(Object.entries(lowres.ratios))('target at 1/%s of the size', (ratio, { loss }) => {
    const images = tensor(fixture, 'lowres/target');
    const [, channels = 0, height = 0, width = 0] = images.shape;
    const target = createTarget({ kind: 'rgb', resolution: height / Number(ratio) }, [height, width], channels).make(images);
    const worst = maxAbsDiff(target.dataSync(), fixture.values(`lowres/${ratio}/target`));
    expect(worst).toBeLessThanOrEqual(tolerance.lowres_target[ratio] as number);
    if (loss === undefined) return;
    const got = lossAndGrad({ kind: 'l1' }, tensor(fixture, `lowres/${ratio}/pred`), target, tensor(fixture, 'lowres/cells'));
    expect(Math.abs(got.value - loss)).toBeLessThanOrEqual(tolerance.loss);
    expect(maxAbsDiff(got.grad, fixture.values(`lowres/${ratio}/grad`))).toBeLessThanOrEqual(tolerance.grad);
  });

  it.each(Object.entries(bins))('%s bins: classes, cross-entropy, gradient', (count, { loss }) => {
    const images = normalised(tensor(fixture, 'bins/image_u8'));
    const [, channels = 0, height = 0, width = 0] = images.shape;
    const classes = createTarget({ kind: 'bins', bins: Number(count) }, [height, width], channels).make(images);
    expect(Array.from(classes.dataSync())).toEqual(Array.from(fixture.values(`bins/${count}/index`)));
    const logits = tensor(fixture, `bins/${count}/logits`);
    const got = lossAndGrad({ kind: 'cross_entropy' }, logits, classes, tensor(fixture, 'bins/mask'));
    expect(Math.abs(got.value - loss)).toBeLessThanOrEqual(tolerance.loss);
    expect(maxAbsDiff(got.grad, fixture.values(`bins/${count}/grad`))).toBeLessThanOrEqual(tolerance.grad);
    // One visible pixel at a time gives the elementwise values (the mask sum is 1 + 1e-5, which float32 keeps).
    const each = fixture.values(`bins/${count}/cross_entropy`);
    const ours = Array.from({ length: height * width }, (_, at) => {
      const one = tf.tensor(Float32Array.from({ length: height * width }, (__, i) => (i === at ? 1 : 0)), [1, height, width]);
      return (targetLoss({ kind: 'cross_entropy' }, pixels(logits), classes, one).dataSync()[0] as number) * channels * (1 + 1e-5);
    });
    const official = ours.map((_, at) => Array.from({ length: channels }, (__, c) => each[c * height * width + at] as number).reduce((a, b) => a + b, 0));
    expect(maxAbsDiff(ours, official)).toBeLessThanOrEqual(channels * tolerance.cross_entropy);
  });

  it.each(fixture.under('clusters/').filter((key) => /^palette\d+$/.test(key)))('nearest colour of %s', (key) => {
    const [height = 0, width = 0] = fixture.shape('clusters/image_u8');
    const u8 = tf.transpose(tf.expandDims(tensor(fixture, 'clusters/image_u8'), 0), [0, 3, 1, 2]);
    const palette = tensor(fixture, `clusters/${key}`).arraySync() as number[][];
    const classes = createTarget({ kind: 'clusters', palette }, [height, width], 3).make(normalised(u8));
    expect(Array.from(classes.dataSync())).toEqual(Array.from(fixture.values(`clusters/${key}_index`)));
  });

  it('cross-entropy of one class map', () => {
    const index = fixture.values('clusters/ce/index');
    const [batch = 0, height = 0, width = 0] = fixture.shape('clusters/ce/index');
    const classes = tf.tensor(Int32Array.from(index), [batch, 1, height, width], 'int32');
    const got = lossAndGrad({ kind: 'cross_entropy' }, tensor(fixture, 'clusters/ce/logits'), classes, tensor(fixture, 'clusters/ce/mask'));
    expect(Math.abs(got.value - clusters.ce_loss)).toBeLessThanOrEqual(tolerance.loss);
    expect(maxAbsDiff(got.grad, fixture.values('clusters/ce/grad'))).toBeLessThanOrEqual(tolerance.grad);
  });

  it.each(fixture.under('norm_targets/').filter((key) => key !== 'image'))('normalised over a window of %s', (size) => {
    const images = tensor(fixture, 'norm_targets/image');
    const [, channels = 0, height = 0, width = 0] = images.shape;
    const target = createTarget({ kind: 'rgb', normalise: 'window', size: Number(size) }, [height, width], channels).make(images);
    expect(maxAbsDiff(target.dataSync(), fixture.values(`norm_targets/${size}`))).toBeLessThanOrEqual(tolerance.norm_targets);
  });
});

describe('patch normalisation (MAE)', () => {
  it('gives each patch mean 0 and unbiased variance 1', () => {
    const images = tf.tensor(Float32Array.from({ length: 2 * 3 * 8 * 8 }, (_, i) => Math.sin(i * i)), [2, 3, 8, 8]);
    const target = createTarget({ kind: 'rgb', normalise: 'patch', size: 4 }, [8, 8], 3).make(images);
    const patches = tf.reshape(tf.transpose(tf.reshape(target, [2, 3, 2, 4, 2, 4]), [0, 2, 4, 1, 3, 5]), [8, 48]);
    const { mean: centre, variance } = tf.moments(patches, 1);
    expect(maxAbsDiff(centre.dataSync(), new Float32Array(8))).toBeLessThan(1e-6);
    expect(maxAbsDiff(tf.mul(variance, 48 / 47).dataSync(), new Float32Array(8).fill(1))).toBeLessThan(1e-5);
  });
});
