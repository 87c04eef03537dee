import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { SimmimError } from '../errors';
import type { NativeBackend } from './backend';
import { runBinary } from './binary';
import { delegate } from './host';
import type { KernelTable } from './register';

const { BINARY_OPS, UNARY_OPS } = kernels;

const ACTIVATION_OPS: Record<string, number> = { relu: UNARY_OPS.relu, relu6: UNARY_OPS.relu6, elu: UNARY_OPS.elu, sigmoid: UNARY_OPS.sigmoid, leakyrelu: UNARY_OPS.leakyRelu };

/** Bias and activation as tfjs's fused kernels define them. Takes `x` over: it is disposed when the result is another tensor. */
export function finish(backend: NativeBackend, x: tf.TensorInfo, bias: tf.TensorInfo | null | undefined, attrs: { activation?: unknown; leakyreluAlpha?: unknown }, prelu: tf.TensorInfo | null | undefined): tf.TensorInfo {
  const take = (next: tf.TensorInfo): void => {
    backend.disposeData(x.dataId);
    x = next;
  };
  if (bias) take(runBinary(backend, BINARY_OPS.add, x, bias));
  const activation = (attrs.activation as string | null | undefined) ?? 'linear';
  if (activation === 'linear') return x;
  if (activation === 'prelu') {
    if (!prelu) throw new SimmimError('invalid_argument', 'prelu', 'preluActivationWeights is missing');
    take(runBinary(backend, BINARY_OPS.prelu, x, prelu));
    return x;
  }
  const op = ACTIVATION_OPS[activation];
  if (op === undefined) throw new SimmimError('unsupported', 'activation', `'${activation}' is not one of linear, prelu, ${Object.keys(ACTIVATION_OPS).join(', ')}`);
  const y = backend.output(x.shape, x.dtype);
  kernels.unary({ x: backend.ref(x), y: backend.outRef(y), op, a: (attrs.leakyreluAlpha as number | undefined) ?? 0, b: 0 });
  take(y);
  return x;
}

/** op(a) op(b) over broadcast batches; undefined where the native kernel does not serve. */
export function matmul(backend: NativeBackend, a: tf.TensorInfo, b: tf.TensorInfo, transposeA: boolean, transposeB: boolean): tf.TensorInfo | undefined {
  if (a.dtype !== b.dtype || (a.dtype !== 'float32' && a.dtype !== 'int32')) return undefined;
  if (a.shape.length < 2 || b.shape.length < 2) throw new SimmimError('invalid_argument', 'matMul', `a and b have shapes [${a.shape}] and [${b.shape}], expected rank 2 or more`);
  const batchShape = tf.backend_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const [batchA, batchB] = [tf.util.sizeFromShape(a.shape.slice(0, -2)), tf.util.sizeFromShape(b.shape.slice(0, -2))];
  const batch = tf.util.sizeFromShape(batchShape);
  if ((batchA !== batch && batchA !== 1) || (batchB !== batch && batchB !== 1)) return undefined;
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number];
  const [m, n] = [transposeA ? columnsA : rowsA, transposeB ? rowsB : columnsB];
  const [innerA, innerB] = [transposeA ? rowsA : columnsA, transposeB ? columnsB : rowsB];
  if (innerA !== innerB) throw new SimmimError('invalid_argument', 'matMul', `inner shapes (${innerA}) and (${innerB}) of tensors with shapes ${a.shape} and ${b.shape} and transposeA=${transposeA} and transposeB=${transposeB} must match`);
  const y = backend.output([...batchShape, m, n], a.dtype);
  kernels.matmul({ a: backend.ref(a, [batchA, rowsA, columnsA]), b: backend.ref(b, [batchB, rowsB, columnsB]), y: backend.outRef(y, [batch, m, n]), transposeA, transposeB });
  return y;
}

const delegatedMatMul = delegate('BatchMatMul');

/** Matrix products. */
export const MATMUL: KernelTable = {
  BatchMatMul: (backend, inputs, attrs) => matmul(backend, inputs.a as tf.TensorInfo, inputs.b as tf.TensorInfo, Boolean(attrs.transposeA), Boolean(attrs.transposeB)) ?? delegatedMatMul(backend, inputs, attrs),
  _FusedMatMul: (backend, inputs, attrs) => {
    const a = inputs.a as tf.TensorInfo;
    const b = inputs.b as tf.TensorInfo;
    const product = matmul(backend, a, b, Boolean(attrs.transposeA), Boolean(attrs.transposeB)) ?? (delegatedMatMul(backend, { a, b }, attrs) as tf.TensorInfo);
    return finish(backend, product, inputs.bias, attrs, inputs.preluActivationWeights);
  },
};
