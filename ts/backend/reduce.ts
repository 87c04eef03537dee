import * as tf from '@tensorflow/tfjs-core';
import * as kernels from '../native/kernels.gen';
import { alias } from './alias';
import type { NativeBackend } from './backend';
import { sizeOf } from './record';
import { NUMERIC, delegate, requireDtype } from './host';
import type { KernelTable, NativeKernel } from './register';
import { asStoredBool, castTo } from './unary';

const { REDUCE_OPS } = kernels;

/** Neighbouring axes that are reduced together: [first, last], innermost group first. */
function groupsOf(axes: number[]): [number, number][] {
  if (axes.length === 1) return [[axes[0] as number, axes[0] as number]];
  const groups: [number, number][] = [];
  for (const axis of [...axes].sort((p, q) => q - p)) {
    const inner = groups[groups.length - 1];
    if (inner && axis === inner[0] - 1) inner[0] = axis;
    else groups.push([axis, axis]);
  }
  return groups;
}

function product(shape: readonly number[], begin: number, end: number): number {
  let n = 1;
  for (let i = begin; i < end; i++) n *= shape[i] as number;
  return n;
}

/** Reduces neighbouring groups of axes one after the other; the shape keeps 1 where an axis was reduced. The result is to be disposed. */
export function reduceAxes(backend: NativeBackend, op: number, x: tf.TensorInfo, axes: number[], dtype: tf.DataType): tf.TensorInfo {
  if (axes.length === 0) return alias(backend, x, x.shape);
  let current = x;
  for (const [first, last] of groupsOf(axes)) {
    const shape = current.shape;
    const [outer, n, inner] = [product(shape, 0, first), product(shape, first, last + 1), product(shape, last + 1, shape.length)];
    const next = backend.output(shape.map((d, i) => (i >= first && i <= last ? 1 : d)), dtype);
    kernels.reduce({ x: backend.ref(current, [outer, n, inner]), y: backend.outRef(next, [outer, inner]), op });
    if (current !== x) backend.disposeData(current.dataId);
    current = next;
  }
  return current;
}

/** All of x at once: what small sums mostly are, without thoughts about axes. */
function reduceAll(backend: NativeBackend, op: number, x: tf.TensorInfo, dtype: tf.DataType, keepDims: boolean): tf.TensorInfo {
  const y = backend.output(keepDims ? x.shape.map(() => 1) : [], dtype);
  kernels.reduce({ x: backend.ref(x, [1, sizeOf(x.shape), 1]), y: backend.outRef(y, [1, 1]), op });
  return y;
}

/** `axisName` is what tfjs calls the attribute; `from` converts the input's dtype first. `stored`: a bool tensor gives one. */
function reduction(name: string, op: number, accepts: readonly tf.DataType[], from: (dtype: tf.DataType) => tf.DataType = (d) => d, axisName = 'axis', stored = false): NativeKernel {
  const rest = delegate(name);
  return (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    if (!accepts.includes(x.dtype)) requireDtype(name, { x }, ...accepts);
    if (sizeOf(x.shape) === 0) return rest(backend, inputs, attrs);
    const axis = attrs[axisName] as number | number[] | null | undefined;
    const dtype = from(x.dtype);
    const numbers = x.dtype === dtype ? x : castTo(backend, x, dtype);
    const whole = (axis === undefined || axis === null) && x.shape.length > 0;
    const axes = whole ? [] : tf.util.parseAxisParam(axis as number | number[], x.shape);
    const reduced = whole ? reduceAll(backend, op, numbers, dtype, Boolean(attrs.keepDims)) : reduceAxes(backend, op, numbers, axes, dtype);
    if (numbers !== x) backend.disposeData(numbers.dataId);
    const kept = stored && x.dtype === 'bool' ? asStoredBool(backend, reduced) : reduced;
    return attrs.keepDims || whole ? kept : { dataId: kept.dataId, shape: x.shape.filter((_, i) => !axes.includes(i)), dtype: kept.dtype };
  };
}

function argReduction(name: string, smallest: boolean): NativeKernel {
  const rest = delegate(name);
  return (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    requireDtype(name, { x }, ...NUMERIC);
    if (sizeOf(x.shape) === 0 || x.shape.length === 0) return rest(backend, inputs, attrs);
    const [axis] = tf.util.parseAxisParam(attrs.axis as number, x.shape) as [number];
    const [outer, n, inner] = [product(x.shape, 0, axis), x.shape[axis] as number, product(x.shape, axis + 1, x.shape.length)];
    const y = backend.output(x.shape.filter((_, i) => i !== axis), 'int32');
    kernels.argReduce({ x: backend.ref(x, [outer, n, inner]), y: backend.outRef(y, [outer, inner]), smallest });
    return y;
  };
}

const upcastBool = (dtype: tf.DataType): tf.DataType => (dtype === 'bool' ? 'int32' : dtype);

/** Sums, extremes and logical reductions over axes. */
export const REDUCE: KernelTable = {
  Sum: reduction('Sum', REDUCE_OPS.sum, NUMERIC, upcastBool),
  Mean: reduction('Mean', REDUCE_OPS.mean, NUMERIC, () => 'float32'),
  Max: reduction('Max', REDUCE_OPS.max, NUMERIC, upcastBool, 'reductionIndices', true),
  Min: reduction('Min', REDUCE_OPS.min, NUMERIC, upcastBool, 'axis', true),
  Prod: reduction('Prod', REDUCE_OPS.prod, NUMERIC, upcastBool),
  All: reduction('All', REDUCE_OPS.all, ['bool']),
  Any: reduction('Any', REDUCE_OPS.any, ['bool']),
  ArgMax: argReduction('ArgMax', false),
  ArgMin: argReduction('ArgMin', true),
};
