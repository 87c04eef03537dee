import * as tf from '@tensorflow/tfjs-core';
import { compiledOps, type OpBench, take } from './op_bench';

export const randomMaskBench: OpBench = {
  op: 'random_mask',
  cases: [{ name: 'swin 192 batch 128', case: { batch: 128, cells: 6, count: 22, repeat: 8 } }],
  flops: () => 0,
  bytes: (c) => {
    const [batch = 0, cells = 0, repeat = 0] = take(c, 'batch', 'cells', 'repeat');
    return 4 * batch * (cells * repeat) ** 2;
  },
  job(c) {
    const [batch = 0, cells = 0, count = 0, repeat = 0] = take(c, 'batch', 'cells', 'count', 'repeat');
    const { randomMask } = compiledOps();
    const clock = tf.keep(tf.tensor1d([0, 0, 0, 0], 'int32'));
    return () => {
      randomMask(clock, { site: 0, batch, cells: [cells, cells], count, repeat }).dispose();
      return null;
    };
  },
};
