import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { SimmimError } from '../errors';

/** Storage types of the safetensors format that simmim reads. */
export type SafetensorsDType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL';

/** One tensor of a file: raw little-endian bytes, row-major. */
export interface RawTensor {
  dtype: SafetensorsDType;
  shape: number[];
  data: Uint8Array;
}

/** A whole file: tensors in file order and the `__metadata__` strings. */
export interface Safetensors {
  tensors: Map<string, RawTensor>;
  metadata: Record<string, string>;
}

const BYTES: Record<SafetensorsDType, number> = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 };
const MAX_HEADER = 100_000_000; // the format's own limit

const OP = 'safetensors';
const corrupt = (file: string, why: string): SimmimError => new SimmimError('corrupt', OP, `${file}: ${why}`);

/**
 * Reads a safetensors file whole. Every offset, size and shape is checked against the file before any
 * tensor is made, so a truncated or edited file is an error (`corrupt`), never garbage.
 */
export function readSafetensors(file: string): Safetensors {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SimmimError(missing ? 'not_found' : 'io', OP, `cannot read '${file}': ${(error as Error).message}`);
  }
  return parseSafetensors(bytes, file);
}

/** As {@link readSafetensors}, from bytes in memory; `file` names them in errors. */
export function parseSafetensors(bytes: Uint8Array, file = 'buffer'): Safetensors {
  const header = parseHeader(bytes, bytes.length, file);
  const start = 8 + header.length;
  const tensors = new Map<string, RawTensor>();
  const metadata: Record<string, string> = {};
  for (const [name, entry] of Object.entries(header.json)) {
    if (name === '__metadata__') {
      for (const [key, value] of Object.entries(entry as object)) metadata[key] = String(value);
      continue;
    }
    const { dtype, shape, begin, end } = checkEntry(name, entry, bytes.length - start, file);
    tensors.set(name, { dtype, shape, data: bytes.subarray(start + begin, start + end) });
  }
  return { tensors, metadata };
}

/** Reads only names, types and shapes. */
export function readSafetensorsHeader(file: string): Map<string, { dtype: SafetensorsDType; shape: number[] }> {
  const descriptor = openSync(file, 'r');
  try {
    const size = fstatSync(descriptor).size;
    const prefix = Buffer.alloc(8);
    readSync(descriptor, prefix, 0, 8, 0);
    const length = Math.min(Number(prefix.readBigUInt64LE(0)), MAX_HEADER, Math.max(0, size - 8));
    const bytes = Buffer.alloc(8 + length);
    readSync(descriptor, bytes, 0, bytes.length, 0);
    const header = parseHeader(bytes, size, file);
    const found = new Map<string, { dtype: SafetensorsDType; shape: number[] }>();
    for (const [name, entry] of Object.entries(header.json)) {
      if (name === '__metadata__') continue;
      const { dtype, shape } = checkEntry(name, entry, size - 8 - header.length, file);
      found.set(name, { dtype, shape });
    }
    return found;
  } finally {
    closeSync(descriptor);
  }
}

function parseHeader(bytes: Uint8Array, size: number, file: string): { json: Record<string, unknown>; length: number } {
  if (size < 8 || bytes.length < 8) throw corrupt(file, `has ${size} bytes, a safetensors file has at least 8`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (length > MAX_HEADER || 8 + length > size) throw corrupt(file, `header length ${length} exceeds the file (${size} bytes)`);
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset + 8, length).toString('utf8'));
  } catch (error) {
    throw corrupt(file, `header is not JSON: ${(error as Error).message}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw corrupt(file, 'header is not a JSON object');
  return { json: json as Record<string, unknown>, length };
}

function checkEntry(name: string, entry: unknown, dataBytes: number, file: string): { dtype: SafetensorsDType; shape: number[]; begin: number; end: number } {
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  if (typeof dtype !== 'string' || !(dtype in BYTES)) throw corrupt(file, `tensor '${name}' has unknown dtype ${JSON.stringify(dtype)}`);
  if (!Array.isArray(shape) || !shape.every((d) => Number.isSafeInteger(d) && (d as number) >= 0)) throw corrupt(file, `tensor '${name}' has no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((o) => Number.isSafeInteger(o) && (o as number) >= 0)) throw corrupt(file, `tensor '${name}' has no valid data_offsets`);
  const [begin, end] = offsets as [number, number];
  const count = (shape as number[]).reduce((a, b) => a * b, 1);
  if (end < begin || end > dataBytes) throw corrupt(file, `tensor '${name}' ends at byte ${end} of ${dataBytes}: the file is truncated`);
  if (end - begin !== count * BYTES[dtype as SafetensorsDType]) throw corrupt(file, `tensor '${name}' of shape [${String(shape)}] holds ${end - begin} bytes, expected ${count * BYTES[dtype as SafetensorsDType]}`);
  return { dtype: dtype as SafetensorsDType, shape: shape as number[], begin, end };
}

/** The bytes of a safetensors file in pieces, ready to be written one after the other (header first). */
export function encodeSafetensors(tensors: Iterable<[string, RawTensor]>, metadata: Record<string, string> = {}): Uint8Array[] {
  const header: Record<string, unknown> = {};
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  const pieces: Uint8Array[] = [];
  let offset = 0;
  for (const [name, tensor] of tensors) {
    const expected = tensor.shape.reduce((a, b) => a * b, 1) * BYTES[tensor.dtype];
    if (tensor.data.byteLength !== expected) throw new SimmimError('invalid_argument', OP, `tensor '${name}' holds ${tensor.data.byteLength} bytes, shape [${tensor.shape}] of ${tensor.dtype} needs ${expected}`);
    header[name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, offset + expected] };
    offset += expected;
    pieces.push(tensor.data);
  }
  let text = JSON.stringify(header);
  text += ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8); // tensors start at a multiple of 8
  const json = Buffer.from(text, 'utf8');
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length), 0);
  return [prefix, json, ...pieces];
}

/** A float32 view or widened copy of a floating tensor. Throws `unsupported` for integer types. */
export function toFloat32(tensor: RawTensor, name = 'tensor'): Float32Array {
  const count = tensor.shape.reduce((a, b) => a * b, 1);
  const aligned = tensor.data.byteOffset % 8 === 0 ? tensor.data : new Uint8Array(tensor.data);
  const at = aligned.byteOffset;
  const out = new Float32Array(count);
  switch (tensor.dtype) {
    case 'F32':
      return new Float32Array(aligned.buffer, at, count).slice();
    case 'F64':
      out.set(new Float64Array(aligned.buffer, at, count));
      return out;
    case 'BF16': {
      const bits = new Uint32Array(out.buffer);
      const half = new Uint16Array(aligned.buffer, at, count);
      for (let i = 0; i < count; i++) bits[i] = (half[i] as number) << 16;
      return out;
    }
    case 'F16': {
      const half = new Uint16Array(aligned.buffer, at, count);
      for (let i = 0; i < count; i++) out[i] = halfToNumber(half[i] as number);
      return out;
    }
    default:
      throw new SimmimError('unsupported', OP, `'${name}' has dtype ${tensor.dtype}, expected a floating type`);
  }
}

function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Wraps a Float32Array as an F32 tensor without copying. */
export function fromFloat32(values: Float32Array, shape: number[]): RawTensor {
  return { dtype: 'F32', shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}
