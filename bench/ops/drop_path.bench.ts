import * as tf from '@tensorflow/tfjs-core';
import { compiledOps, differentiated, normal, type OpBench, take } from './op_bench';

export const dropPathBench: OpBench = {
  op: 'drop_path',
  half: true,
  cases: [{ name: 'swin_base stage 1', case: { batch: 8, tokens: 2304, channels: 128 } }],
  flops: (c) => {
    const [batch = 0, tokens = 0, channels = 0] = take(c, 'batch', 'tokens', 'channels');
    return 2 * batch * tokens * channels;
  },
  bytes: (c, backward) => {
    const [batch = 0, tokens = 0, channels = 0] = take(c, 'batch', 'tokens', 'channels');
    return 4 * batch * tokens * channels * (backward ? 5 : 3);
  },
  job(c, backward, storage) {
    const [batch = 0, tokens = 0, channels = 0] = take(c, 'batch', 'tokens', 'channels');
    const { dropPath } = compiledOps();
    const clock = tf.keep(tf.tensor1d([0, 0, 0, 0], 'int32'));
    const shape = [batch, tokens, channels];
    return differentiated(([x, residual]) => dropPath(x as never, residual as never, { rate: 0.1, site: 0, clock, training: true }), [normal(shape, 1, storage), normal(shape, 2, storage)], backward);
  },
};
