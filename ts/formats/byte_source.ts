import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { SimmimError } from '../errors';

/** Random access to the bytes of a file, or of a buffer. */
export interface ByteSource {
  /** Used in messages. */
  readonly name: string;
  readonly size: number;
  /** `length` bytes from `position`. Throws `corrupt` when they are not all there. */
  read(position: number, length: number): Uint8Array;
}

const OP = 'read';
const PIECE = 1 << 30; // one read call takes at most 2 GiB - 1 bytes

/** Opens a file, hands it to `use` and closes it. Throws `not_found` or `io`. */
export function withFile<T>(file: string, use: (source: ByteSource) => T): T {
  let descriptor: number;
  let size: number;
  try {
    descriptor = openSync(file, 'r');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SimmimError(missing ? 'not_found' : 'io', OP, `cannot read '${file}': ${(error as Error).message}`, { cause: error });
  }
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) throw new SimmimError('invalid_argument', OP, `'${file}' is not a file`);
    size = stat.size;
    return use({ name: file, size, read: (position, length) => readPiecewise(descriptor, file, size, position, length) });
  } finally {
    closeSync(descriptor);
  }
}

/** The same interface over bytes in memory. Reads are views, not copies. */
export function bufferSource(bytes: Uint8Array, name = 'buffer'): ByteSource {
  return {
    name,
    size: bytes.length,
    read(position, length) {
      checkRange(name, bytes.length, position, length);
      return new Uint8Array(bytes.buffer, bytes.byteOffset + position, length); // a plain view, also of a Buffer
    },
  };
}

function readPiecewise(descriptor: number, file: string, size: number, position: number, length: number): Uint8Array {
  checkRange(file, size, position, length);
  const out = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    let count: number;
    try {
      count = readSync(descriptor, out, done, Math.min(PIECE, length - done), position + done);
    } catch (error) {
      throw new SimmimError('io', OP, `cannot read '${file}': ${(error as Error).message}`, { cause: error });
    }
    if (count === 0) throw new SimmimError('io', OP, `'${file}' became shorter while it was read`);
    done += count;
  }
  return out;
}

function checkRange(name: string, size: number, position: number, length: number): void {
  if (position < 0 || length < 0 || position + length > size) {
    throw new SimmimError('corrupt', OP, `${name}: bytes ${position} to ${position + length} of ${size}: the file is truncated`);
  }
}
