import * as tf from '@tensorflow/tfjs-core';
import { compiledOps, normal, type OpBench, take } from './op_bench';

export const accumulateBench: OpBench = {
  op: 'accumulate',
  cases: [{ name: '16 M gradients', case: { elements: 1 << 24 } }],
  flops: (c) => take(c, 'elements')[0] ?? 0,
  bytes: (c) => 12 * (take(c, 'elements')[0] ?? 0),
  job(c) {
    const [elements = 0] = take(c, 'elements');
    const { accumulate } = compiledOps();
    const flat = tf.variable(tf.zeros([elements]));
    const gradient = normal([elements]);
    return () => {
      accumulate(flat, gradient, 0);
      return null;
    };
  },
};
