import { SimmimError } from '../errors';
import { type ByteSource, bufferSource, withFile } from './byte_source';
import { DTYPE_BYTES, elementCount, gatherStrided, swapBytes, type RawTensor, type StoredDType } from './raw_tensor';

const OP = 'npy';
const MAGIC = Buffer.from('\x93NUMPY', 'latin1');
const MAX_HEADER = 1 << 20;
const MAX_RANK = 64; // numpy's own limit

/** numpy's kind and size of each type; bfloat16 has none in numpy. */
const TYPES: ReadonlyMap<string, StoredDType> = new Map([
  ['f8', 'F64'], ['f4', 'F32'], ['f2', 'F16'], ['i8', 'I64'], ['i4', 'I32'], ['i2', 'I16'], ['i1', 'I8'],
  ['u8', 'U64'], ['u4', 'U32'], ['u2', 'U16'], ['u1', 'U8'], ['b1', 'BOOL'],
]);

const corrupt = (name: string, why: string): SimmimError => new SimmimError('corrupt', OP, `${name}: ${why}`);

/**
 * Reads an .npy file (format 1 to 3; either byte order; C or Fortran order, which is turned into C order).
 * Throws `unsupported` for objects, strings, complex and structured types: nothing is unpickled.
 */
export function readNpy(file: string): RawTensor {
  return withFile(file, readFrom);
}

/** As {@link readNpy}, from bytes in memory. */
export function parseNpy(bytes: Uint8Array, name = 'buffer'): RawTensor {
  return readFrom(bufferSource(bytes, name));
}

/** The bytes of an .npy file, format 1, C order. BF16 throws `unsupported`: numpy has no such type. */
export function encodeNpy(tensor: RawTensor): Uint8Array {
  const type = [...TYPES].find(([, dtype]) => dtype === tensor.dtype)?.[0];
  if (!type) throw new SimmimError('unsupported', OP, `dtype ${tensor.dtype} has no numpy type; convert it to F32 first`);
  const expected = elementCount(tensor.shape) * DTYPE_BYTES[tensor.dtype];
  if (tensor.data.byteLength !== expected) throw new SimmimError('invalid_argument', OP, `tensor holds ${tensor.data.byteLength} bytes, shape [${tensor.shape}] of ${tensor.dtype} needs ${expected}`);
  const order = DTYPE_BYTES[tensor.dtype] === 1 ? '|' : '<';
  const shape = tensor.shape.length === 1 ? `${tensor.shape[0]},` : tensor.shape.join(', ');
  let header = `{'descr': '${order}${type}', 'fortran_order': False, 'shape': (${shape}), }`;
  header += ' '.repeat(63 - ((10 + header.length) % 64)) + '\n'; // data starts at a multiple of 64
  const prefix = Buffer.alloc(10);
  MAGIC.copy(prefix);
  prefix[6] = 1;
  prefix.writeUInt16LE(header.length, 8);
  return Buffer.concat([prefix, Buffer.from(header, 'latin1'), tensor.data]);
}

function readFrom(source: ByteSource): RawTensor {
  const { name } = source;
  if (source.size < 10) throw corrupt(name, `has ${source.size} bytes, an .npy file has at least 10`);
  const start = Buffer.from(source.read(0, Math.min(12, source.size)));
  if (!start.subarray(0, 6).equals(MAGIC)) throw corrupt(name, 'does not start with the .npy signature');
  const version = start[6] as number;
  if (version < 1 || version > 3) throw new SimmimError('unsupported', OP, `${name}: format version ${version}; 1 to 3 are read`);
  if (version > 1 && start.length < 12) throw corrupt(name, 'header is truncated');
  const length = version === 1 ? start.readUInt16LE(8) : start.readUInt32LE(8);
  if (length > MAX_HEADER) throw corrupt(name, `header of ${length} bytes exceeds ${MAX_HEADER}`);
  const headerStart = version === 1 ? 10 : 12;
  const text = Buffer.from(source.read(headerStart, length)).toString('latin1');
  const { dtype, bigEndian, fortran, shape } = parseHeader(text, name);
  const bytes = DTYPE_BYTES[dtype];
  const expected = elementCount(shape) * bytes;
  const available = source.size - headerStart - length;
  if (available !== expected) throw corrupt(name, `shape (${shape.join(', ')}) of ${dtype} needs ${expected} bytes, the file has ${available}`);
  let data = source.read(headerStart + length, expected);
  if (bigEndian) {
    data = new Uint8Array(data);
    swapBytes(data, bytes);
  }
  if (fortran && shape.length > 1) data = gatherStrided(data, bytes, 0, shape, fortranStrides(shape));
  return { dtype, shape, data };
}

function fortranStrides(shape: readonly number[]): number[] {
  let stride = 1;
  return shape.map((extent) => {
    const own = stride;
    stride *= extent;
    return own;
  });
}

/** The header is the text of a Python dict with exactly three keys. */
function parseHeader(text: string, name: string): { dtype: StoredDType; bigEndian: boolean; fortran: boolean; shape: number[] } {
  const descr = /'descr'\s*:\s*('[^']*'|\[|\()/.exec(text)?.[1];
  const fortran = /'fortran_order'\s*:\s*(True|False)/.exec(text)?.[1];
  const sizes = /'shape'\s*:\s*\(([\d\s,L]*)\)/.exec(text)?.[1];
  if (!descr || !fortran || sizes === undefined) throw corrupt(name, `header lacks descr, fortran_order or shape: ${JSON.stringify(text.slice(0, 120))}`);
  const match = /^'([<>|=]?)([a-zA-Z]\d+)'$/.exec(descr);
  const dtype = match ? TYPES.get(match[2] as string) : undefined;
  if (!match || !dtype) throw new SimmimError('unsupported', OP, `${name}: type ${descr === '[' || descr === '(' ? 'structured' : descr}; numbers and booleans up to 8 bytes are read`);
  const shape = sizes.split(',').map((part) => part.trim().replace(/L$/, '')).filter((part) => part !== '').map(Number);
  if (shape.length > MAX_RANK || !shape.every((extent) => Number.isSafeInteger(extent))) throw corrupt(name, `shape (${sizes}) is not valid`);
  return { dtype, bigEndian: match[1] === '>', fortran: fortran === 'True', shape };
}
