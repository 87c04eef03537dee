import type * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { StorageDType } from '../native';
import * as kernels from '../native/kernels.gen';
import { alias } from './alias';
import type { NativeBackend } from './backend';
import { NUMERIC, requireDtype } from './host';
import type { KernelTable, NativeKernel } from './register';

const { UNARY_OPS, PREDICATE_OPS } = kernels;

/** x as another native dtype: the same data where nothing changes. */
export function castTo(backend: NativeBackend, x: tf.TensorInfo, dtype: tf.DataType): tf.TensorInfo {
  if (x.dtype === dtype) return alias(backend, x, x.shape);
  const wide = storedAs(backend, x, x.dtype === 'float32' ? 'f32' : backend.storageOf(x));
  const y = backend.output(x.shape, dtype);
  kernels.cast({ x: backend.ref(wide), y: backend.outRef(y), boolean: dtype === 'bool' });
  backend.disposeData(wide.dataId);
  return y;
}

/** x with its values in another storage type: the same data where they are so already. */
export function storedAs(backend: NativeBackend, x: tf.TensorInfo, storage: StorageDType): tf.TensorInfo {
  if (backend.storageOf(x) === storage) return alias(backend, x, x.shape);
  const y = backend.output(x.shape, x.dtype, storage);
  kernels.cast({ x: backend.ref(x), y: backend.outRef(y), boolean: false });
  return y;
}

/** A bool tensor of numbers, as JavaScript would store them into a Uint8Array. Takes `x` over. */
export function asStoredBool(backend: NativeBackend, x: tf.TensorInfo): tf.TensorInfo {
  const y = backend.output(x.shape, 'bool');
  kernels.cast({ x: backend.ref(x), y: backend.outRef(y), boolean: false });
  backend.disposeData(x.dataId);
  return y;
}

/** The dtype of x is kept unless `dtype` says otherwise; bool is computed as int32. */
function unary(name: string, op: number, dtype?: 'float32', a?: string, b?: string): NativeKernel {
  return (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    if (x.dtype !== 'float32') requireDtype(name, { x }, ...NUMERIC);
    const numbers = x.dtype === 'bool' ? castTo(backend, x, 'int32') : x;
    const y = backend.output(x.shape, dtype ?? numbers.dtype);
    kernels.unary({ x: backend.ref(numbers), y: backend.outRef(y), op, a: a === undefined ? 0 : (attrs[a] as number), b: b === undefined ? 0 : (attrs[b] as number) });
    if (numbers !== x) backend.disposeData(numbers.dataId);
    return x.dtype === 'bool' && dtype === undefined ? asStoredBool(backend, y) : y;
  };
}

function predicate(name: string, op: number): NativeKernel {
  return (backend, inputs) => {
    const x = inputs.x as tf.TensorInfo;
    if (x.dtype !== 'float32') requireDtype(name, { x }, ...NUMERIC);
    const y = backend.output(x.shape, 'bool');
    kernels.predicate({ x: backend.ref(x), y: backend.outRef(y), op });
    return y;
  };
}

const negate = unary('Neg', UNARY_OPS.neg);

/** Functions of one tensor, element by element. */
export const UNARY: KernelTable = {
  Abs: unary('Abs', UNARY_OPS.abs),
  Acos: unary('Acos', UNARY_OPS.acos),
  Acosh: unary('Acosh', UNARY_OPS.acosh),
  Asin: unary('Asin', UNARY_OPS.asin),
  Asinh: unary('Asinh', UNARY_OPS.asinh),
  Atan: unary('Atan', UNARY_OPS.atan),
  Atanh: unary('Atanh', UNARY_OPS.atanh),
  Ceil: unary('Ceil', UNARY_OPS.ceil),
  ClipByValue: unary('ClipByValue', UNARY_OPS.clip, undefined, 'clipValueMin', 'clipValueMax'),
  Cos: unary('Cos', UNARY_OPS.cos),
  Cosh: unary('Cosh', UNARY_OPS.cosh),
  Elu: unary('Elu', UNARY_OPS.elu),
  Erf: unary('Erf', UNARY_OPS.erf),
  Exp: unary('Exp', UNARY_OPS.exp, 'float32'),
  Expm1: unary('Expm1', UNARY_OPS.expm1),
  Floor: unary('Floor', UNARY_OPS.floor),
  IsFinite: predicate('IsFinite', PREDICATE_OPS.isFinite),
  IsInf: predicate('IsInf', PREDICATE_OPS.isInf),
  IsNan: predicate('IsNan', PREDICATE_OPS.isNan),
  LeakyRelu: unary('LeakyRelu', UNARY_OPS.leakyRelu, 'float32', 'alpha'),
  Log: unary('Log', UNARY_OPS.log),
  Log1p: unary('Log1p', UNARY_OPS.log1p),
  LogicalNot: predicate('LogicalNot', PREDICATE_OPS.logicalNot),
  // tfjs multiplies by -1 of the same dtype, which for bool is true.
  Neg: (backend, inputs, attrs) => (inputs.x?.dtype === 'bool' ? alias(backend, inputs.x, inputs.x.shape) : negate(backend, inputs, attrs)),
  Reciprocal: unary('Reciprocal', UNARY_OPS.reciprocal),
  Relu: unary('Relu', UNARY_OPS.relu),
  Relu6: unary('Relu6', UNARY_OPS.relu6),
  Round: unary('Round', UNARY_OPS.round),
  Rsqrt: unary('Rsqrt', UNARY_OPS.rsqrt),
  Selu: unary('Selu', UNARY_OPS.selu),
  Sigmoid: unary('Sigmoid', UNARY_OPS.sigmoid),
  Sign: unary('Sign', UNARY_OPS.sign),
  Sin: unary('Sin', UNARY_OPS.sin),
  Sinh: unary('Sinh', UNARY_OPS.sinh),
  Softplus: unary('Softplus', UNARY_OPS.softplus),
  Sqrt: unary('Sqrt', UNARY_OPS.sqrt),
  Square: unary('Square', UNARY_OPS.square),
  Step: unary('Step', UNARY_OPS.step, undefined, 'alpha'),
  Tan: unary('Tan', UNARY_OPS.tan),
  Tanh: unary('Tanh', UNARY_OPS.tanh),
  Cast: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    const dtype = attrs.dtype as tf.DataType;
    if (x.dtype !== dtype) {
      requireDtype('Cast', { x }, ...NUMERIC);
      if (!(NUMERIC as readonly tf.DataType[]).includes(dtype)) throw new SimmimError('unsupported', 'Cast', `dtype is ${dtype} for x of dtype ${x.dtype} and shape [${x.shape}], expected ${NUMERIC.join(' or ')}`);
    }
    return castTo(backend, x, dtype);
  },
};
