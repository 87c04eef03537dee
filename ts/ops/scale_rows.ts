import * as tf from '@tensorflow/tfjs-core';
import type { NativeBackend } from '../backend/backend';
import { kernels } from '../native';
import { requireRank, requireShape } from './arguments';
import { fusedOp } from './fused_op';
import type { FloatStorage } from './in_storage';

const OP = 'scale_rows';
const { BINARY_OPS, REDUCE_OPS } = kernels;

interface Inputs {
  weight: tf.Tensor; // [O, I]
  factors: tf.Tensor; // [O]
}

/** y = a * b with the columns of `b` repeated as `a` has them. */
function multiply(b: NativeBackend, a: tf.TensorInfo, by: tf.TensorInfo, shape: readonly number[], y: tf.TensorInfo): tf.TensorInfo {
  kernels.binary({ a: b.ref(a), b: b.ref(by, shape), y: b.outRef(y), op: BINARY_OPS.mul });
  return y;
}

function scaled(b: NativeBackend, { weight, factors }: Inputs, storage: FloatStorage): tf.TensorInfo {
  const wide = multiply(b, weight, factors, [factors.size, 1], b.output(weight.shape));
  if (storage === 'f32') return wide;
  const y = b.output(weight.shape, 'float32', storage);
  kernels.cast({ x: b.ref(wide), y: b.outRef(y), boolean: false });
  b.disposeData(wide.dataId);
  return y;
}

const scaleRowsOp = fusedOp<Inputs, { storage: FloatStorage }>({
  name: 'ScaleRows',
  composed: ({ weight, factors }) => tf.mul(weight, tf.reshape(factors, [factors.size, 1])),
  native: {
    kernel: (b, inputs, { storage }) => [scaled(b, inputs, storage)],
    again: ({ weight, factors }, { storage }) => ({
      from: [weight, factors],
      make: (b, [w, f]) => scaled(b, { weight: w, factors: f } as Inputs, storage),
    }),
    differentiable: ['weight', 'factors'],
    save: ['weight', 'factors'],
    gradient(b, dy, { inputs, out }) {
      const { weight, factors } = inputs as unknown as Inputs;
      const [rows, columns] = weight.shape as [number, number];
      const products = multiply(b, dy, weight, weight.shape, b.output(weight.shape));
      const dfactors = out('factors', [rows]);
      kernels.reduce({ x: b.ref(products, [rows, columns, 1]), y: b.outRef(dfactors, [rows, 1]), op: REDUCE_OPS.sum });
      b.disposeData(products.dataId);
      return { weight: multiply(b, dy, factors, [rows, 1], out('weight', weight.shape)), factors: dfactors };
    },
  },
});

/**
 * Row i of a matrix times factor i: LayerScale (Touvron et al. 2021) put into the linear map in front of it.
 *
 * weight [O, I], factors [O] -> [O, I], on our backends in `storage` (default f32). Differentiable in both. The result is made
 * again for the gradients of whatever multiplies with it, so that no step keeps a second copy of the weights.
 * Throws `invalid_argument` for shapes that do not fit.
 */
export function scaleRows(weight: tf.Tensor, factors: tf.Tensor, storage: FloatStorage = 'f32'): tf.Tensor {
  requireRank(OP, 'weight', weight, '[O, I]');
  requireShape(OP, 'factors', factors, [weight.shape[0] as number], 'one for each of the O rows of weight');
  return scaleRowsOp({ weight, factors }, { storage });
}
