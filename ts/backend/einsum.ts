import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import { alias } from './alias';
import type { NativeBackend } from './backend';
import { NUMERIC, requireDtype } from './host';
import { matmul } from './matmul';
import { transpose } from './movement';
import { reduceAxes } from './reduce';
import type { KernelTable } from './register';
import { castTo } from './unary';

/** The dims of `labels` in `order`, as a transposed copy or, where nothing moves, the tensor itself under a new reference. */
function arranged(backend: NativeBackend, x: tf.TensorInfo, labels: string, order: string): tf.TensorInfo {
  const perm = [...order].map((label) => labels.indexOf(label));
  return perm.every((p, i) => p === i) ? alias(backend, x, x.shape) : transpose(backend, x, perm);
}

/** Two operands as one batched product: shared labels that stay are the batch, shared labels that go are contracted. Every other label stays. */
function product(backend: NativeBackend, a: tf.TensorInfo, b: tf.TensorInfo, la: string, lb: string, out: string): tf.TensorInfo {
  const batch = [...la].filter((l) => lb.includes(l) && out.includes(l)).join('');
  const inner = [...la].filter((l) => lb.includes(l) && !out.includes(l)).join('');
  const rows = [...la].filter((l) => !lb.includes(l)).join('');
  const columns = [...lb].filter((l) => !la.includes(l)).join('');
  const size = (label: string): number => (la.includes(label) ? a.shape[la.indexOf(label)] : b.shape[lb.indexOf(label)]) as number;
  const sizes = (labels: string): number[] => [...labels].map(size);
  const count = (labels: string): number => sizes(labels).reduce((n, d) => n * d, 1);
  const left = arranged(backend, a, la, batch + rows + inner);
  const right = arranged(backend, b, lb, batch + inner + columns);
  const y = matmul(backend, { ...left, shape: [count(batch), count(rows), count(inner)] }, { ...right, shape: [count(batch), count(inner), count(columns)] }, false, false);
  backend.disposeData(left.dataId);
  backend.disposeData(right.dataId);
  const labels = batch + rows + columns;
  const result = arranged(backend, { ...y, shape: sizes(labels) }, labels, out);
  backend.disposeData(y.dataId);
  return result;
}

/** x with only those of its labels that others have or the result keeps: the rest is summed. */
function summed(backend: NativeBackend, x: tf.TensorInfo, labels: string, kept: string): { info: tf.TensorInfo; labels: string } {
  const gone = [...labels].flatMap((l, i) => (kept.includes(l) ? [] : [i]));
  const sums = reduceAxes(backend, kernels.REDUCE_OPS.sum, x, gone, x.dtype);
  return { info: { ...sums, shape: x.shape.filter((_, i) => !gone.includes(i)) }, labels: [...labels].filter((l) => kept.includes(l)).join('') };
}

/** Sums of products over labelled dimensions, of one tensor or two, as tfjs-core has it. */
export const EINSUM: KernelTable = {
  Einsum: (backend, inputs, attrs) => {
    const given = Object.values(inputs) as tf.TensorInfo[];
    requireDtype('Einsum', inputs, ...NUMERIC);
    const equation = (attrs.equation as string).replace(/\s/g, '');
    const { allDims, idDims } = tf.backend_util.decodeEinsumEquation(equation, given.length);
    tf.backend_util.checkEinsumDimSizes(allDims.length, idDims, given as tf.Tensor[]);
    const [left, out] = equation.split('->') as [string, string];
    const labels = left.split(',');
    given.forEach((t, i) => {
      if (t.shape.length !== labels[i]?.length) throw new SimmimError('invalid_argument', 'Einsum', `tensor ${i} has shape [${t.shape}], expected rank ${labels[i]?.length} for '${labels[i]}'`);
    });
    if (new Set(out).size !== out.length) throw new SimmimError('unsupported', 'Einsum', `the result '${out}' repeats a label`);
    const joint = given.reduce<tf.DataType>((dtype, t) => tf.upcastType(dtype, t.dtype), 'int32');
    const tensors = given.map((t) => castTo(backend, t, joint));
    const terms = tensors.map((t, i) => summed(backend, t, labels[i] as string, out + labels.filter((_, j) => j !== i).join('')));
    const [x, y] = terms as [(typeof terms)[0], (typeof terms)[0] | undefined];
    const result = y ? product(backend, x.info, y.info, x.labels, y.labels, out) : arranged(backend, x.info, x.labels, out);
    for (const { info } of terms) backend.disposeData(info.dataId);
    for (const t of tensors) backend.disposeData(t.dataId);
    return result;
  },
};
