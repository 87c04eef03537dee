import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { loadAddon } from '../../ts/native';
import { layerNorm, linear, maskTokens } from '../../ts/ops';
import { fusedOp } from '../../ts/ops/fused_op';
import { activate, COMPOSED, lacking, OWN } from '../helpers/devices';

const composedOnly = fusedOp<{ x: tf.Tensor }, object>({ name: 'TestComposedOnly', composed: ({ x }) => tf.square(x) });

describe('fusedOp', () => {
  test('composes elsewhere, and never falls back on our own backend', async () => {
    await activate(COMPOSED);
    tf.tidy(() => void expect(Array.from(composedOnly({ x: tf.tensor1d([3]) }, {}).dataSync())).toEqual([9]));
    await activate(OWN);
    tf.tidy(() => void expect(() => composedOnly({ x: tf.tensor1d([3]) }, {})).toThrow(`TestComposedOnly: has no native kernel, and ${OWN.backend} does not fall back`));
  });

  test.skipIf(lacking('mask_tokens'))('is one named tfjs kernel, and its gradients are one native call', async () => {
    await activate(OWN);
    const inputs = [tf.ones([2, 3, 4]), tf.ones([4])] as [tf.Tensor, tf.Tensor];
    const mask = tf.zeros([2, 3]);
    const profile = await tf.profile(() => maskTokens(inputs[0], { token: inputs[1], mask }));
    expect(profile.kernelNames).toContain('MaskTokens');
    tf.dispose(profile.result as tf.Tensor);
    const calls = (f: () => void): number => {
      const before = loadAddon().stats().calls;
      tf.tidy(f);
      return loadAddon().stats().calls - before;
    };
    const dy = tf.ones([2, 3, 4]);
    const forward = calls(() => void maskTokens(inputs[0], { token: inputs[1], mask }));
    expect(forward).toBe(1);
    expect(calls(() => void tf.grads((x: tf.Tensor, token: tf.Tensor) => maskTokens(x, { token, mask }))(inputs, dy))).toBe(2);
    tf.dispose([...inputs, mask, dy]);
  });

  test.skipIf(lacking('layer_norm'))('a result that is cheap to make is not kept for gradients, which are the same bits', async () => {
    await activate(OWN);
    const [x, gamma, beta, weight] = [tf.randomNormal([64, 40], 0, 1, 'float32', 1), tf.ones([40]), tf.zeros([40]), tf.randomNormal([8, 40], 0, 1, 'float32', 2)] as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
    const gradient = (keeps: boolean): { values: number[]; held: number } => {
      let held = 0;
      const f = (w: tf.Tensor): tf.Tensor => {
        const before = tf.memory().numDataBuffers;
        const y = tf.tidy(() => {
          const normed = layerNorm(x, gamma, beta, 1e-5);
          return linear(keeps ? tf.reshape(normed, [64, 40]) : normed, w, null); // another tensor over the same values has no recipe
        });
        held = tf.memory().numDataBuffers - before;
        return y;
      };
      const values = tf.tidy(() => Array.from(tf.grad(f)(weight).dataSync()));
      return { values, held };
    };
    const [kept, again] = [gradient(true), gradient(false)];
    expect(again.values).toEqual(kept.values);
    expect(kept.held - again.held).toBe(1);
    tf.dispose([x, gamma, beta, weight]);
  });

  test('gives the optional inputs that are there their gradient, and no more', async () => {
    await activate(OWN);
    tf.tidy(() => {
      const [x, weight, residual] = [tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([2, 4])];
      const gradients = tf.grads((a: tf.Tensor, w: tf.Tensor, r: tf.Tensor) => linear(a, w, null, { residual: r }))([x, weight, residual]);
      expect(gradients.map((g) => g.shape)).toEqual([[2, 3], [4, 3], [2, 4]]);
      expect(Array.from((gradients[2] as tf.Tensor).dataSync())).toEqual(new Array(8).fill(1));
    });
  });
});
