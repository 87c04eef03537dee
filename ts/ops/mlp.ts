import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireRank, requireShape, requireTensor, shapeText } from './arguments';
import { fusedOp, sameData } from './fused_op';
import { gelu } from './gelu';
import { finishRows, rowGradients } from './linear';

const OP = 'mlp';

export interface MlpOptions {
  /** [..., O], added to the result; default none. */
  residual?: tf.Tensor | null;
  /** [...]: a factor of each row's result without the residual, as `LinearOptions.rows` is. */
  rows?: tf.Tensor | null;
  /** [O]: the result, residual included, where `rows` is 0; default: the residual, or zeros. */
  fill?: tf.Tensor | null;
}

interface Inputs {
  x: tf.Tensor; // [..., I]
  w1: tf.Tensor; // [H, I]
  b1: tf.Tensor; // [H]
  w2: tf.Tensor; // [O, H]
  b2: tf.Tensor; // [O]
  residual: tf.Tensor | null; // [..., O]
  rows: tf.Tensor | null; // [...]
  fill: tf.Tensor | null; // [O]
}

interface Taped {
  x: tf.Tensor;
  w1: tf.Tensor;
  w2: tf.Tensor;
  rows?: tf.Tensor;
}

const mlpOp = fusedOp<Inputs, object>({
  name: 'Mlp',
  composed({ x, w1, b1, w2, b2, residual, rows: counted, fill }) {
    const [hidden, inner] = w1.shape as [number, number];
    const leading = x.shape.slice(0, -1);
    const rows = leading.reduce((a, b) => a * b, 1);
    const h = gelu(tf.add(tf.matMul(tf.reshape(x, [rows, inner]), w1, false, true), b1));
    const y = tf.add(tf.matMul(tf.reshape(h, [rows, hidden]), w2, false, true), b2);
    const shaped: tf.Tensor = tf.reshape(y, [...leading, w2.shape[0] as number]);
    return counted ? finishRows(shaped, counted, residual, fill) : residual ? tf.add(shaped, residual) : shaped;
  },
  native: {
    kernel(b, { x, w1, b1, w2, b2, residual, rows, fill }, _, taping) {
      const leading = x.shape.slice(0, -1);
      const y = b.outputLike(residual ?? x, [...leading, w2.shape[0] as number]);
      // GELU(pre) is as large as pre and cheap next to the products: the gradient makes it again.
      const pre = taping ? b.outputLike(x, [...leading, w1.shape[0] as number]) : null;
      kernels.mlp({
        x: b.ref(x),
        w1: b.ref(w1),
        b1: b.ref(b1),
        w2: b.ref(w2),
        b2: b.ref(b2),
        residual: residual && b.ref(residual),
        rows: rows && b.ref(rows),
        fill: fill && b.ref(fill),
        y: b.outRef(y),
        pre: pre && b.outRef(pre),
      });
      return pre ? [y, pre] : [y];
    },
    differentiable: ['x', 'w1', 'b1', 'w2', 'b2', 'residual', 'fill'],
    save: ['x', 'w1', 'w2', 'rows'],
    gradient(b, dy, { inputs, outputs, given, out }) {
      const { x, w1, w2, rows } = inputs as Taped;
      const pre = outputs[0] as tf.Tensor;
      const [dx, dw1, dw2] = [b.outputLike(x), out('w1', w1.shape), out('w2', w2.shape)];
      const [db1, db2] = [out('b1', [w1.shape[0] as number]), out('b2', [w2.shape[0] as number])];
      const { dfill, dresidual } = rowGradients(b, dy, given, out);
      kernels.mlpGrad({
        dy: b.ref(dy),
        x: b.ref(x),
        w1: b.ref(w1),
        w2: b.ref(w2),
        pre: b.ref(pre),
        rows: rows && b.ref(rows),
        dx: b.outRef(dx),
        dw1: b.outRef(dw1),
        db1: b.outRef(db1),
        dw2: b.outRef(dw2),
        db2: b.outRef(db2),
        dfill: dfill && b.outRef(dfill),
        dresidual: dresidual && b.outRef(dresidual),
      });
      return { x: dx, w1: dw1, b1: db1, w2: dw2, b2: db2, fill: dfill, residual: dresidual ?? (given('residual') ? sameData(b, dy) : undefined) };
    },
  },
});

/**
 * y = residual + GELU(x W1ᵀ + b1) W2ᵀ + b2 over the last dimension with the exact GELU: the two-layer perceptron of a
 * transformer block (Vaswani et al. 2017, section 3.3; timm's `Mlp` without dropout).
 *
 * x [..., I], w1 [H, I], b1 [H], w2 [O, H], b2 [O], residual [..., O] -> [..., O]. Differentiable in all six, and in `fill`.
 * On our backends only x and the H pre-activations per row are kept for the gradient.
 * Throws `invalid_argument` for shapes that do not fit.
 */
export function mlp(x: tf.Tensor, w1: tf.Tensor, b1: tf.Tensor, w2: tf.Tensor, b2: tf.Tensor, options: MlpOptions = {}): tf.Tensor {
  const { residual = null, rows = null, fill = null } = options;
  requireTensor(OP, 'x', x);
  if (x.rank === 0) refuse(OP, 'x is a scalar, expected at least one dimension [..., I]');
  const inner = x.shape[x.rank - 1] as number;
  requireRank(OP, 'w1', w1, '[H, I]');
  const hidden = w1.shape[0] as number;
  if (w1.shape[1] !== inner) refuse(OP, `w1 has shape ${shapeText(w1.shape)}, expected [H, ${inner}]: x has ${inner} features`);
  requireShape(OP, 'b1', b1, [hidden], 'one for each of the H rows of w1');
  requireRank(OP, 'w2', w2, '[O, H]');
  const outer = w2.shape[0] as number;
  if (w2.shape[1] !== hidden) refuse(OP, `w2 has shape ${shapeText(w2.shape)}, expected [O, ${hidden}]: w1 has ${hidden} rows`);
  requireShape(OP, 'b2', b2, [outer], 'one for each of the O rows of w2');
  if (residual) requireShape(OP, 'residual', residual, [...x.shape.slice(0, -1), outer], 'the shape of the result [..., O]');
  if (rows) requireShape(OP, 'rows', rows, x.shape.slice(0, -1), 'the leading dimensions of x');
  if (fill && !rows) refuse(OP, 'fill is given without rows: there is no row that it could fill');
  if (fill) requireShape(OP, 'fill', fill, [outer], 'one for each of the O rows of w2');
  return mlpOp({ x, w1, b1, w2, b2, residual, rows, fill }, {});
}
