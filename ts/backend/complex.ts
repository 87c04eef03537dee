import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import type { NativeBackend } from './backend';
import { BINARY, broadcastShape } from './binary';
import { CREATE, filled } from './create';
import { NUMERIC, requireDtype } from './host';
import { MOVEMENT, broadcastTo } from './movement';
import type { KernelTable, NativeKernel } from './register';
import { castTo, UNARY } from './unary';

/** float32 values of a complex tensor: its real or its imaginary half. */
type Half = 'real' | 'imag';
const HALVES: readonly Half[] = ['real', 'imag'];

const isComplex = (x: tf.TensorInfo | undefined): x is tf.TensorInfo => x?.dtype === 'complex64';

/** One half of a complex tensor, in its shape. It belongs to the tensor: not to be disposed. */
function halfOf(backend: NativeBackend, x: tf.TensorInfo, half: Half): tf.TensorInfo {
  const halves = backend.data.get(x.dataId).complexTensorInfos as Record<Half, tf.TensorInfo>;
  return { ...halves[half], shape: x.shape };
}

/** x as float32 under a dataId of its own; the memory is shared where nobody changes it in place. */
function own(backend: NativeBackend, x: tf.TensorInfo): tf.TensorInfo {
  const floats = castTo(backend, x, 'float32');
  if (floats.dataId !== x.dataId) return floats;
  backend.disposeData(floats.dataId);
  const view = backend.sliceView(x, 0, x.shape);
  if (view) return view;
  const copy = backend.output(x.shape);
  kernels.cast({ x: backend.ref(x), y: backend.outRef(copy), boolean: false });
  return copy;
}

/** A complex tensor from two halves, which are taken over. */
function complexOf(backend: NativeBackend, real: tf.TensorInfo, imag: tf.TensorInfo): tf.TensorInfo {
  const info = backend.makeTensorInfo(real.shape, 'complex64');
  backend.data.get(info.dataId).complexTensorInfos = { real, imag };
  return info;
}

/** A kernel for which a complex tensor is two real ones. `others` serves inputs that are not complex. */
function halfByHalf(others: NativeKernel): NativeKernel {
  return (backend, inputs, attrs) => {
    const tensors = Object.entries(inputs);
    if (!tensors.some(([, x]) => isComplex(x))) return others(backend, inputs, attrs);
    const run = (half: Half): tf.TensorInfo[] => {
      const parts = tensors.map(([name, x]) => [name, isComplex(x) ? halfOf(backend, x, half) : x] as const);
      const given = Array.isArray(inputs) ? (parts.map(([, x]) => x) as unknown as tf.NamedTensorInfoMap) : Object.fromEntries(parts);
      const out = others(backend, given, attrs);
      return (Array.isArray(out) ? out : [out]).map((y) => {
        if (!parts.some(([, x]) => x?.dataId === y.dataId)) return y;
        const mine = own(backend, y); // an alias of the half that belongs to the input
        backend.disposeData(y.dataId);
        return mine;
      });
    };
    const [real, imag] = HALVES.map(run) as [tf.TensorInfo[], tf.TensorInfo[]];
    const results = real.map((y, i) => complexOf(backend, y, imag[i] as tf.TensorInfo));
    return results.length === 1 && results[0] ? results[0] : results;
  };
}

/** A binary kernel on two complex tensors; core has brought both to one dtype. */
function binary(name: 'Add' | 'Sub' | 'Multiply', complex: NativeKernel): NativeKernel {
  const others = BINARY[name] as NativeKernel;
  return (backend, inputs, attrs) => ([inputs.a, inputs.b].every(isComplex) ? complex : others)(backend, inputs, attrs);
}

const multiply: NativeKernel = (backend, { a, b }) => {
  const [x, y] = [a as tf.TensorInfo, b as tf.TensorInfo];
  const shape = broadcastShape(x.shape, y.shape);
  const whole = (t: tf.TensorInfo, half: Half): tf.TensorInfo => (tf.util.arraysEqual(t.shape, shape) ? own(backend, halfOf(backend, t, half)) : broadcastTo(backend, halfOf(backend, t, half), shape));
  const [ar, ai, br, bi] = [whole(x, 'real'), whole(x, 'imag'), whole(y, 'real'), whole(y, 'imag')];
  const [real, imag] = [backend.output(shape), backend.output(shape)];
  kernels.complexMultiply({ aReal: backend.ref(ar), aImag: backend.ref(ai), bReal: backend.ref(br), bImag: backend.ref(bi), yReal: backend.outRef(real), yImag: backend.outRef(imag) });
  for (const part of [ar, ai, br, bi]) backend.disposeData(part.dataId);
  return complexOf(backend, real, imag);
};

