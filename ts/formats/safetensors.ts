import { SimmimError } from '../errors';
import { type ByteSource, bufferSource, withFile } from './byte_source';
import { DTYPE_BYTES, elementCount, type RawTensor, type StoredDType } from './raw_tensor';

export { fromFloat32, toFloat32, type RawTensor } from './raw_tensor';

/** Storage types of the safetensors format that simmim reads. */
export type SafetensorsDType = StoredDType;

/** A whole file: tensors in file order and the `__metadata__` strings. */
export interface Safetensors {
  tensors: Map<string, RawTensor>;
  metadata: Record<string, string>;
}

interface Entry {
  dtype: StoredDType;
  shape: number[];
  begin: number;
  end: number;
}

const MAX_HEADER = 100_000_000; // the format's own limit
const OP = 'safetensors';
const corrupt = (file: string, why: string): SimmimError => new SimmimError('corrupt', OP, `${file}: ${why}`);

/**
 * Reads a safetensors file whole. Every offset, size and shape is checked against the file before any
 * tensor is made, so a truncated or edited file is an error (`corrupt`), never garbage, and no more
 * memory is taken than the file has bytes.
 */
export function readSafetensors(file: string): Safetensors {
  return withFile(file, readFrom);
}

/** As {@link readSafetensors}, from bytes in memory (tensors are views of them); `file` names them in errors. */
export function parseSafetensors(bytes: Uint8Array, file = 'buffer'): Safetensors {
  return readFrom(bufferSource(bytes, file));
}

/** Reads only names, types and shapes. */
export function readSafetensorsHeader(file: string): Map<string, { dtype: StoredDType; shape: number[] }> {
  return withFile(file, (source) => {
    const found = new Map<string, { dtype: StoredDType; shape: number[] }>();
    for (const [name, { dtype, shape }] of readEntries(source).entries) found.set(name, { dtype, shape });
    return found;
  });
}

function readFrom(source: ByteSource): Safetensors {
  const { entries, metadata, start } = readEntries(source);
  const tensors = new Map<string, RawTensor>();
  for (const [name, { dtype, shape, begin, end }] of entries) tensors.set(name, { dtype, shape, data: source.read(start + begin, end - begin) });
  return { tensors, metadata };
}

function readEntries(source: ByteSource): { entries: Map<string, Entry>; metadata: Record<string, string>; start: number } {
  const header = readHeader(source);
  const start = 8 + header.length;
  const entries = new Map<string, Entry>();
  const metadata: Record<string, string> = {};
  for (const [name, entry] of Object.entries(header.json)) {
    if (name !== '__metadata__') entries.set(name, checkEntry(name, entry, source.size - start, source.name));
    else if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) throw corrupt(source.name, '__metadata__ is not an object');
    else for (const [key, value] of Object.entries(entry)) metadata[key] = String(value);
  }
  checkNoOverlap(entries, source.name);
  return { entries, metadata, start };
}

function readHeader(source: ByteSource): { json: object; length: number } {
  const { name: file, size } = source;
  if (size < 8) throw corrupt(file, `has ${size} bytes, a safetensors file has at least 8`);
  const prefix = source.read(0, 8);
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
  if (length > MAX_HEADER || 8 + length > size) throw corrupt(file, `header length ${length} exceeds the file (${size} bytes)`);
  const text = source.read(8, length);
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(text.buffer, text.byteOffset, length).toString('utf8'));
  } catch (error) {
    throw corrupt(file, `header is not JSON: ${(error as Error).message}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw corrupt(file, 'header is not a JSON object');
  return { json, length };
}

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function checkEntry(name: string, entry: unknown, dataBytes: number, file: string): Entry {
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype)) throw corrupt(file, `tensor '${name}' has unknown dtype ${JSON.stringify(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(isSize)) throw corrupt(file, `tensor '${name}' has no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) throw corrupt(file, `tensor '${name}' has no valid data_offsets`);
  const [begin, end] = offsets as [number, number];
  const bytes = elementCount(shape) * DTYPE_BYTES[dtype as StoredDType];
  if (end < begin || end > dataBytes) throw corrupt(file, `tensor '${name}' ends at byte ${end} of ${dataBytes}: the file is truncated`);
  if (end - begin !== bytes) throw corrupt(file, `tensor '${name}' of shape [${String(shape)}] holds ${end - begin} bytes, expected ${bytes}`);
  return { dtype: dtype as StoredDType, shape, begin, end };
}

/** Two tensors that share bytes are forbidden by the format, and would let a small file ask for much memory. */
function checkNoOverlap(entries: Map<string, Entry>, file: string): void {
  const ordered = [...entries].filter(([, entry]) => entry.end > entry.begin).sort((a, b) => a[1].begin - b[1].begin);
  for (let i = 1; i < ordered.length; i++) {
    const [name, { begin }] = ordered[i] as [string, Entry];
    const [before, { end }] = ordered[i - 1] as [string, Entry];
    if (begin < end) throw corrupt(file, `tensors '${before}' and '${name}' overlap`);
  }
}

/** The bytes of a safetensors file in pieces, ready to be written one after the other (header first). */
export function encodeSafetensors(tensors: Iterable<[string, RawTensor]>, metadata: Record<string, string> = {}): Uint8Array[] {
  const entries = [...tensors];
  for (const [name, tensor] of entries) {
    const expected = elementCount(tensor.shape) * DTYPE_BYTES[tensor.dtype];
    if (tensor.data.byteLength !== expected) throw new SimmimError('invalid_argument', OP, `tensor '${name}' holds ${tensor.data.byteLength} bytes, shape [${tensor.shape}] of ${tensor.dtype} needs ${expected}`);
  }
  return [encodeSafetensorsHeader(entries, metadata), ...entries.map(([, tensor]) => tensor.data)];
}

/** What precedes the data of a file, for writing tensors one by one: their bytes follow in this order without gaps. */
export function encodeSafetensorsHeader(tensors: Iterable<[string, Pick<RawTensor, 'dtype' | 'shape'>]>, metadata: Record<string, string> = {}): Uint8Array {
  const header: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) header.push(['__metadata__', metadata]);
  let offset = 0;
  for (const [name, { dtype, shape }] of tensors) {
    const end = offset + elementCount(shape) * DTYPE_BYTES[dtype];
    header.push([name, { dtype, shape, data_offsets: [offset, end] }]);
    offset = end;
  }
  let text = JSON.stringify(Object.fromEntries(header));
  text += ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8); // tensors start at a multiple of 8
  const json = Buffer.from(text, 'utf8');
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length), 0);
  return Buffer.concat([prefix, json]);
}
