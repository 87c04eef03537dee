import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
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
  native: {
    kernel(b, { x, token, mask }) {
      const y = b.output(x.shape);
      kernels.maskTokens({ x: b.ref(x), token: b.ref(token), mask: b.ref(mask), y: b.outRef(y) });
      return [y];
    },
    differentiable: ['x', 'token'],
    save: ['mask'],
    gradient(b, dy, { inputs }) {
      const [dx, dtoken] = [b.output(dy.shape), b.output([dy.shape[2] as number])];
      kernels.maskTokensGrad({ dy: b.ref(dy), mask: b.ref(inputs.mask as tf.Tensor), dx: b.outRef(dx), dtoken: b.outRef(dtoken) });
      return { x: dx, token: dtoken };
    },
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
