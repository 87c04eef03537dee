import * as tf from '@tensorflow/tfjs-core';
import type { NativeBackend } from '../backend/backend';
import { kernels } from '../native';
import { refuse, requireNumber, requireShape, requireTensor } from './arguments';
import { fusedOp, sameData } from './fused_op';
import { storageOf, type FloatStorage } from './in_storage';

const OP = 'layer_norm';

interface Inputs {
  x: tf.Tensor; // [..., C]
  gamma: tf.Tensor; // [C]
  beta: tf.Tensor; // [C]
  residual: tf.Tensor | null; // [..., C]
}

interface Attrs {
  eps: number;
  storage: FloatStorage;
}

/** Normalises; `taping` also gives what the gradient needs, the mean and 1 / the deviation of each row. */
function run(b: NativeBackend, { x, gamma, beta, residual }: Inputs, { eps, storage }: Attrs, taping: boolean): tf.TensorInfo[] {
  const rows = x.size / (x.shape[x.rank - 1] as number);
  const y = residual ? b.outputLike(residual) : b.output(x.shape, 'float32', storage);
  const [mean, rstd] = taping ? [b.output([rows]), b.output([rows])] : [];
  kernels.layerNorm({
    x: b.ref(x),
    gamma: b.ref(gamma),
    beta: b.ref(beta),
    residual: residual && b.ref(residual),
    y: b.outRef(y),
    mean: mean && b.outRef(mean),
    rstd: rstd && b.outRef(rstd),
    eps,
  });
  return mean && rstd ? [y, mean, rstd] : [y];
}

const layerNormOp = fusedOp<Inputs, Attrs>({
  name: 'LayerNorm',
  composed({ x, gamma, beta, residual }, { eps }) {
    const channels = x.shape[x.rank - 1] as number;
    // Sums divided once: tf.mean divides every element first and rounds each of them.
    const mean = tf.div(tf.sum(x, -1, true), channels);
    const centered = tf.sub(x, mean);
    const variance = tf.div(tf.sum(tf.square(centered), -1, true), channels);
    const y = tf.add(tf.mul(tf.mul(centered, tf.rsqrt(tf.add(variance, eps))), gamma), beta);
    return residual ? tf.add(residual, y) : y;
  },
  native: {
    kernel: run,
    // One pass over x, against memory as large as the result for as long as the step: linear maps behind norms need it again only once.
    again: (inputs, attrs) => (inputs.residual ? null : {
      from: [inputs.x, inputs.gamma, inputs.beta],
      make: (b, [x, gamma, beta]) => run(b, { x, gamma, beta, residual: null } as Inputs, attrs, false)[0] as tf.TensorInfo,
    }),
    differentiable: ['x', 'gamma', 'beta', 'residual'],
    save: ['x', 'gamma'],
    gradient(b, dy, { inputs, outputs, given, through, out }) {
      const { x, gamma } = inputs as { x: tf.Tensor; gamma: tf.Tensor };
      const around = through('x');
      const [mean, rstd] = outputs as [tf.Tensor, tf.Tensor];
      const [dx, dgamma, dbeta] = [b.outputLike(x), out('gamma', gamma.shape), out('beta', gamma.shape)];
      kernels.layerNormGrad({
        dy: b.ref(dy),
        x: b.ref(x),
        gamma: b.ref(gamma),
        mean: b.ref(mean),
        rstd: b.ref(rstd),
        through: around && b.ref(around),
        dx: b.outRef(dx),
        dgamma: b.outRef(dgamma),
        dbeta: b.outRef(dbeta),
      });
      return { x: dx, gamma: dgamma, beta: dbeta, residual: given('residual') ? sameData(b, dy) : undefined };
    },
  },
});

export interface LayerNormOptions {
  /** [..., C], added to the result; default none. */
  residual?: tf.Tensor | null;
  /** How a result without residual is stored; default: as x is. */
  storage?: FloatStorage;
}

/**
 * Layer normalisation over the last dimension, (x - mean) / sqrt(var + eps) γ + β with the biased variance
 * (Ba et al. 2016; torch.nn.LayerNorm), plus `residual` where given (SwinV2's normalisation behind a branch).
 *
 * x [..., C], gamma [C], beta [C], residual [..., C] -> [..., C], stored as the residual where there is one. Differentiable in all
 * four; on our backends its gradient takes in the one that reaches x round the norm. Throws `invalid_argument` for
 * shapes that do not fit and for eps <= 0.
 */
export function layerNorm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, eps: number, options: LayerNormOptions = {}): tf.Tensor {
  const { residual = null } = options;
  requireTensor(OP, 'x', x);
  const channels = x.shape[x.rank - 1];
  if (channels === undefined || channels === 0) refuse(OP, `x has shape [${x.shape}], expected [..., C] with at least one channel`);
  requireShape(OP, 'gamma', gamma, [channels], 'one for each of the C channels of x');
  requireShape(OP, 'beta', beta, [channels], 'one for each of the C channels of x');
  requireNumber(OP, 'eps', eps, Number.MIN_VALUE, Infinity);
  if (residual) requireShape(OP, 'residual', residual, x.shape, 'the shape of x');
  return layerNormOp({ x, gamma, beta, residual }, { eps, storage: options.storage ?? storageOf(x) });
}
