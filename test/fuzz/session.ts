import { SimmimError, type ErrorCode } from '../../ts/errors';
import type { Addon } from '../../ts/native';
import type { Call, Kernel } from './calls';
import type { Draw } from './draw';

/** What was found wrong; the message of the report. */
export class Finding extends Error {}

/** One run of the fuzz: the addon, right calls to start from, and what has been done so far. */
export interface Session {
  addon: Addon;
  kernels: Kernel[];
  calls: Call[];
  words: Int32Array;
  numbers: Float64Array;
  released: Int32Array;
  draw: Draw;
  /** Estimated work from which calls are queued. */
  queueFrom: number;
  /** Says what is about to be done, when a turn is run by itself. */
  say(text: () => string): void;
  /** Calls of the addon by what came of them. */
  counts: { answered: number; refused: number };
}

const CODES: readonly ErrorCode[] = ['invalid_argument', 'unsupported', 'not_found', 'io', 'corrupt', 'disposed', 'out_of_memory', 'device_lost', 'non_finite', 'not_recordable', 'interrupted'];
/** A call that takes longer hangs, for all that a caller can tell: the tensors are small. */
const MOST_MS = 5000;
/** Beyond what the caller's tensors take: blocks of a matrix product and the like. */
export const MOST_EXTRA_BYTES = 64 << 20;

export const WORDS = 1024;
export const NUMBERS = 256;
export const RELEASED = 8;

/** Hands the addon the mailbox and our error class, as ts/native does. */
export function setMailbox(session: Pick<Session, 'addon' | 'words' | 'numbers' | 'released'>): void {
  session.addon.setMailbox(session.words, session.numbers, SimmimError, session.released);
}

/** What `action` returns, or the SimmimError that it throws. Anything else that it throws, or too long a wait, is a finding. */
export function attempt<T>(session: Session, what: () => string, action: () => T): { result: T } | { error: SimmimError } {
  session.say(what);
  const started = performance.now();
  try {
    const result = action();
    session.counts.answered++;
    return { result };
  } catch (error) {
    session.counts.refused++;
    return { error: refusal(error, what) };
  } finally {
    const took = performance.now() - started;
    // eslint-disable-next-line no-unsafe-finally -- a call that hangs is a finding whatever else it does
    if (took > MOST_MS) throw new Finding(`${what()}: took ${took.toFixed(0)} ms`);
  }
}

/** Holds an error to the promises of every error of ours. */
export function refusal(error: unknown, what: () => string): SimmimError {
  if (!(error instanceof SimmimError)) throw new Finding(`${what()}: threw ${error instanceof Error ? error.stack : String(error)}`);
  if (!CODES.includes(error.code)) throw new Finding(`${what()}: an error with the code ${error.code}: ${error.message}`);
  if (!/^\S+: .{8,}/.test(error.message)) throw new Finding(`${what()}: the unclear message '${error.message}'`);
  return error;
}

export function expectSame(session: Session, what: () => string, before: { handles: number; live: number }): void {
  const { handles, live } = session.addon.stats();
  if (handles !== before.handles || live !== before.live) throw new Finding(`${what()}: left ${handles - before.handles} handles and ${live - before.live} bytes behind`);
}

/** The first byte in which two arrays differ, or -1. */
export const difference = (a: Uint8Array, b: Uint8Array): number => (a.length !== b.length ? Math.min(a.length, b.length) : Buffer.compare(a, b) === 0 ? -1 : a.findIndex((byte, i) => byte !== b[i]));
