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

/** The number of an option; throws `invalid_argument` for text, and for numbers below `least` (default: above 0). */
export function numberOption(op: string, option: string, text: string, least = Number.MIN_VALUE): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!(value >= least && value < Infinity)) throw new SimmimError('invalid_argument', op, `${option} is '${text}', expected a number ${least === Number.MIN_VALUE ? 'above 0' : `of at least ${least}`}`);
  return value;
}
