/** numpy's scalars, types and arrays in a pickle, as training scripts leave them beside the weights: values, never code. */
import { SimmimError } from '../errors';
import { PickleGlobal, PickleObject, type PickleValue } from './pickle';
import { swapBytes } from './raw_tensor';

const OP = 'pickle';
const corrupt = (why: string): SimmimError => new SimmimError('corrupt', OP, `a numpy value is ${why}`);

/** numpy's kind and size -> how one value is read. */
const READERS: ReadonlyMap<string, (view: DataView) => number | bigint | boolean> = new Map<string, (view: DataView) => number | bigint | boolean>([
  ['f8', (v) => v.getFloat64(0, true)], ['f4', (v) => v.getFloat32(0, true)],
  ['i8', (v) => small(v.getBigInt64(0, true))], ['i4', (v) => v.getInt32(0, true)], ['i2', (v) => v.getInt16(0, true)], ['i1', (v) => v.getInt8(0)],
  ['u8', (v) => small(v.getBigUint64(0, true))], ['u4', (v) => v.getUint32(0, true)], ['u2', (v) => v.getUint16(0, true)], ['u1', (v) => v.getUint8(0)],
  ['b1', (v) => v.getUint8(0) !== 0],
]);

const small = (value: bigint): number | bigint => (value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value);

/** numpy.dtype: kind and size, and the byte order that its state says. */
class NumpyType extends PickleObject {
  bigEndian = false;
  constructor(readonly code: string) {
    super();
  }
  override setState(state: PickleValue): void {
    if (!Array.isArray(state) || typeof state[1] !== 'string') throw corrupt('of a type without byte order');
    this.bigEndian = state[1] === '>';
  }
  override describe(): unknown {
    return this.code;
  }
}

/** numpy.ndarray: its type and shape; the values are not read, weights are torch tensors. */
class NumpyArray extends PickleObject {
  private type: NumpyType | null = null;
  private shape: readonly PickleValue[] = [];
  override setState(state: PickleValue): void {
    const [, shape, type] = Array.isArray(state) ? state : [];
    if (!Array.isArray(shape) || !(type instanceof NumpyType)) throw corrupt('an array without shape or type');
    [this.shape, this.type] = [shape, type];
  }
  override describe(): unknown {
    return { dtype: this.type?.code ?? null, shape: this.shape };
  }
}

const CORES = ['numpy.core.multiarray', 'numpy._core.multiarray'];
const SCALAR = CORES.map((core) => `${core}.scalar`);
const RECONSTRUCT = CORES.map((core) => `${core}._reconstruct`);
const NAMES: ReadonlySet<string> = new Set([...SCALAR, ...RECONSTRUCT, 'numpy.dtype', 'numpy.ndarray', '_codecs.encode']);

/** Whether a global is numpy's, or the `_codecs.encode` by which older pickles hold bytes. */
export const isNumpyGlobal = (name: string): boolean => NAMES.has(name);

/** The value of `name(...args)` for a global that {@link isNumpyGlobal} knows. Throws `corrupt` or `unsupported`. */
export function numpyValue(name: string, args: PickleValue[]): PickleValue {
  if (name === '_codecs.encode') return encoded(args);
  if (name === 'numpy.dtype') return new NumpyType(typeof args[0] === 'string' ? args[0] : '');
  if (RECONSTRUCT.includes(name)) {
    if (!(args[0] instanceof PickleGlobal) || args[0].name !== 'numpy.ndarray') throw corrupt('rebuilt as something that is not an array');
    return new NumpyArray();
  }
  if (!SCALAR.includes(name)) throw new SimmimError('unsupported', OP, `it calls '${name}', which saved weights have no need of`);
  return scalar(args);
}

/** Bytes of a text: pickles of protocol 2 have no bytes of their own. */
function encoded([text, encoding]: PickleValue[]): Uint8Array {
  if (typeof text !== 'string' || (encoding !== 'latin1' && encoding !== 'latin-1')) throw corrupt(`encoded as '${String(encoding)}', expected latin1`);
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

function scalar([type, bytes]: PickleValue[]): PickleValue {
  if (!(type instanceof NumpyType)) throw corrupt('a scalar without type');
  const read = READERS.get(type.code);
  if (!read) throw new SimmimError('unsupported', OP, `a numpy scalar has the type '${type.code}'`);
  const size = Number(type.code.slice(1));
  if (!(bytes instanceof Uint8Array) || bytes.length !== size) throw corrupt(`a scalar of type ${type.code} without its ${size} bytes`);
  const own = bytes.slice();
  if (type.bigEndian) swapBytes(own, size as 1 | 2 | 4 | 8);
  return read(new DataView(own.buffer));
}
