import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { requireInteger, requireMultiple, requireRank } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'pixel_shuffle';

const pixelShuffleOp = fusedOp<{ pred: tf.Tensor }, { r: number }>({
  name: 'PixelShuffle',
  composed({ pred }, { r }) {
    const [batch, height, width, features] = pred.shape as [number, number, number, number];
    const planes = features / (r * r);
    const cells = tf.reshape(pred, [batch, height, width, planes, r, r]);
    return tf.reshape(tf.transpose(cells, [0, 3, 1, 4, 2, 5]), [batch, planes, height * r, width * r]);
  },
  native: {
    kernel(b, { pred }, { r }) {
      const [batch, height, width, features] = pred.shape as [number, number, number, number];
      const y = b.outputLike(pred, [batch, features / (r * r), height * r, width * r]);
      kernels.pixelShuffle({ pred: b.ref(pred), y: b.outRef(y) });
      return [y];
    },
    differentiable: ['pred'],
    save: [],
    gradient(b, dy, _saved, { r }) {
      const [batch, planes, height, width] = dy.shape as [number, number, number, number];
      const dpred = b.outputLike(dy, [batch, height / r, width / r, planes * r * r]);
      kernels.pixelShuffleGrad({ dy: b.ref(dy), dpred: b.outRef(dpred) });
      return { pred: dpred };
    },
  },
});

/**
 * Lays the features of each cell out as r x r pixels, torch.nn.PixelShuffle on channels-last input.
 *
 * pred [B, h, w, C r r], feature order (c, i, j) -> planar [B, C, h r, w r]. Differentiable. Throws
 * `invalid_argument` when r² does not divide the features.
 */
export function pixelShuffle(pred: tf.Tensor, r: number): tf.Tensor {
  requireRank(OP, 'pred', pred, '[B, h, w, C*r*r]');
  requireInteger(OP, 'r', r, 1);
  requireMultiple(OP, 'feature count of pred', pred.shape[3] as number, r * r, `each cell becomes ${r} x ${r} pixels`);
  return pixelShuffleOp({ pred }, { r });
}
