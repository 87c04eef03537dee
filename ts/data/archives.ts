/**
 * Datasets inside archives, read in place: zip (stored or deflated) and tar shards. Opening reads the list of
 * members; each sample is later one positioned read, so any order and any resume position cost the same.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import { SimmimError } from '../errors';
import { byCodeUnit, datasetOfNames, IMAGE_EXTENSIONS, type FolderOptions, type ImageDataset, type Sample } from './dataset';

const OP = 'dataset';
type Place = Omit<Sample, 'label'>;

/** Positioned reads from one file; short reads are corrupt. */
class Reader {
  readonly size: number;
  private readonly descriptor: number;

  constructor(readonly file: string) {
    try {
      this.descriptor = openSync(file, 'r');
    } catch (error) {
      const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      throw new SimmimError(missing ? 'not_found' : 'io', OP, missing ? `'${file}' does not exist` : `cannot read '${file}': ${(error as Error).message}`);
    }
    this.size = fstatSync(this.descriptor).size;
  }

  read(offset: number, bytes: number): Buffer {
    const out = Buffer.alloc(bytes);
    if (offset < 0 || offset + bytes > this.size || readSync(this.descriptor, out, 0, bytes, offset) !== bytes) throw this.corrupt(`ends too early: ${bytes} bytes at ${offset} of ${this.size}`);
    return out;
  }

