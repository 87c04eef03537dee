import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { alias } from './alias';
import type { NativeBackend } from './backend';
import { delegate } from './host';
import type { KernelTable, NativeKernel } from './register';

const { BINARY_OPS, COMPARE_OPS } = kernels;

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function broadcastShape(a: number[], b: number[]): number[] {
  return sameShape(a, b) ? a : tf.backend_util.assertAndGetBroadcastShape(a, b);
}

/** One native call on two tensors of one dtype. */
export function runBinary(backend: NativeBackend, op: number, a: tf.TensorInfo, b: tf.TensorInfo, dtype: tf.DataType = a.dtype): tf.TensorInfo {
  const y = backend.output(broadcastShape(a.shape, b.shape), dtype);
  kernels.binary({ a: backend.ref(a), b: backend.ref(b), y: backend.outRef(y), op });
  return y;
}

function arithmetic(name: string, op: number, names: [string, string] = ['a', 'b'], dtype?: tf.DataType): NativeKernel {
  const rest = delegate(name);
  const [first, second] = names;
  return (backend, inputs, attrs) => {
    const a = inputs[first] as tf.TensorInfo;
    const b = inputs[second] as tf.TensorInfo;
    if (a.dtype !== b.dtype || (a.dtype !== 'float32' && !(a.dtype === 'int32' && dtype !== 'float32'))) return rest(backend, inputs, attrs);
    return runBinary(backend, op, a, b, dtype);
  };
}

function comparison(name: string, op: number): NativeKernel {
  const rest = delegate(name);
  return (backend, inputs, attrs) => {
    const a = inputs.a as tf.TensorInfo;
    const b = inputs.b as tf.TensorInfo;
    if (a.dtype !== b.dtype || a.dtype === 'string' || a.dtype === 'complex64') return rest(backend, inputs, attrs);
    const y = backend.output(broadcastShape(a.shape, b.shape), 'bool');
    kernels.compare({ a: backend.ref(a), b: backend.ref(b), y: backend.outRef(y), op });
    return y;
  };
}

const delegatedSelect = delegate('Select');
const delegatedAddN = delegate('AddN');

/** Functions of two tensors, element by element with broadcasting; choice and sums of many. */
export const BINARY: KernelTable = {
  Add: arithmetic('Add', BINARY_OPS.add),
  Sub: arithmetic('Sub', BINARY_OPS.sub),
  Multiply: arithmetic('Multiply', BINARY_OPS.mul),
  RealDiv: arithmetic('RealDiv', BINARY_OPS.div),
  Maximum: arithmetic('Maximum', BINARY_OPS.maximum),
  Minimum: arithmetic('Minimum', BINARY_OPS.minimum),
  SquaredDifference: arithmetic('SquaredDifference', BINARY_OPS.squaredDifference),
  FloorDiv: arithmetic('FloorDiv', BINARY_OPS.floorDiv, ['a', 'b'], 'int32'),
  Mod: arithmetic('Mod', BINARY_OPS.mod),
  Pow: arithmetic('Pow', BINARY_OPS.pow),
  Atan2: arithmetic('Atan2', BINARY_OPS.atan2),
  BitwiseAnd: arithmetic('BitwiseAnd', BINARY_OPS.bitwiseAnd),
  Prelu: arithmetic('Prelu', BINARY_OPS.prelu, ['x', 'alpha'], 'float32'),
  EluGrad: arithmetic('EluGrad', BINARY_OPS.eluGrad, ['dy', 'y'], 'float32'),
  Equal: comparison('Equal', COMPARE_OPS.equal),
  NotEqual: comparison('NotEqual', COMPARE_OPS.notEqual),
  Greater: comparison('Greater', COMPARE_OPS.greater),
  GreaterEqual: comparison('GreaterEqual', COMPARE_OPS.greaterEqual),
  Less: comparison('Less', COMPARE_OPS.less),
  LessEqual: comparison('LessEqual', COMPARE_OPS.lessEqual),
  LogicalAnd: comparison('LogicalAnd', COMPARE_OPS.logicalAnd),
  LogicalOr: comparison('LogicalOr', COMPARE_OPS.logicalOr),

  Select: (backend, inputs, attrs) => {
    const condition = inputs.condition as tf.TensorInfo;
    const t = inputs.t as tf.TensorInfo;
    const e = inputs.e as tf.TensorInfo;
    const perRow = condition.shape.length === 1 && t.shape.length > 1 && condition.shape[0] === t.shape[0];
    const fits = sameShape(t.shape, e.shape) && (perRow || sameShape(condition.shape, t.shape));
    if (condition.dtype !== 'bool' || t.dtype !== e.dtype || t.dtype === 'string' || t.dtype === 'complex64' || !fits) return delegatedSelect(backend, inputs, attrs);
    const y = backend.output(t.shape, t.dtype);
    kernels.select({ condition: backend.ref(condition), t: backend.ref(t), e: backend.ref(e), y: backend.outRef(y) });
    return y;
  },

  AddN: (backend, inputs, attrs) => {
    const [first, ...others] = inputs as unknown as [tf.TensorInfo, ...tf.TensorInfo[]];
    if ((first.dtype !== 'float32' && first.dtype !== 'int32') || others.some((x) => x.dtype !== first.dtype)) return delegatedAddN(backend, inputs, attrs);
    let sum = alias(backend, first, first.shape);
    for (const x of others) {
      const next = runBinary(backend, BINARY_OPS.add, sum, x);
      backend.disposeData(sum.dataId);
      sum = next;
    }
    return sum;
  },
};
