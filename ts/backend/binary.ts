import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import type { NativeBackend } from './backend';
import { NUMERIC, areStrings, delegate, requireDtype } from './host';
import type { KernelTable, NativeKernel } from './register';
import { asStoredBool, castTo } from './unary';

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

/** Two tensors as one dtype, which holds the values of both; to be disposed. */
function matched(backend: NativeBackend, a: tf.TensorInfo, b: tf.TensorInfo, dtype: tf.DataType = tf.upcastType(a.dtype, b.dtype)): [tf.TensorInfo, tf.TensorInfo] {
  return [castTo(backend, a, dtype), castTo(backend, b, dtype)];
}

/** tfjs has brought both operands to one dtype; bool is computed as int32. */
function arithmetic(name: string, op: number, names: [string, string] = ['a', 'b'], dtype?: 'float32' | 'int32'): NativeKernel {
  const [first, second] = names;
  return (backend, inputs) => {
    const a = inputs[first] as tf.TensorInfo;
    const b = inputs[second] as tf.TensorInfo;
    if (a.dtype === b.dtype && (a.dtype === 'float32' || (a.dtype === 'int32' && dtype !== 'float32'))) return runBinary(backend, op, a, b, dtype);
    requireDtype(name, inputs, ...NUMERIC);
    const joint = dtype ?? tf.upcastType(a.dtype, b.dtype);
    const [x, y] = matched(backend, a, b, dtype === 'float32' ? 'float32' : joint === 'bool' ? 'int32' : tf.upcastType(a.dtype, b.dtype));
    const result = runBinary(backend, op, x, y, dtype);
    backend.disposeData(x.dataId);
    backend.disposeData(y.dataId);
    return joint === 'bool' ? asStoredBool(backend, result) : result;
  };
}

function comparison(name: string, op: number): NativeKernel {
  const rest = delegate(name);
  return (backend, inputs, attrs) => {
    const a = inputs.a as tf.TensorInfo;
    const b = inputs.b as tf.TensorInfo;
    if (areStrings(name, inputs)) return rest(backend, inputs, attrs);
    requireDtype(name, inputs, ...NUMERIC);
    const [x, z] = matched(backend, a, b);
    const y = backend.output(broadcastShape(a.shape, b.shape), 'bool');
    kernels.compare({ a: backend.ref(x), b: backend.ref(z), y: backend.outRef(y), op });
    backend.disposeData(x.dataId);
    backend.disposeData(z.dataId);
    return y;
  };
}

const add = arithmetic('Add', BINARY_OPS.add);
const joinedStrings = delegate('Add');
const delegatedSelect = delegate('Select');

/** Functions of two tensors, element by element with broadcasting; choice and sums of many. */
export const BINARY: KernelTable = {
  Add: (backend, inputs, attrs) => (inputs.a?.dtype === 'string' && areStrings('Add', inputs) ? joinedStrings : add)(backend, inputs, attrs),
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
    const { condition, t, e } = inputs as { condition: tf.TensorInfo; t: tf.TensorInfo; e: tf.TensorInfo };
    requireDtype('Select', { condition }, 'bool');
    if (areStrings('Select', { t, e })) return delegatedSelect(backend, inputs, attrs);
    requireDtype('Select', { t, e }, ...NUMERIC);
    const perRow = condition.shape.length === 1 && t.shape.length > 1 && condition.shape[0] === t.shape[0];
    const fits = sameShape(t.shape, e.shape) && (perRow || sameShape(condition.shape, t.shape));
    if (!fits) throw new SimmimError('invalid_argument', 'Select', `condition, t and e have shapes [${condition.shape}], [${t.shape}] and [${e.shape}], expected one shape`);
    const [yes, no] = matched(backend, t, e);
    const y = backend.output(t.shape, yes.dtype);
    kernels.select({ condition: backend.ref(condition), t: backend.ref(yes), e: backend.ref(no), y: backend.outRef(y) });
    backend.disposeData(yes.dataId);
    backend.disposeData(no.dataId);
    return y;
  },

  AddN: (backend, inputs) => {
    const [first, ...others] = inputs as unknown as [tf.TensorInfo, ...tf.TensorInfo[]];
    requireDtype('AddN', inputs, ...NUMERIC);
    const dtype = first.dtype === 'bool' ? 'int32' : first.dtype;
    let sum = castTo(backend, first, dtype);
    for (const x of others) {
      const term = castTo(backend, x, dtype);
      const next = runBinary(backend, BINARY_OPS.add, sum, term);
      backend.disposeData(term.dataId);
      backend.disposeData(sum.dataId);
      sum = next;
    }
    return first.dtype === 'bool' ? asStoredBool(backend, sum) : sum;
  },
};
