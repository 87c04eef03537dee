import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { SimmimError } from '../errors';

const LARGEST_WRITE = 2 ** 30; // one system call takes no more than 2 GiB

/** Writes a file, whole or in pieces, that appears whole or not at all, its folder included. Throws `io` in the name of the operation `op`. */
export function writeWhole(file: string, op: string, content: string | Uint8Array | readonly Uint8Array[]): void {
  const temporary = `${file}.writing-${process.pid}`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    try {
      writeSynced(temporary, content);
      renameSync(temporary, file);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  } catch (error) {
    throw new SimmimError('io', op, `cannot write '${file}': ${(error as Error).message}`, { cause: error });
  }
}

function writeSynced(file: string, content: string | Uint8Array | readonly Uint8Array[]): void {
  const descriptor = openSync(file, 'w');
  try {
    if (typeof content === 'string' || content instanceof Uint8Array) writeFileSync(descriptor, content);
    else for (const piece of content) writePiece(descriptor, piece);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function writePiece(descriptor: number, piece: Uint8Array): void {
  for (let done = 0; done < piece.length; ) done += writeSync(descriptor, piece, done, Math.min(piece.length - done, LARGEST_WRITE));
}
