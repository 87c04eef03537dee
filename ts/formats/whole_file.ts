import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { SimmimError } from '../errors';

/** Writes a file that appears whole or not at all, its folder included. Throws `io` in the name of the operation `op`. */
export function writeWhole(file: string, op: string, content: string | Uint8Array): void {
  const temporary = `${file}.writing`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(temporary, content);
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new SimmimError('io', op, `cannot write '${file}': ${(error as Error).message}`, { cause: error });
  }
}
