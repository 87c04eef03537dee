import * as tf from '@tensorflow/tfjs-core';
import { refuse, requireRank, requireShape, requireTensor, shapeText } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'linear';

export type Activation = 'none' | 'gelu';

export interface LinearOptions {
  /** Applied to x Wᵀ + b; default 'none'. */
  activation?: Activation;
  /** [..., O], added after the activation; default none. */
  residual?: tf.Tensor | null;
}

interface Inputs {
  x: tf.Tensor; // [M, I]
  weight: tf.Tensor; // [O, I]
  bias: tf.Tensor | null; // [O]
  residual: tf.Tensor | null; // [M, O]
}

/** The exact Gaussian error linear unit, x Φ(x) = x/2 (1 + erf(x / √2)) (Hendrycks & Gimpel 2016; torch's default). Any shape. */
export function gelu(x: tf.Tensor): tf.Tensor {
  return tf.tidy(() => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)));
}

const linearOp = fusedOp<Inputs, { activation: Activation }>({
  name: 'Linear',
  composed({ x, weight, bias, residual }, { activation }) {
    let y: tf.Tensor = tf.matMul(x, weight, false, true);
    if (bias) y = tf.add(y, bias);
    if (activation === 'gelu') y = gelu(y);
    return residual ? tf.add(y, residual) : y;
  },
});

/**
 * y = act(x Wᵀ + b) + residual over the last dimension, as torch.nn.Linear.
 *
 * x [..., I], weight [O, I], bias [O] or null, residual [..., O] -> [..., O]. Differentiable in all four.
 * Throws `invalid_argument` for shapes that do not fit.
 */
export function linear(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | null, options: LinearOptions = {}): tf.Tensor {
  const { activation = 'none', residual = null } = options;
  requireTensor(OP, 'x', x);
  if (x.rank === 0) refuse(OP, 'x is a scalar, expected at least one dimension [..., I]');
  const inner = x.shape[x.rank - 1] as number;
  requireRank(OP, 'weight', weight, '[O, I]');
  const outer = weight.shape[0] as number;
  if (weight.shape[1] !== inner) {
    refuse(OP, `weight has shape ${shapeText(weight.shape)}, expected [O, ${inner}]: x has ${inner} features`);
  }
  if (bias) requireShape(OP, 'bias', bias, [outer], 'one for each of the O rows of weight');
  const outShape = [...x.shape.slice(0, -1), outer];
  if (residual) requireShape(OP, 'residual', residual, outShape, 'the shape of the result [..., O]');
  if (activation !== 'none' && activation !== 'gelu') refuse(OP, `activation is '${String(activation)}', expected 'none' or 'gelu'`);
  return tf.tidy(() => {
    const rows = outShape.slice(0, -1).reduce((a, b) => a * b, 1);
    const flat = { x: tf.reshape(x, [rows, inner]), residual: residual && tf.reshape(residual, [rows, outer]) };
    return tf.reshape(linearOp({ ...flat, weight, bias }, { activation }), outShape);
  });
}
