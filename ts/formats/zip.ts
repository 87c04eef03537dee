import { crc32, inflateRawSync } from 'node:zlib';
import { SimmimError } from '../errors';
import type { ByteSource } from './byte_source';

/** One file of an archive, as its central directory describes it. */
export interface ZipEntry {
  readonly name: string;
  /** 0 stored, 8 deflate. */
  readonly method: number;
  readonly crc: number;
  readonly compressedSize: number;
  readonly size: number;
  readonly headerOffset: number;
}

const OP = 'zip';
const END = 0x06054b50;
const END64_LOCATOR = 0x07064b50;
const END64 = 0x06064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const NEEDS_64 = 0xffffffff;
const MAX_ENTRIES = 1_000_000;
const MAX_DIRECTORY = 256 * 1024 * 1024;
/** Deflate cannot shrink further than 1032 : 1; an entry that claims more is a bomb or damaged. */
const MAX_RATIO = 1032;

const corrupt = (name: string, why: string): SimmimError => new SimmimError('corrupt', OP, `${name}: ${why}`);

/**
 * The central directory of a zip archive (zip64 included), by name. Names are never used as paths here.
 * Throws `corrupt` for a directory that does not fit the file, `unsupported` for archives in parts.
 */
export function readZipDirectory(source: ByteSource): Map<string, ZipEntry> {
  const { count, size, offset } = findDirectory(source);
  if (count > MAX_ENTRIES || size > MAX_DIRECTORY) throw corrupt(source.name, `directory of ${count} entries in ${size} bytes is too large`);
  const bytes = source.read(offset, size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > size || view.getUint32(at, true) !== CENTRAL) throw corrupt(source.name, `directory entry ${i} of ${count} is damaged`);
    const nameLength = view.getUint16(at + 28, true);
    const extraLength = view.getUint16(at + 30, true);
    const end = at + 46 + nameLength + extraLength + view.getUint16(at + 32, true);
    if (end > size) throw corrupt(source.name, `directory entry ${i} of ${count} is truncated`);
    const entry = readEntry(view, at, nameLength, extraLength, source.name);
    if (entries.has(entry.name)) throw corrupt(source.name, `entry '${entry.name}' appears twice`);
    if (entry.headerOffset + 30 + entry.compressedSize > source.size) throw corrupt(source.name, `entry '${entry.name}' ends beyond the file: it is truncated`);
    entries.set(entry.name, entry);
    at = end;
  }
  return entries;
}

/** The content of an entry, inflated where needed and checked against its CRC-32. */
export function readZipEntry(source: ByteSource, entry: ZipEntry): Uint8Array {
  const header = source.read(entry.headerOffset, 30);
  const view = new DataView(header.buffer, header.byteOffset, 30);
  if (view.getUint32(0, true) !== LOCAL) throw corrupt(source.name, `entry '${entry.name}' has no local header at byte ${entry.headerOffset}`);
  if (view.getUint16(6, true) & 1) throw new SimmimError('unsupported', OP, `${source.name}: entry '${entry.name}' is encrypted`);
  const start = entry.headerOffset + 30 + view.getUint16(26, true) + view.getUint16(28, true);
  const stored = source.read(start, entry.compressedSize);
  const data = entry.method === 0 ? stored : inflate(source.name, entry, stored);
  if (data.length !== entry.size) throw corrupt(source.name, `entry '${entry.name}' has ${data.length} bytes, its directory says ${entry.size}`);
  // PyTorch writes 0 where it was told not to compute checksums.
  if (entry.crc !== 0 && crc32(data) !== entry.crc) throw corrupt(source.name, `entry '${entry.name}' fails its CRC-32 check: its bytes were changed`);
  return data;
}

function inflate(name: string, entry: ZipEntry, stored: Uint8Array): Uint8Array {
  if (entry.method !== 8) throw new SimmimError('unsupported', OP, `${name}: entry '${entry.name}' is compressed with method ${entry.method}; stored (0) and deflate (8) are read`);
  if (entry.size > stored.length * MAX_RATIO + 64) throw corrupt(name, `entry '${entry.name}' claims ${entry.size} bytes from ${stored.length} compressed ones`);
  try {
    const data = inflateRawSync(stored, { maxOutputLength: Math.max(1, entry.size) });
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  } catch (error) {
    throw corrupt(name, `entry '${entry.name}' does not inflate to its ${entry.size} bytes: ${(error as Error).message}`);
  }
}

function findDirectory(source: ByteSource): { count: number; size: number; offset: number } {
  const tailSize = Math.min(source.size, 22 + 0xffff);
  const tail = source.read(source.size - tailSize, tailSize);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  for (let at = tailSize - 22; at >= 0; at--) {
    if (view.getUint32(at, true) !== END || at + 22 + view.getUint16(at + 20, true) > tailSize) continue;
    const count = view.getUint16(at + 10, true);
    const size = view.getUint32(at + 12, true);
    const offset = view.getUint32(at + 16, true);
    const wide = count === 0xffff || size === NEEDS_64 || offset === NEEDS_64;
    const found = wide ? findDirectory64(source, source.size - tailSize + at) : { count, size, offset };
    if (found.offset + found.size > source.size) throw corrupt(source.name, `directory at byte ${found.offset} ends beyond the file`);
    return found;
  }
  throw corrupt(source.name, 'no zip directory at its end: not a zip archive, or truncated');
}

function findDirectory64(source: ByteSource, endAt: number): { count: number; size: number; offset: number } {
  const locator = source.read(endAt - 20, 20);
  const locatorView = new DataView(locator.buffer, locator.byteOffset, 20);
  if (locatorView.getUint32(0, true) !== END64_LOCATOR) throw corrupt(source.name, 'zip64 locator is missing');
  const record = source.read(toSize(locatorView.getBigUint64(8, true), source.name), 56);
  const view = new DataView(record.buffer, record.byteOffset, 56);
  if (view.getUint32(0, true) !== END64) throw corrupt(source.name, 'zip64 directory record is missing');
  const wide = (at: number): number => toSize(view.getBigUint64(at, true), source.name);
  return { count: wide(32), size: wide(40), offset: wide(48) };
}

function readEntry(view: DataView, at: number, nameLength: number, extraLength: number, file: string): ZipEntry {
  const name = Buffer.from(view.buffer, view.byteOffset + at + 46, nameLength).toString('utf8');
  let compressedSize = view.getUint32(at + 20, true);
  let size = view.getUint32(at + 24, true);
  let headerOffset = view.getUint32(at + 42, true);
  // The zip64 extra field holds, in this order, those of the three that did not fit.
  let extra = at + 46 + nameLength;
  const extraEnd = extra + extraLength;
  while (extra + 4 <= extraEnd) {
    const id = view.getUint16(extra, true);
    const fieldEnd = extra + 4 + view.getUint16(extra + 2, true);
    if (fieldEnd > extraEnd) break;
    if (id === 1) {
      let field = extra + 4;
      const next = (): number => {
        if (field + 8 > fieldEnd) throw corrupt(file, `entry '${name}' has a damaged zip64 field`);
        field += 8;
        return toSize(view.getBigUint64(field - 8, true), file);
      };
      if (size === NEEDS_64) size = next();
      if (compressedSize === NEEDS_64) compressedSize = next();
      if (headerOffset === NEEDS_64) headerOffset = next();
    }
    extra = fieldEnd;
  }
  return { name, method: view.getUint16(at + 10, true), crc: view.getUint32(at + 16, true), compressedSize, size, headerOffset };
}

function toSize(value: bigint, file: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw corrupt(file, `size ${value} is beyond any file`);
  return Number(value);
}