function part(name: string, half: Half): NativeKernel {
  return (backend, inputs) => {
    requireDtype(name, inputs, 'complex64');
    return own(backend, halfOf(backend, inputs.input as tf.TensorInfo, half));
  };
}

function fourier(name: string, inverse: boolean): NativeKernel {
  return (backend, inputs) => {
    requireDtype(name, inputs, 'complex64');
    const x = inputs.input as tf.TensorInfo;
    const n = x.shape[x.shape.length - 1] as number;
    const rows = [n === 0 ? 0 : tf.util.sizeFromShape(x.shape) / n, n];
    const [real, imag] = [backend.output(x.shape), backend.output(x.shape)];
    kernels.fft({ real: backend.ref(halfOf(backend, x, 'real'), rows), imag: backend.ref(halfOf(backend, x, 'imag'), rows), yReal: backend.outRef(real, rows), yImag: backend.outRef(imag, rows), inverse });
    return complexOf(backend, real, imag);
  };
}

function like(name: 'ZerosLike' | 'OnesLike', value: number): NativeKernel {
  const others = CREATE[name] as NativeKernel;
  return (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    return isComplex(x) ? complexOf(backend, filled(backend, x.shape, 'float32', value), filled(backend, x.shape, 'float32', 0)) : others(backend, inputs, attrs);
  };
}

const MOVES = ['Transpose', 'Slice', 'StridedSlice', 'Reverse', 'Tile', 'SpaceToBatchND', 'BatchToSpaceND', 'DepthToSpace', 'SplitV', 'Unpack', 'Concat', 'Pack', 'MirrorPad'] as const;

/** Everything that takes or gives complex64: a record of two float tensors. The kernels below stand before those of the other tables. */
export const COMPLEX: KernelTable = {
  Complex: (backend, inputs) => {
    requireDtype('Complex', inputs, ...NUMERIC);
    const { real, imag } = inputs as { real: tf.TensorInfo; imag: tf.TensorInfo };
    if (!tf.util.arraysEqual(real.shape, imag.shape)) throw new SimmimError('invalid_argument', 'Complex', `real and imag have shapes [${real.shape}] and [${imag.shape}], expected one shape`);
    return complexOf(backend, own(backend, real), own(backend, imag));
  },
  Real: part('Real', 'real'),
  Imag: part('Imag', 'imag'),
  ComplexAbs: (backend, inputs) => {
    requireDtype('ComplexAbs', inputs, 'complex64');
    const x = inputs.x as tf.TensorInfo;
    const y = backend.output(x.shape);
    kernels.complexAbs({ real: backend.ref(halfOf(backend, x, 'real')), imag: backend.ref(halfOf(backend, x, 'imag')), y: backend.outRef(y) });
    return y;
  },
  FFT: fourier('FFT', false),
  IFFT: fourier('IFFT', true),
  ZerosLike: like('ZerosLike', 0),
  OnesLike: like('OnesLike', 1),
  Add: binary('Add', halfByHalf(BINARY.Add as NativeKernel)),
  Sub: binary('Sub', halfByHalf(BINARY.Sub as NativeKernel)),
  Multiply: binary('Multiply', multiply),
  Cast: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    const dtype = attrs.dtype as tf.DataType;
    if (isComplex(x) === (dtype === 'complex64')) return (UNARY.Cast as NativeKernel)(backend, inputs, attrs);
    if (dtype === 'complex64') return complexOf(backend, own(backend, x), filled(backend, x.shape, 'float32', 0));
    const real = own(backend, halfOf(backend, x, 'real'));
    const y = castTo(backend, real, dtype);
    backend.disposeData(real.dataId);
    return y;
  },
  ...Object.fromEntries(MOVES.map((name) => [name, halfByHalf(MOVEMENT[name] as NativeKernel)])),
};
