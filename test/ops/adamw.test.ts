import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { adamw, hyperValues, type AdamwHyper } from '../../ts/ops';
import { Rng } from '../../ts/rng';
import { checkOp } from '../helpers/check_op';
import { EPS32 } from '../helpers/compare';
import { activate, COMPOSED, nativeDevices, type Device } from '../helpers/devices';
import { maxAbsDiff } from '../helpers/golden';
import { adamwSpec } from './adamw.cases';

checkOp(adamwSpec);

const N = 1031;
const ENDS = [3, 500, 501, N];
const LR_SCALE = [1, 0.5, 0.25, 2];
const DECAY_SCALE = [1, 0, 1, 0.5];
const HYPER: AdamwHyper = { lr: 1e-2, weightDecay: 0.05, beta1: 0.9, beta2: 0.999, eps: 1e-8, t: 1, clip: 5 };

function draw(seed: number, scale = 1): Float32Array {
  const rng = new Rng(seed);
  return Float32Array.from({ length: N }, () => scale * rng.normal());
}

/** PyTorch's order in float64; the state is changed in place. */
function reference(w: Float64Array, m: Float64Array, v: Float64Array, gradient: Float32Array, { lr, weightDecay, beta1, beta2, eps, t, clip }: AdamwHyper): void {
  const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
  const factor = clip > 0 ? Math.min(1, clip / (norm + 1e-6)) : 1;
  for (let i = 0; i < N; i++) {
    const s = ENDS.findIndex((end) => i < end);
    const rate = lr * (LR_SCALE[s] as number);
    const g = (gradient[i] as number) * factor;
    w[i] = (w[i] as number) * (1 - rate * weightDecay * (DECAY_SCALE[s] as number));
    m[i] = (m[i] as number) + (1 - beta1) * (g - (m[i] as number));
    v[i] = beta2 * (v[i] as number) + (1 - beta2) * g * g;
    w[i] = (w[i] as number) - ((rate / (1 - beta1 ** t)) * (m[i] as number)) / (Math.sqrt(v[i] as number) / Math.sqrt(1 - beta2 ** t) + eps);
  }
}

interface Buffers {
  weights: tf.Variable;
  m: tf.Variable;
  v: tf.Variable;
}
const variable = (values: Float32Array): tf.Variable => tf.tidy(() => tf.variable(tf.tensor1d(values)));
const buffers = (): Buffers => ({ weights: variable(draw(1)), m: variable(new Float32Array(N)), v: variable(new Float32Array(N)) });

function step(state: Buffers, gradient: Float32Array, hyper: AdamwHyper, norm?: number): void {
  tf.tidy(() => {
    const segments = { ends: tf.tensor1d(ENDS, 'int32'), lrScale: tf.tensor1d(LR_SCALE), decayScale: tf.tensor1d(DECAY_SCALE) };
    const g = tf.tensor1d(gradient);
    adamw(state, g, norm === undefined ? tf.norm(g) : tf.scalar(norm), segments, tf.tensor1d(hyperValues(hyper)));
  });
}

describe.each([COMPOSED, ...nativeDevices('adamw')])('adamw on $name', (device: Device) => {
  test.each([
    ['clipped', HYPER],
    ['with a norm below the limit', { ...HYPER, clip: 1e6 }],
    ['unclipped', { ...HYPER, clip: 0 }],
  ] as const)('three steps %s, in the order of PyTorch', async (_, hyper) => {
    await activate(device);
    const state = buffers();
    const [w, m, v] = [Float64Array.from(draw(1)), new Float64Array(N), new Float64Array(N)];
    for (let t = 1; t <= 3; t++) {
      step(state, draw(10 + t, 3), { ...hyper, t });
      reference(w, m, v, draw(10 + t, 3), { ...hyper, t });
    }
    // The update is lr times a ratio of order 1 computed with about ten roundings, three times; weights are of order 3.
    expect(maxAbsDiff(state.weights.dataSync(), w)).toBeLessThan(3 * (40 * EPS32 * HYPER.lr * 2 + 4 * EPS32 * 3));
    expect(maxAbsDiff(state.m.dataSync(), m)).toBeLessThan(32 * EPS32);
    expect(maxAbsDiff(state.v.dataSync(), v)).toBeLessThan(32 * EPS32);
    tf.dispose(Object.values(state) as tf.Variable[]);
  });

  test.each([NaN, Infinity])('a norm of %d changes nothing', async (norm) => {
    await activate(device);
    const state = buffers();
    step(state, draw(2), HYPER);
    const before = Object.values(state).map((x: tf.Variable) => x.dataSync().slice());
    step(state, draw(3).fill(NaN, 5, 6), { ...HYPER, t: 2 }, norm);
    expect(Object.values(state).map((x: tf.Variable) => x.dataSync())).toEqual(before);
    tf.dispose(Object.values(state) as tf.Variable[]);
  });
});
