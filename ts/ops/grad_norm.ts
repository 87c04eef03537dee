import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { requireNumber, requireRank, requireShape } from './arguments';
import { fusedOp, inPlaceOp } from './fused_op';

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

const gradClipOp = inPlaceOp<{ flat: tf.Variable; norm: tf.Tensor }, { clip: number }>({
  name: 'GradClip',
  composed({ flat, norm }, { clip }) {
    flat.assign(tf.mul(flat, tf.minimum(1, tf.div(clip, tf.add(norm, 1e-6)))));
  },
  native: {
    kernel(b, { flat, norm }, { clip }) {
      kernels.gradClip({ flat: b.refInPlace(flat), norm: b.ref(norm), clip });
    },
  },
});

/**
 * flat *= min(1, clip / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ clips all gradients.
 *
 * flat a variable [n], norm the scalar of `gradNorm(flat)`. In place on our backends, where a clone or view of flat sees
 * the change. Throws `invalid_argument` for shapes that do not fit and clip <= 0.
 */
export function gradClip(flat: tf.Variable, norm: tf.Tensor, clip: number): void {
  requireRank('grad_clip', 'flat', flat, '[n]');
  requireShape('grad_clip', 'norm', norm, [], 'a scalar');
  requireNumber('grad_clip', 'clip', clip, Number.MIN_VALUE, Infinity);
  gradClipOp({ flat, norm }, { clip });
}
