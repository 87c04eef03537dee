import * as tf from '@tensorflow/tfjs-core';
import * as kernels from '../native/kernels.gen';
import { SimmimError } from '../errors';
import type { NativeBackend } from './backend';
import { runBinary } from './binary';
import { broadcastTo } from './movement';
import { sizeOf } from './record';
import type { KernelTable } from './register';

const { BINARY_OPS, UNARY_OPS } = kernels;

const NO_ACTIVATION = -1;
const ACTIVATION_OPS: Record<string, number> = { linear: NO_ACTIVATION, prelu: NO_ACTIVATION, relu: UNARY_OPS.relu, relu6: UNARY_OPS.relu6, elu: UNARY_OPS.elu, sigmoid: UNARY_OPS.sigmoid, leakyrelu: UNARY_OPS.leakyRelu };

/** What tfjs's fused kernels do with a product: add a bias, then apply an activation. */
export interface Epilogue {
  bias?: tf.TensorInfo | undefined;
  /** A unary function's number, or -1. */
  op: number;
  /** Slope of leakyrelu. */
  alpha: number;
  /** Slopes of prelu, where that is the activation. */
  prelu?: tf.TensorInfo | undefined;
}

const NOTHING: Epilogue = { op: NO_ACTIVATION, alpha: 0 };

export function epilogueOf(inputs: tf.NamedTensorInfoMap, attrs: { activation?: unknown; leakyreluAlpha?: unknown }): Epilogue {
  const activation = (attrs.activation as string | null | undefined) ?? 'linear';
  const op = ACTIVATION_OPS[activation];
  if (op === undefined) throw new SimmimError('unsupported', 'activation', `'${activation}' is not one of ${Object.keys(ACTIVATION_OPS).join(', ')}`);
  const prelu = activation === 'prelu' ? inputs.preluActivationWeights : undefined;
  if (activation === 'prelu' && !prelu) throw new SimmimError('invalid_argument', 'prelu', 'preluActivationWeights is missing');
  return { bias: inputs.bias ?? undefined, op, alpha: (attrs.leakyreluAlpha as number | undefined) ?? 0, prelu };
}

/** Parts an epilogue into what a kernel ends with itself, a bias per channel and a unary function, and what is left for {@link finish}. */
export function insideOf(e: Epilogue, channels: number, channelsFirst = false): { inside: Epilogue; after: Epilogue } {
  const { bias, prelu } = e;
  const perChannel = !bias || (tf.util.sizeFromShape(bias.shape) === channels && (channels === 1 || bias.shape[bias.shape.length - (channelsFirst ? 3 : 1)] === channels));
  return perChannel ? { inside: { ...e, prelu: undefined }, after: { ...NOTHING, prelu } } : { inside: NOTHING, after: e };
}

/** Applies an epilogue to `x`, which is taken over: it is disposed when the result is another tensor. */
export function finish(backend: NativeBackend, x: tf.TensorInfo, e: Epilogue): tf.TensorInfo {
  const take = (next: tf.TensorInfo): void => {
    backend.disposeData(x.dataId);
    x = next;
  };
  if (e.bias) take(runBinary(backend, BINARY_OPS.add, x, e.bias));
  if (e.prelu) take(runBinary(backend, BINARY_OPS.prelu, x, e.prelu));
  if (e.op === NO_ACTIVATION) return x;
  const y = backend.output(x.shape, x.dtype);
  kernels.unary({ x: backend.ref(x), y: backend.outRef(y), op: e.op, a: e.alpha, b: 0 });
  take(y);
  return x;
}

/** One matrix for all, or one for each of `batch`; another tensor than `x` is to be disposed. */
function batched(backend: NativeBackend, x: tf.TensorInfo, batchShape: number[], batch: number): { info: tf.TensorInfo; count: number } {
  const count = x.shape.length === 2 ? 1 : sizeOf(x.shape.slice(0, -2));
  return count === batch || count === 1 ? { info: x, count } : { info: broadcastTo(backend, x, [...batchShape, ...x.shape.slice(-2)]), count: batch };
}

/** op(a) op(b) over broadcast batches, with what the kernel can end with. float32, or int32 with nothing fused. */
export function matmul(backend: NativeBackend, a: tf.TensorInfo, b: tf.TensorInfo, transposeA: boolean, transposeB: boolean, inside: Epilogue = NOTHING): tf.TensorInfo {
  if (a.dtype !== b.dtype || (a.dtype !== 'float32' && a.dtype !== 'int32')) throw new SimmimError('unsupported', 'matMul', `a and b have dtypes ${a.dtype} and ${b.dtype} and shapes [${a.shape}] and [${b.shape}], expected float32 or int32 for both`);
  if (a.shape.length < 2 || b.shape.length < 2) throw new SimmimError('invalid_argument', 'matMul', `a and b have shapes [${a.shape}] and [${b.shape}], expected rank 2 or more`);
  const ranks = a.shape.length + b.shape.length;
  const rowsA = a.shape[a.shape.length - 2] as number, columnsA = a.shape[a.shape.length - 1] as number;
  const rowsB = b.shape[b.shape.length - 2] as number, columnsB = b.shape[b.shape.length - 1] as number;
  const m = transposeA ? columnsA : rowsA, n = transposeB ? rowsB : columnsB;
  const innerA = transposeA ? rowsA : columnsA, innerB = transposeB ? columnsB : rowsB;
  if (innerA !== innerB) throw new SimmimError('invalid_argument', 'matMul', `inner shapes (${innerA}) and (${innerB}) of tensors with shapes ${a.shape} and ${b.shape} and transposeA=${transposeA} and transposeB=${transposeB} must match`);
  const batchShape = ranks === 4 ? [] : tf.backend_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const batch = sizeOf(batchShape);
  const left = batched(backend, a, batchShape, batch), right = batched(backend, b, batchShape, batch);
  const y = backend.output(ranks === 4 ? [m, n] : [...batchShape, m, n], a.dtype);
  kernels.matmul({
    a: backend.ref(left.info, [left.count, rowsA, columnsA]),
    b: backend.ref(right.info, [right.count, rowsB, columnsB]),
    bias: inside.bias ? backend.ref(inside.bias) : null,
    y: backend.outRef(y, [batch, m, n]),
    transposeA,
    transposeB,
    activation: inside.op,
    alpha: inside.alpha,
  });
  if (left.info !== a) backend.disposeData(left.info.dataId);
  if (right.info !== b) backend.disposeData(right.info.dataId);
  return y;
}

/** Matrix products. */
export const MATMUL: KernelTable = {
  BatchMatMul: (backend, { a, b }, attrs) => matmul(backend, a as tf.TensorInfo, b as tf.TensorInfo, Boolean(attrs.transposeA), Boolean(attrs.transposeB)),
  _FusedMatMul: (backend, inputs, attrs) => {
    const { a, b } = inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    const whole = epilogueOf(inputs, attrs);
    const columns = b.shape[b.shape.length - (attrs.transposeB ? 2 : 1)] as number;
    const { inside, after } = a.dtype === 'float32' ? insideOf(whole, columns) : { inside: NOTHING, after: whole };
    return finish(backend, matmul(backend, a, b, Boolean(attrs.transposeA), Boolean(attrs.transposeB), inside), after);
  },
};
