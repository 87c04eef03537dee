import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireNumber, requireShape, requireTensor } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'layer_norm';

interface Inputs {
  x: tf.Tensor; // [..., C]
  gamma: tf.Tensor; // [C]
  beta: tf.Tensor; // [C]
}

const layerNormOp = fusedOp<Inputs, { eps: number }>({
  name: 'LayerNorm',
  composed({ x, gamma, beta }, { eps }) {
    const channels = x.shape[x.rank - 1] as number;
    // Sums divided once: tf.mean divides every element first and rounds each of them.
    const mean = tf.div(tf.sum(x, -1, true), channels);
    const centered = tf.sub(x, mean);
    const variance = tf.div(tf.sum(tf.square(centered), -1, true), channels);
    return tf.add(tf.mul(tf.mul(centered, tf.rsqrt(tf.add(variance, eps))), gamma), beta);
  },
  native: {
    kernel(b, { x, gamma, beta }, { eps }, taping) {
      const rows = x.size / (x.shape[x.rank - 1] as number);
      const y = b.output(x.shape);
      const [mean, rstd] = taping ? [b.output([rows]), b.output([rows])] : [];
      kernels.layerNorm({ x: b.ref(x), gamma: b.ref(gamma), beta: b.ref(beta), y: b.outRef(y), mean: mean && b.outRef(mean), rstd: rstd && b.outRef(rstd), eps });
      return mean && rstd ? [y, mean, rstd] : [y];
    },
    differentiable: ['x', 'gamma', 'beta'],
    save: ['x', 'gamma'],
    gradient(b, dy, { inputs, outputs, out }) {
      const { x, gamma } = inputs as { x: tf.Tensor; gamma: tf.Tensor };
      const [mean, rstd] = outputs as [tf.Tensor, tf.Tensor];
      const [dx, dgamma, dbeta] = [b.output(x.shape), out('gamma', gamma.shape), out('beta', gamma.shape)];
      kernels.layerNormGrad({
        dy: b.ref(dy),
        x: b.ref(x),
        gamma: b.ref(gamma),
        mean: b.ref(mean),
        rstd: b.ref(rstd),
        dx: b.outRef(dx),
        dgamma: b.outRef(dgamma),
        dbeta: b.outRef(dbeta),
      });
      return { x: dx, gamma: dgamma, beta: dbeta };
    },
  },
});

/**
 * Layer normalisation over the last dimension, (x - mean) / sqrt(var + eps) γ + β with the biased variance
 * (Ba et al. 2016; torch.nn.LayerNorm).
 *
 * x [..., C], gamma [C], beta [C] -> [..., C]. Differentiable in all three. Throws `invalid_argument` for
 * shapes that do not fit and for eps <= 0.
 */
export function layerNorm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, eps: number): tf.Tensor {
  requireTensor(OP, 'x', x);
  const channels = x.shape[x.rank - 1];
  if (channels === undefined || channels === 0) refuse(OP, `x has shape [${x.shape}], expected [..., C] with at least one channel`);
  requireShape(OP, 'gamma', gamma, [channels], 'one for each of the C channels of x');
  requireShape(OP, 'beta', beta, [channels], 'one for each of the C channels of x');
  requireNumber(OP, 'eps', eps, Number.MIN_VALUE, Infinity);
  return layerNormOp({ x, gamma, beta }, { eps });
}
