import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { maskedLoss, type MaskedLossOptions } from '../../ts/ops';
import { checkOp } from '../helpers/check_op';
import { activate, COMPOSED, nativeDevices } from '../helpers/devices';
import { maxAbsDiff, readFixture } from '../helpers/golden';
import { maskedLossSpec } from './masked_loss.cases';

checkOp(maskedLossSpec);

interface Losses {
  regression: Record<string, { loss: number }>;
  tolerance: { elementwise: number; grad: number; loss: number };
}

/** Planar [B, I, H, W] -> cells [B, H/r, W/r, I r r]: the inverse of pixelShuffle. */
function toCells(images: tf.Tensor, r: number): tf.Tensor {
  const [batch, planes, height, width] = images.shape as [number, number, number, number];
  const cut = tf.reshape(images, [batch, planes, height / r, r, width / r, r]);
  return tf.reshape(tf.transpose(cut, [0, 2, 4, 1, 3, 5]), [batch, height / r, width / r, planes * r * r]);
}

const KINDS: [string, MaskedLossOptions][] = [
  ['l1', { kind: 'l1' }],
  ['l2', { kind: 'l2' }],
  ['smooth_l1_beta1', { kind: 'smooth_l1' }],
  ['smooth_l1_beta0.25', { kind: 'smooth_l1', beta: 0.25 }],
];

describe.each([COMPOSED, ...nativeDevices('masked_loss')])('official losses on $name', (device) => {
  test.each(KINDS)('%s: masked mean and gradient', async (key, options) => {
    await activate(device);
    const fixture = readFixture<Losses>('losses');
    const { tolerance, regression } = fixture.json;
    const read = (name: string): tf.Tensor => tf.tensor(Float32Array.from(fixture.values(`regression/${name}`)), fixture.shape(`regression/${name}`)); // the mask is stored as I32
    tf.tidy(() => {
      const [target, mask] = [read('target'), read('mask')];
      const loss = (pred: tf.Tensor): tf.Scalar => maskedLoss(pred, target, mask, options);
      const { value, grad } = tf.valueAndGrad(loss)(toCells(read('pred'), 4));
      expect(maxAbsDiff(value.dataSync(), [(regression[key] as { loss: number }).loss])).toBeLessThanOrEqual(tolerance.loss);
      expect(maxAbsDiff(grad.dataSync(), toCells(read(`${key}/grad`), 4).dataSync())).toBeLessThanOrEqual(tolerance.grad);
    });
  });
});
