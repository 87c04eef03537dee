import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { requireTensor } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'gelu';
const { BINARY_OPS, UNARY_OPS } = kernels;

interface Inputs {
  x: tf.Tensor;
}

const geluOp = fusedOp<Inputs, object>({
  name: 'Gelu',
  composed: ({ x }) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)),
  native: {
    kernel(b, { x }) {
      const y = b.output(x.shape);
      kernels.unary({ x: b.ref(x), y: b.outRef(y), op: UNARY_OPS.gelu, a: 0, b: 0 });
      return [y];
    },
    differentiable: ['x'],
    save: ['x'],
    gradient(b, dy, { inputs }) {
      const { x } = inputs as { x: tf.Tensor };
      const dx = b.output(x.shape);
      kernels.binary({ a: b.ref(dy), b: b.ref(x), y: b.outRef(dx), op: BINARY_OPS.geluGrad });
      return { x: dx };
    },
  },
});

/** The exact Gaussian error linear unit, x Φ(x) = x/2 (1 + erf(x / √2)) (Hendrycks & Gimpel 2016; torch's default). Any shape. Differentiable. */
export function gelu(x: tf.Tensor): tf.Tensor {
  requireTensor(OP, 'x', x);
  return geluOp({ x }, {});
}
