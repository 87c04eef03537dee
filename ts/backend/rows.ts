import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import { NUMERIC, delegate, requireDtype } from './host';
import type { KernelTable, NativeKernel } from './register';
import { asStoredBool, castTo } from './unary';

/** [elements before, along, after] an axis; one number is a row of one, whatever the axis, as programs written for tfjs's cpu backend expect. */
function around(shape: number[], along: number): [number, number, number] {
  if (shape.length === 0) return [1, 1, 1];
  const [axis] = tf.util.parseAxisParam(along, shape) as [number];
  return [tf.util.sizeFromShape(shape.slice(0, axis)), shape[axis] as number, tf.util.sizeFromShape(shape.slice(axis + 1))];
}

function scan(name: string, product: boolean): NativeKernel {
  return (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    requireDtype(name, { x }, ...NUMERIC);
    const numbers = castTo(backend, x, x.dtype === 'bool' ? 'int32' : x.dtype);
    const shape = around(x.shape, attrs.axis as number);
    const y = backend.output(x.shape, numbers.dtype);
    kernels.scan({ x: backend.ref(numbers, shape), y: backend.outRef(y, shape), product, exclusive: Boolean(attrs.exclusive), reverse: Boolean(attrs.reverse) });
    backend.disposeData(numbers.dataId);
    return y;
  };
}

const delegatedTopK = delegate('TopK');

/** Functions of whole rows. */
export const ROWS: KernelTable = {
  Cumsum: scan('Cumsum', false),
  Cumprod: scan('Cumprod', true),
  Softmax: (backend, inputs, attrs) => {
    const logits = inputs.logits as tf.TensorInfo;
    requireDtype('Softmax', { logits }, ...NUMERIC);
    const last = logits.shape.length - 1;
    const dim = attrs.dim === -1 ? last : (attrs.dim as number);
    if (dim !== last) throw new SimmimError('unsupported', 'Softmax', `dim is ${dim} for logits of shape [${logits.shape}], expected the last dimension`);
    const x = castTo(backend, logits, 'float32');
    const shape = [tf.util.sizeFromShape(x.shape.slice(0, last)), x.shape[last] ?? 1];
    const y = backend.output(x.shape);
    kernels.softmax({ x: backend.ref(x, shape), y: backend.outRef(y, shape) });
    backend.disposeData(x.dataId);
    return y;
  },
  TopK: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    const k = attrs.k as number;
    const n = x.shape[x.shape.length - 1] ?? 0;
    requireDtype('TopK', { x }, ...NUMERIC);
    if (x.shape.length === 0 || !(k >= 0 && k <= n)) throw new SimmimError('invalid_argument', 'TopK', `k is ${k} for x of shape [${x.shape}], expected at most the size of a last dimension`);
    if (n === 0) return delegatedTopK(backend, inputs, attrs);
    const rows = tf.util.sizeFromShape(x.shape) / n;
    const shape = [...x.shape.slice(0, -1), k];
    const numbers = castTo(backend, x, x.dtype === 'bool' ? 'int32' : x.dtype);
    const values = backend.output(shape, numbers.dtype);
    const indices = backend.output(shape, 'int32');
    kernels.topK({ x: backend.ref(numbers, [rows, n]), values: backend.outRef(values, [rows, k]), indices: backend.outRef(indices, [rows, k]) });
    backend.disposeData(numbers.dataId);
    return [x.dtype === 'bool' ? asStoredBool(backend, values) : values, indices];
  },
};
