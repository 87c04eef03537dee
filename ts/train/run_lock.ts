import { mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
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
  private readonly beat: NodeJS.Timeout;
  private held = true;

  /** Takes the folder, making it if needed. Throws `invalid_argument` while another process, or another run of this one, has it; `io`. */
  constructor(op: string, out: string) {
    this.file = join(out, LOCK_FILE);
    try {
      mkdirSync(out, { recursive: true });
      if (!this.take()) {
        refuseIfLocked(op, out);
        rmSync(this.file, { force: true });
        if (!this.take()) refuseIfLocked(op, out); // another one was quicker
      }
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
    rmSync(this.file, { force: true });
  }

  private take(): boolean {
    const holder: Holder = { pid: process.pid, host: hostname(), started: startOf(process.pid) };
    try {
      writeFileSync(this.file, JSON.stringify(holder), { flag: 'wx' });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    }
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
  const holder = readHolder(file);
  if (!holder || !lives(holder, file)) return;
  const where = holder.host === hostname() ? '' : ` on '${holder.host}'`;
  throw new SimmimError('invalid_argument', op, `process ${holder.pid}${where} is training in '${out}': two would overwrite each other's log and checkpoints; wait for it, stop it, or give another --out`);
}

function readHolder(file: string): Holder | null {
  try {
    const { pid, host, started } = JSON.parse(readFileSync(file, 'utf8')) as Partial<Holder>;
    return typeof pid === 'number' && typeof host === 'string' ? { pid, host, started: started ?? null } : null;
  } catch {
    return null; // none, or torn by a crash
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
