import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { SimmimError } from '../errors';

/** Writes a file, its folder included; throws `io` in the name of the command `op`. */
export function writeWhole(file: string, op: string, content: string | Uint8Array): void {
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  } catch (error) {
    throw new SimmimError('io', op, `cannot write '${file}': ${(error as Error).message}`);
  }
}
