import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { requireRank } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'grad_norm';

const gradNormOp = fusedOp<{ flat: tf.Tensor }, object>({
  name: 'GradNorm',
  composed: ({ flat }) => tf.sqrt(tf.sum(tf.square(flat))),
  native: {
    kernel(b, { flat }) {
      const y = b.output([]);
      kernels.gradNorm({ flat: b.ref(flat), y: b.outRef(y) });
      return [y];
    },
  },
});

/**
 * The L2 norm of all gradients at once (torch.nn.utils.clip_grad_norm_ returns the same).
 *
 * flat [n] -> scalar. Not differentiable on our backends. Throws `invalid_argument` for another rank.
 */
export function gradNorm(flat: tf.Tensor): tf.Scalar {
  requireRank(OP, 'flat', flat, '[n]');
  return gradNormOp({ flat }, {}) as tf.Scalar;
}
