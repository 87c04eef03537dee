import * as tf from '@tensorflow/tfjs-core';
import { compiledOps, differentiated, normal, type OpBench, take } from './op_bench';

export const maskTokensBench: OpBench = {
  op: 'mask_tokens',
  half: true,
  cases: [{ name: 'swin_base 192', case: { batch: 8, tokens: 2304, channels: 128 } }],
  flops: (c) => {
    const [batch = 0, tokens = 0, channels = 0] = take(c, 'batch', 'tokens', 'channels');
    return 3 * batch * tokens * channels;
  },
  bytes: (c, backward) => {
    const [batch = 0, tokens = 0, channels = 0] = take(c, 'batch', 'tokens', 'channels');
    return 4 * batch * tokens * channels * (backward ? 4 : 2);
  },
  job(c, backward, storage) {
    const [batch = 0, tokens = 0, channels = 0] = take(c, 'batch', 'tokens', 'channels');
    const { maskTokens } = compiledOps();
    const mask = tf.keep(tf.cast(tf.less(tf.randomUniform([batch, tokens], 0, 1, 'float32', 3), 0.6), 'float32'));
    return differentiated(([x, token]) => maskTokens(x as never, { token, mask }), [normal([batch, tokens, channels], 1, storage), normal([channels], 2)], backward);
  },
};
