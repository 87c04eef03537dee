import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { alias } from './alias';
import type { NativeBackend } from './backend';
import { delegate } from './host';
import { matmul } from './matmul';
import { transpose } from './movement';
import { reduceAxes } from './reduce';
import type { KernelTable } from './register';

const rest = delegate('Einsum');

/** The dims of `labels` in `order`, as a transposed copy or, where nothing moves, the tensor itself under a new reference. */
function arranged(backend: NativeBackend, x: tf.TensorInfo, labels: string, order: string): tf.TensorInfo {
  const perm = [...order].map((label) => labels.indexOf(label));
  return perm.every((p, i) => p === i) ? alias(backend, x, x.shape) : transpose(backend, x, perm);
}

/** Two operands as one batched product: shared labels that stay are the batch, shared labels that go are contracted. */
function product(backend: NativeBackend, a: tf.TensorInfo, b: tf.TensorInfo, la: string, lb: string, out: string): tf.TensorInfo | undefined {
  const batch = [...la].filter((l) => lb.includes(l) && out.includes(l)).join('');
  const inner = [...la].filter((l) => lb.includes(l) && !out.includes(l)).join('');
  const rows = [...la].filter((l) => !lb.includes(l)).join('');
  const columns = [...lb].filter((l) => !la.includes(l)).join('');
  if ([...rows, ...columns].some((l) => !out.includes(l))) return undefined;
  const size = (label: string): number => (la.includes(label) ? a.shape[la.indexOf(label)] : b.shape[lb.indexOf(label)]) as number;
  const sizes = (labels: string): number[] => [...labels].map(size);
  const count = (labels: string): number => sizes(labels).reduce((n, d) => n * d, 1);
  const left = arranged(backend, a, la, batch + rows + inner);
  const right = arranged(backend, b, lb, batch + inner + columns);
  const y = matmul(backend, { ...left, shape: [count(batch), count(rows), count(inner)] }, { ...right, shape: [count(batch), count(inner), count(columns)] }, false, false);
  backend.disposeData(left.dataId);
  backend.disposeData(right.dataId);
  if (!y) return undefined;
  const labels = batch + rows + columns;
  const result = arranged(backend, { ...y, shape: sizes(labels) }, labels, out);
  backend.disposeData(y.dataId);
  return result;
}

/** One operand: labels that are not asked for are summed, the others reordered. */
function single(backend: NativeBackend, x: tf.TensorInfo, labels: string, out: string): tf.TensorInfo {
  const summed = [...labels].flatMap((l, i) => (out.includes(l) ? [] : [i]));
  const sums = reduceAxes(backend, kernels.REDUCE_OPS.sum, x, summed, x.dtype);
  const kept = [...labels].filter((l) => out.includes(l)).join('');
  const y = arranged(backend, { ...sums, shape: x.shape.filter((_, i) => !summed.includes(i)) }, kept, out);
  backend.disposeData(sums.dataId);
  return y;
}

/** Sums of products over labelled dimensions. */
export const EINSUM: KernelTable = {
  Einsum: (backend, inputs, attrs) => {
    const tensors = inputs as unknown as tf.TensorInfo[];
    const [left, out] = (attrs.equation as string).replace(/\s/g, '').split('->') as [string, string | undefined];
    const labels = left.split(',');
    const simple = out !== undefined && !/[^a-zA-Z,]/.test(left) && [...labels, out].every((term) => new Set(term).size === term.length) && labels.length === tensors.length;
    const [x, y] = tensors as [tf.TensorInfo, tf.TensorInfo | undefined];
    const numeric = tensors.every((t, i) => (t.dtype === 'float32' || t.dtype === 'int32') && t.dtype === x.dtype && t.shape.length === labels[i]?.length && tf.util.sizeFromShape(t.shape) > 0);
    if (!simple || !numeric || [...out].some((l) => !left.includes(l)) || tensors.length > 2) return rest(backend, inputs, attrs);
    const { allDims, idDims } = tf.backend_util.decodeEinsumEquation(attrs.equation as string, tensors.length);
    tf.backend_util.checkEinsumDimSizes(allDims.length, idDims, tensors as tf.Tensor[]);
    if (y === undefined) return single(backend, x, labels[0] as string, out);
    return product(backend, x, y, labels[0] as string, labels[1] as string, out) ?? rest(backend, inputs, attrs);
  },
};
