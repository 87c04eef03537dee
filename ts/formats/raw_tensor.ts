import { SimmimError } from '../errors';

/** Storage types of stored tensors, by their safetensors names. */
export type StoredDType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U64' | 'U32' | 'U16' | 'U8' | 'BOOL';

/** One tensor of a file: little-endian bytes, row-major, without gaps. */
export interface RawTensor {
  dtype: StoredDType;
  shape: number[];
  data: Uint8Array;
}

/** Bytes of one element. */
export const DTYPE_BYTES: Readonly<Record<StoredDType, number>> = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, BOOL: 1 };

const OP = 'tensor';

/** Number of elements of a shape; the empty shape (a scalar) has one. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** A float32 copy of a floating tensor (F64, F32, F16, BF16). Throws `unsupported` for integer types. */
export function toFloat32(tensor: RawTensor, name = 'tensor'): Float32Array {
  const count = elementCount(tensor.shape);
  switch (tensor.dtype) {
    case 'F32':
      return new Float32Array(ownBytes(tensor), 0, count);
    case 'F64':
      return Float32Array.from(new Float64Array(ownBytes(tensor), 0, count));
    case 'BF16': {
      const out = new Float32Array(count);
      const bits = new Uint32Array(out.buffer);
      const half = new Uint16Array(ownBytes(tensor), 0, count);
      for (let i = 0; i < count; i++) bits[i] = (half[i] as number) << 16;
      return out;
    }
    case 'F16':
      return Float32Array.from(new Uint16Array(ownBytes(tensor), 0, count), halfToNumber);
    default:
      throw new SimmimError('unsupported', OP, `'${name}' has dtype ${tensor.dtype}, expected a floating type`);
  }
}

/** The elements as JS numbers, whatever the dtype. Throws `unsupported` for 64-bit integers beyond 2^53. */
export function toNumbers(tensor: RawTensor, name = 'tensor'): ArrayLike<number> {
  const count = elementCount(tensor.shape);
  switch (tensor.dtype) {
    case 'F64':
      return new Float64Array(ownBytes(tensor), 0, count);
    case 'I64':
    case 'U64': {
      const wide = tensor.dtype === 'I64' ? new BigInt64Array(ownBytes(tensor), 0, count) : new BigUint64Array(ownBytes(tensor), 0, count);
      return Array.from(wide, (value) => {
        const number = Number(value);
        if (!Number.isSafeInteger(number)) throw new SimmimError('unsupported', OP, `'${name}' holds ${value}, which is beyond 2^53`);
        return number;
      });
    }
    case 'I32':
      return new Int32Array(ownBytes(tensor), 0, count);
    case 'U32':
      return new Uint32Array(ownBytes(tensor), 0, count);
    case 'I16':
      return new Int16Array(ownBytes(tensor), 0, count);
    case 'U16':
      return new Uint16Array(ownBytes(tensor), 0, count);
    case 'I8':
      return new Int8Array(ownBytes(tensor), 0, count);
    case 'U8':
    case 'BOOL':
      return new Uint8Array(ownBytes(tensor), 0, count);
    default:
      return toFloat32(tensor, name);
  }
}

/** Wraps a Float32Array as an F32 tensor without copying. */
export function fromFloat32(values: Float32Array, shape: number[]): RawTensor {
  return { dtype: 'F32', shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** Reverses the bytes of every element in place: big-endian to little-endian. */
export function swapBytes(data: Uint8Array, bytesPerElement: number): void {
  const buffer = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (bytesPerElement === 2) buffer.swap16();
  else if (bytesPerElement === 4) buffer.swap32();
  else if (bytesPerElement === 8) buffer.swap64();
}

/**
 * The row-major copy of a strided view into `source`; strides and offset count elements. The caller has
 * checked that every index lies inside `source` and that the result is of an acceptable size.
 */
export function gatherStrided(source: Uint8Array, bytes: number, offset: number, shape: readonly number[], strides: readonly number[]): Uint8Array {
  const out = new Uint8Array(elementCount(shape) * bytes);
  if (out.length === 0) return out;
  const rank = shape.length;
  const index = new Array<number>(rank).fill(0);
  let from = offset;
  for (let to = 0; to < out.length; to += bytes) {
    for (let b = 0; b < bytes; b++) out[to + b] = source[from * bytes + b] as number;
    for (let axis = rank - 1; axis >= 0; axis--) {
      const extent = shape[axis] as number;
      const stride = strides[axis] as number;
      const next = (index[axis] as number) + 1;
      from += stride;
      if (next < extent) {
        index[axis] = next;
        break;
      }
      from -= stride * extent;
      index[axis] = 0;
    }
  }
  return out;
}

function ownBytes(tensor: RawTensor): ArrayBuffer {
  return new Uint8Array(tensor.data).buffer;
}

function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
