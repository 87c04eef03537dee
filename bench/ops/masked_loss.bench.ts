import { compiledOps, differentiated, normal, type OpBench, take } from './op_bench';
import * as tf from '@tensorflow/tfjs-core';

export const maskedLossBench: OpBench = {
  op: 'masked_loss',
  half: true,
  cases: [
    { name: 'swin 192', case: { batch: 8, height: 6, stride: 32, cells: 6 } },
    { name: 'swin 192 batch 64', case: { batch: 64, height: 6, stride: 32, cells: 6 } },
  ],
  flops: (c) => {
    const [batch = 0, h = 0, r = 0] = take(c, 'batch', 'height', 'stride');
    return 9 * batch * (h * r) ** 2;
  },
  bytes: (c, backward) => {
    const [batch = 0, h = 0, r = 0] = take(c, 'batch', 'height', 'stride');
    return 12 * batch * (h * r) ** 2 * (backward ? 0.6 * 4 + 1 : 0.6 * 2);
  },
  job(c, backward, storage) {
    const [batch = 0, h = 0, r = 0, cells = 0] = take(c, 'batch', 'height', 'stride', 'cells');
    const { maskedLoss } = compiledOps();
    const target = normal([batch, 3, h * r, h * r], 2);
    const mask = tf.keep(tf.cast(tf.less(tf.randomUniform([batch, cells, cells], 0, 1, 'float32', 3), 0.6), 'float32'));
    return differentiated(([pred]) => maskedLoss(pred as never, target, mask, { kind: 'l1' }), [normal([batch, h, h, 3 * r * r], 1, storage)], backward);
  },
};