  corrupt(why: string): SimmimError {
    return new SimmimError('corrupt', OP, `archive '${this.file}' ${why}`);
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

function reading<T>(file: string, body: (reader: Reader) => T): T {
  const reader = new Reader(file);
  try {
    return body(reader);
  } finally {
    reader.close();
  }
}

/** Pictures only, nothing hidden. */
function wanted(name: string): boolean {
  return IMAGE_EXTENSIONS.has(extname(name).toLowerCase()) && !name.split('/').some((part) => part.startsWith('.') || part === '__MACOSX');
}

function dataset(source: string, places: Place[], options: FolderOptions): ImageDataset {
  if (places.length === 0) throw new SimmimError('invalid_argument', OP, `'${source}' holds no image (looked for ${[...IMAGE_EXTENSIONS].join(' ')})`);
  return datasetOfNames(source, places, options);
}

// ---- zip

const END_SIGNATURE = 0x06054b50;
const ENTRY_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const END_BYTES = 22;
const MAX_COMMENT = 65535;

function zipDirectory(reader: Reader): { offset: number; bytes: number; entries: number } {
  const tailBytes = Math.min(reader.size, END_BYTES + MAX_COMMENT);
  const tail = reader.read(reader.size - tailBytes, tailBytes);
  for (let at = tail.length - END_BYTES; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== END_SIGNATURE) continue;
    const entries = tail.readUInt16LE(at + 10);
    const bytes = tail.readUInt32LE(at + 12);
    const offset = tail.readUInt32LE(at + 16);
    if (entries === 0xffff || offset === 0xffffffff) throw new SimmimError('unsupported', OP, `archive '${reader.file}' is a zip64 file (over 65,534 members or 4 GiB): repack it as tar shards with 'simmim pack'`);
    return { offset, bytes, entries };
  }
  throw reader.corrupt('is no zip file, or cut off: its directory at the end is missing');
}

function zipPlaces(reader: Reader): Place[] {
  const { offset, bytes, entries } = zipDirectory(reader);
  const directory = reader.read(offset, bytes);
  const places: Place[] = [];
  for (let i = 0, at = 0; i < entries; i++) {
    if (at + 46 > directory.length || directory.readUInt32LE(at) !== ENTRY_SIGNATURE) throw reader.corrupt(`has a damaged directory at member ${i}`);
    const nameBytes = directory.readUInt16LE(at + 28);
    const name = directory.toString('utf8', at + 46, at + 46 + nameBytes).replaceAll('\\', '/');
    const method = directory.readUInt16LE(at + 10);
    if (wanted(name)) {
      if (directory.readUInt16LE(at + 8) & 1) throw new SimmimError('unsupported', OP, `'${name}' in archive '${reader.file}' is encrypted`);
      if (method !== 0 && method !== 8) throw new SimmimError('unsupported', OP, `'${name}' in archive '${reader.file}' uses compression method ${method}, expected stored (0) or deflate (8)`);
      const local = reader.read(directory.readUInt32LE(at + 42), 30);
      if (local.readUInt32LE(0) !== LOCAL_SIGNATURE) throw reader.corrupt(`has no member where its directory says '${name}' is`);
      const start = directory.readUInt32LE(at + 42) + 30 + local.readUInt16LE(26) + local.readUInt16LE(28);
      const packed = directory.readUInt32LE(at + 20);
      if (start + packed > reader.size) throw reader.corrupt(`is cut off inside '${name}'`);
      places.push({ name, location: { file: resolve(reader.file), offset: start, bytes: packed, codec: method === 8 ? 'deflate' : 'image' } });
    }
    at += 46 + nameBytes + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  return places;
}

/** The pictures of a zip file, in code-unit order of their names; classes as in a folder. */
export function openZip(file: string, options: FolderOptions = {}): ImageDataset {
  return dataset(file, reading(file, zipPlaces).sort((a, b) => byCodeUnit(a.name, b.name)), options);
}

// ---- tar

const BLOCK = 512;

/** A number field: octal text, or base 256 when its first bit is set. */
function tarNumber(header: Buffer, at: number, bytes: number): number {
  if ((header[at] as number) & 0x80) return header.subarray(at + 1, at + bytes).reduce((v, b) => v * 256 + b, 0);
  return parseInt(header.toString('latin1', at, at + bytes).replace(/[\0 ]+$/, '').trim() || '0', 8);
}

function tarText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

function checkTarHeader(reader: Reader, header: Buffer, at: number): void {
  let sum = 8 * 32; // the checksum field counts as blanks
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i] as number;
  if (sum !== tarNumber(header, 148, 8)) throw reader.corrupt(`is no tar file, or damaged: the header at byte ${at} has a wrong checksum`);
}

/** `path` of a pax extended header, or null. */
function paxPath(body: Buffer): string | null {
  for (let at = 0; at < body.length; ) {
    const blank = body.indexOf(32, at);
    const length = parseInt(body.toString('latin1', at, blank), 10);
    if (blank < 0 || !(length > 0)) return null;
    const record = body.toString('utf8', blank + 1, at + length - 1);
    if (record.startsWith('path=')) return record.slice(5);
    at += length;
  }
  return null;
}

function tarPlaces(reader: Reader): Place[] {
  const places: Place[] = [];
  let longName: string | null = null;
  for (let at = 0; ; ) {
    const header = reader.read(at, BLOCK);
    if (header.every((b) => b === 0)) return places;
    checkTarHeader(reader, header, at);
    const bytes = tarNumber(header, 124, 12);
    const kind = String.fromCharCode(header[156] as number);
    const body = at + BLOCK;
    if (!(bytes >= 0) || body + bytes > reader.size) throw reader.corrupt(`is cut off inside '${tarText(header.subarray(0, 100))}'`);
    if (kind === 'L') longName = tarText(reader.read(body, bytes));
    else if (kind === 'x') longName = paxPath(reader.read(body, bytes));
    else {
      const prefix = header.toString('latin1', 257, 262) === 'ustar' ? tarText(header.subarray(345, 500)) : '';
      const name: string = longName ?? (prefix ? `${prefix}/` : '') + tarText(header.subarray(0, 100));
      longName = null;
      const plain = name.replace(/^\.\//, '');
      if ((kind === '0' || kind === '\0') && wanted(plain)) places.push({ name: plain, location: { file: resolve(reader.file), offset: body, bytes, codec: 'image' } });
    }
    at = body + Math.ceil(bytes / BLOCK) * BLOCK;
  }
}

/** The pictures of tar shards, shard by shard in the given order, members in archive order; classes as in a folder. */
export function openTar(files: string | readonly string[], options: FolderOptions = {}): ImageDataset {
  const list = typeof files === 'string' ? [files] : files;
  return dataset(list.length === 1 ? (list[0] as string) : `${list.length} shards from ${list[0] ?? ''}`, list.flatMap((file) => reading(file, tarPlaces)), options);
}
