import { createHash, randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { SimmimError } from '../errors';

/** Name of the file that says which process trains in a run's folder. */
export const LOCK_FILE = 'running.json';

/** Milliseconds between two signs of life. */
const BEAT = 20_000;
/** A process on another machine, which cannot be asked, is gone after so many milliseconds without a sign of life. */
const GONE = 10 * BEAT;

interface Holder {
  pid: number;
  host: string;
  /** When the system started the process, in its own units: a later process may have the same number. Null where unknown. */
  started: string | null;
}

/** The right of one process to write into a run's folder. A killed process's right is void at once. */
export class RunLock {
  private readonly file: string;
  /** What the file says; another lock's says something else. */
  private readonly text: string;
  private readonly beat: NodeJS.Timeout;
  private held = true;

  /** Takes the folder, making it if needed. Throws `invalid_argument` while another process, or another run of this one, has it; `io`. */
  constructor(op: string, out: string) {
    this.file = join(out, LOCK_FILE);
    const holder: Holder = { pid: process.pid, host: hostname(), started: startOf(process.pid) };
    this.text = JSON.stringify({ ...holder, lock: randomUUID() });
    try {
      mkdirSync(out, { recursive: true });
      const other = take(this.file, this.text);
      if (other) throw refusal(op, out, other);
    } catch (error) {
      if (error instanceof SimmimError) throw error;
      throw new SimmimError('io', op, `cannot write '${this.file}': ${(error as Error).message}`);
    }
    this.beat = setInterval(() => this.live(), BEAT).unref();
  }

  /** Gives the folder back; a second call does nothing. */
  release(): void {
    if (!this.held) return;
    this.held = false;
    clearInterval(this.beat);
    if (readText(this.file) === this.text) rmSync(this.file, { force: true });
  }

  private live(): void {
    const now = new Date();
    try {
      utimesSync(this.file, now, now);
    } catch {
      // the folder was moved or deleted: writing the log and checkpoints says so
    }
  }
}

/** Throws `invalid_argument` while a living process trains in the folder `out`. */
export function refuseIfLocked(op: string, out: string): void {
  const file = join(out, LOCK_FILE);
  const holder = holderOf(readText(file));
  if (holder && lives(holder, file)) throw refusal(op, out, holder);
}

function refusal(op: string, out: string, { pid, host }: Holder): SimmimError {
  const where = host === hostname() ? '' : ` on '${host}'`;
  return new SimmimError('invalid_argument', op, `process ${pid}${where} is training in '${out}': two would overwrite each other's log and checkpoints; wait for it, stop it, or give another --out`);
}

/**
 * Makes `file` with `text` in it and returns null, or returns the living process that has it. A dead process's file is replaced, which
 * one process at a time may do: the one that takes, in the same way, the file beside it that is named after the dead one's text. Whoever
 * has that finds the dead file or what has followed it, and no other can follow it meanwhile.
 */
function take(file: string, text: string): Holder | null {
  for (;;) {
    if (create(file, text)) return null;
    const found = readText(file);
    if (found === null) continue; // given back a moment ago
    const holder = holderOf(found);
    if (holder && lives(holder, file)) return holder;
    const claim = `${file}.${createHash('sha256').update(found).digest('hex').slice(0, 16)}`;
    const other = take(claim, text);
    if (other) return other;
    if (readText(file) === found) {
      renameSync(claim, file);
      return null;
    }
    rmSync(claim, { force: true });
  }
}

/** Makes a file that is whole as soon as it is there; false when there is one of that name. */
function create(file: string, text: string): boolean {
  const draft = `${file}.${randomUUID()}`;
  writeFileSync(draft, text);
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EEXIST') throw error;
    return false;
  } finally {
    rmSync(draft, { force: true });
  }
}

function readText(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}

/** What a lock's file says; null where it is torn. */
function holderOf(text: string | null): Holder | null {
  try {
    const { pid, host, started } = JSON.parse(text ?? '') as Partial<Holder>;
    return typeof pid === 'number' && typeof host === 'string' ? { pid, host, started: started ?? null } : null;
  } catch {
    return null;
  }
}

function lives({ pid, host, started }: Holder, file: string): boolean {
  if (host !== hostname()) return Date.now() - (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) < GONE;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  return started === null || startOf(pid) === started;
}

/** The start of a process as Linux counts it, with the boot it belongs to; null on other systems. */
function startOf(pid: number): string | null {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop()?.split(' ');
    if (fields?.[0] === 'Z') return 'ended'; // killed, and its parent has not asked yet
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${fields?.[19] ?? ''}`;
  } catch {
    return null;
  }
}
