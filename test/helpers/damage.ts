import { SimmimError } from '../../ts/errors';

/** Damaged files in all: a thousand by default, SIMMIM_FUZZ=20000 for the full bar. */
export const TOTAL = Number(process.env.SIMMIM_FUZZ ?? 1000);
/** What one file may make us allocate: 64 MiB of expanded views, plus what the file itself and its tables take. */
const BOUND = 160 * 1024 * 1024;

/** mulberry32: small, seeded, independent of what is tested. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff, 0x28, 0x2e, 0x51, 0x52, 0x58, 0x71, 0x8a];

/** One to eight edits: truncation, changed, repeated, removed or inserted bytes, mostly where the structure is. */
function damage(original: Uint8Array, next: () => number): Uint8Array {
  let bytes = Buffer.from(original);
  const structure = next() < 0.7 ? Math.min(bytes.length, 2048) : bytes.length;
  const place = (): number => (next() < 0.2 ? bytes.length - 1 - Math.floor(next() * Math.min(bytes.length, 600)) : Math.floor(next() * Math.min(structure, bytes.length)));
  for (let edits = 1 + Math.floor(next() ** 2 * 8); edits > 0 && bytes.length > 0; edits--) {
    const at = Math.max(0, place());
    const kind = next();
    if (kind < 0.1) bytes = bytes.subarray(0, at);
    else if (kind < 0.45) bytes[at] = Math.floor(next() * 256);
    else if (kind < 0.7) bytes[at] = INTERESTING[Math.floor(next() * INTERESTING.length)] as number;
    else if (kind < 0.8) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + 64), bytes.subarray(at)]);
    else if (kind < 0.9) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + Math.floor(next() * 16))]);
    else for (let i = 0; i < 8 && at + i < bytes.length; i++) bytes[at + i] = next() < 0.5 ? 0xff : 0;
  }
  return bytes;
}

/**
 * Reads `count` damaged versions of intact files; returns how many were refused. Throws when one gives anything but a
 * value or a SimmimError with a message, takes over two seconds or allocates more than the bound.
 */
export function readDamaged(originals: Uint8Array[], count: number, read: (bytes: Uint8Array) => unknown): number {
  for (const original of originals) read(original);
  let refused = 0;
  for (let i = 0; i < count; i++) {
    const bytes = damage(originals[i % originals.length] as Uint8Array, random(i + 1));
    const before = process.memoryUsage();
    const started = performance.now();
    try {
      read(bytes);
    } catch (error) {
      if (!(error instanceof SimmimError)) throw new Error(`case ${i}: ${String((error as Error).stack)}`);
      if (!/\S+: .{10,}/.test(error.message)) throw new Error(`case ${i}: unclear message '${error.message}'`);
      refused++;
    }
    const after = process.memoryUsage();
    const grown = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
    if (performance.now() - started > 2000) throw new Error(`case ${i} took ${performance.now() - started} ms`);
    if (grown > BOUND) throw new Error(`case ${i} of ${bytes.length} bytes allocated ${grown} bytes`);
  }
  return refused;
}
