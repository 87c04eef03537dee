import * as tf from '@tensorflow/tfjs-core';
import type { NativeBackend } from '../backend/backend';
import { kernels } from '../native';
import { refuse, requireRank, requireShape, requireTensor, shapeText } from './arguments';
import { fusedOp, onOwnBackend, sameData } from './fused_op';
import { gelu } from './gelu';

const OP = 'linear';

export type Activation = 'none' | 'gelu';

export interface LinearOptions {
  /** Applied to x Wᵀ + b; default 'none'. */
  activation?: Activation;
  /** [..., O], added after the activation; default none. */
  residual?: tf.Tensor | null;
  /**
   * [...], a factor of each row's x Wᵀ + b. Where it is 0, x, which must be finite, does not matter: on the CPU these rows cost no
   * product. Default: all 1. Not with an activation; without a gradient.
   */
  rows?: tf.Tensor | null;
  /** [O]: the result, residual included, where `rows` is 0; default: the residual, or zeros. */
  fill?: tf.Tensor | null;
}

interface Inputs {
  x: tf.Tensor; // [..., I]
  weight: tf.Tensor; // [O, I]
  bias: tf.Tensor | null; // [O]
  residual: tf.Tensor | null; // [..., O]
  rows: tf.Tensor | null; // [...]
  fill: tf.Tensor | null; // [O]
}

/** What `rows` makes of products y [..., O]. */
export function finishRows(y: tf.Tensor, rows: tf.Tensor, residual: tf.Tensor | null, fill: tf.Tensor | null): tf.Tensor {
  const factors = tf.expandDims(rows, -1);
  const sum = residual ? tf.add(tf.mul(y, factors), residual) : tf.mul(y, factors);
  return tf.where(tf.broadcastTo(tf.notEqual(factors, 0), y.shape), sum, fill ? tf.broadcastTo(fill, y.shape) : (residual ?? tf.zerosLike(y)));
}

/** The gradients that only ops with `rows` have, of outputs [..., O] stored as dy is. */
export function rowGradients(b: NativeBackend, dy: tf.TensorInfo, given: (input: 'fill' | 'residual') => boolean, out: (input: 'fill', shape: readonly number[]) => tf.TensorInfo): { dfill?: tf.TensorInfo; dresidual?: tf.TensorInfo } {
  if (!given('fill')) return {};
  return { dfill: out('fill', [dy.shape[dy.shape.length - 1] as number]), dresidual: given('residual') ? b.outputLike(dy) : undefined };
}

const linearOp = fusedOp<Inputs, { activation: Activation }>({
  name: 'Linear',
  composed({ x, weight, bias, residual, rows: counted, fill }, { activation }) {
    const [outer, inner] = weight.shape as [number, number];
    const leading = x.shape.slice(0, -1);
    const rows = leading.reduce((a, b) => a * b, 1);
    let y: tf.Tensor = tf.matMul(tf.reshape(x, [rows, inner]), weight, false, true);
    if (bias) y = tf.add(y, bias);
    if (activation === 'gelu') y = gelu(y);
    y = tf.reshape(y, [...leading, outer]);
    return counted ? finishRows(y, counted, residual, fill) : residual ? tf.add(y, residual) : y;
  },
  native: {
    kernel(b, { x, weight, bias, residual, rows, fill }, { activation }, taping) {
      const shape = [...x.shape.slice(0, -1), weight.shape[0] as number];
      const y = b.outputLike(residual ?? x, shape);
      const pre = activation === 'gelu' && taping ? b.outputLike(x, shape) : null;
      kernels.linear({
        x: b.ref(x),
        weight: b.ref(weight),
        bias: bias && b.ref(bias),
        residual: residual && b.ref(residual),
        rows: rows && b.ref(rows),
        fill: fill && b.ref(fill),
        y: b.outRef(y),
        pre: pre && b.outRef(pre),
        activation: activation === 'gelu' ? 1 : 0,
      });
      return pre ? [y, pre] : [y];
    },
    differentiable: ['x', 'weight', 'bias', 'residual', 'fill'],
    save: ['x', 'weight', 'rows'],
    gradient(b, dy, { inputs, outputs: [pre], given, out }) {
      const { x, weight, rows } = inputs as { x: tf.Tensor; weight: tf.Tensor; rows?: tf.Tensor };
      const [dx, dweight] = [b.outputLike(x), out('weight', weight.shape)];
      const dbias = given('bias') ? out('bias', [weight.shape[0] as number]) : undefined;
      const { dfill, dresidual } = rowGradients(b, dy, given, out);
      kernels.linearGrad({
        dy: b.ref(dy),
        x: b.ref(x),
        weight: b.ref(weight),
        pre: pre && b.ref(pre),
        rows: rows && b.ref(rows),
        dx: b.outRef(dx),
        dweight: b.outRef(dweight),
        dbias: dbias && b.outRef(dbias),
        dfill: dfill && b.outRef(dfill),
        dresidual: dresidual && b.outRef(dresidual),
      });
      return { x: dx, weight: dweight, bias: dbias, fill: dfill, residual: dresidual ?? (given('residual') ? sameData(b, dy) : undefined) };
    },
  },
});

/** Whether rows that do not count cost no product on the active backend, so that naming them is worth its trouble. */
export const leavesRowsOut = (): boolean => onOwnBackend() && (tf.backend() as NativeBackend).device === 0;

/**
 * y = act(x Wᵀ + b) + residual over the last dimension, as torch.nn.Linear; with the options `rows` and `fill` less of it.
 *
 * x [..., I], weight [O, I], bias [O] or null, residual [..., O] -> [..., O], stored as the residual, else as x.
 * Differentiable in all four, and in `fill`.
 * Throws `invalid_argument` for shapes that do not fit.
 */
export function linear(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | null, options: LinearOptions = {}): tf.Tensor {
  const { activation = 'none', residual = null, rows = null, fill = null } = options;
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
  if (rows) requireShape(OP, 'rows', rows, x.shape.slice(0, -1), 'the leading dimensions of x');
  if (rows && activation !== 'none') refuse(OP, `rows is given beside activation '${activation}', which is not supported`);
  if (fill && !rows) refuse(OP, 'fill is given without rows: there is no row that it could fill');
  if (fill) requireShape(OP, 'fill', fill, [outer], 'one for each of the O rows of weight');
  return linearOp({ x, weight, bias, residual, rows, fill }, { activation });
}
