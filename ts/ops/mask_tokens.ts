import * as tf from '@tensorflow/tfjs-core';
import { requireRank, requireShape } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'mask_tokens';

interface Inputs {
  x: tf.Tensor; // [B, L, C]
  token: tf.Tensor; // [C]
  mask: tf.Tensor; // [B, L]
}

const maskTokensOp = fusedOp<Inputs, object>({
  name: 'MaskTokens',
  composed({ x, token, mask }) {
    const hidden = tf.expandDims(mask, -1);
    return tf.add(tf.mul(x, tf.sub(1, hidden)), tf.mul(hidden, token));
  },
});

/**
 * Replaces hidden tokens by the mask token: x (1 - m) + token m (SimMIM section 3.2; official swin_transformer.py).
 *
 * x [B, L, C], token [C], mask [B, L] with 1 = hidden -> [B, L, C]. Differentiable in x and token. Throws
 * `invalid_argument` for shapes that do not fit.
 */
export function maskTokens(x: tf.Tensor, token: tf.Tensor, mask: tf.Tensor): tf.Tensor {
  requireRank(OP, 'x', x, '[B, L, C]');
  const [batch, length, channels] = x.shape as [number, number, number];
  requireShape(OP, 'token', token, [channels], 'one for each of the C channels of x');
  requireShape(OP, 'mask', mask, [batch, length], '[B, L] of x');
  return maskTokensOp({ x, token, mask }, {});
}
