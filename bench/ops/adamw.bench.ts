import * as tf from '@tensorflow/tfjs-core';
import { compiledOps, normal, type OpBench, take } from './op_bench';

/** Gradient norm, clip and update, as torch's clip_grad_norm_ + fused AdamW. */
export const adamwBench: OpBench = {
  op: 'adamw',
  cases: [{ name: '16 M parameters with clip', case: { elements: 1 << 24 } }],
  flops: (c) => 16 * (take(c, 'elements')[0] ?? 0),
  bytes: (c) => 32 * (take(c, 'elements')[0] ?? 0),
  job(c) {
    const [elements = 0] = take(c, 'elements');
    const { adamw, gradNorm, hyperValues } = compiledOps();
    const zeros = (): tf.Variable => tf.variable(tf.zeros([elements]));
    const state = { weights: zeros(), m: zeros(), v: zeros() };
    const gradient = normal([elements]);
    const segments = { ends: tf.tensor1d([elements], 'int32'), lrScale: tf.tensor1d([1]), decayScale: tf.tensor1d([1]) };
    const hyper = tf.tensor1d(hyperValues({ lr: 1e-4, weightDecay: 0.05, beta1: 0.9, beta2: 0.999, eps: 1e-8, t: 10, clip: 5 }));
    return () => {
      const norm = gradNorm(gradient);
      adamw(state, gradient, norm, segments, hyper);
      norm.dispose();
      return null;
    };
  },
};
