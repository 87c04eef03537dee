import { readFileSync, openSync, writeSync } from 'node:fs';
import { deserialize } from 'node:v8';
import type { Addon } from '../../ts/native';
import type { Call, Kernel } from './calls';
import { Draw } from './draw';
import { exportTurn } from './export_turn';
import { checkCorpus, kernelTurn } from './kernel_turn';
import { programTurn } from './program_turn';
import { setMailbox, type Session, NUMBERS, RELEASED, WORDS } from './session';
import { storageTurn } from './storage_turn';

/**
 * The fuzz itself, in a process of its own so that a crash is a result: node child.js OPTIONS with a JSON of these.
 * The number of the turn is in `progress` before it begins; turn 0 runs the calls as they were recorded.
 */
export interface Options {
  addon: string;
  corpus: string;
  progress: string;
  seed: number;
  first: number;
  /** Calls of the addon after which to stop. */
  calls: number;
  /** Whether every call is queued, or none. */
  queued: boolean;
  /** Say what is done before doing it. */
  verbose: boolean;
}

async function main(options: Options): Promise<void> {
  const { kernels, calls } = deserialize(readFileSync(options.corpus)) as { kernels: Kernel[]; calls: Call[] };
  const addon = require(options.addon) as Addon;
  const session: Session = {
    addon, kernels, calls,
    words: new Int32Array(new SharedArrayBuffer(WORDS * 4)),
    numbers: new Float64Array(new SharedArrayBuffer(NUMBERS * 8)),
    released: new Int32Array(new SharedArrayBuffer((1 + RELEASED) * 4)),
    draw: new Draw(options.seed, 0),
    queueFrom: options.queued ? 0 : 1e300,
    say: (text) => { if (options.verbose) writeSync(2, `${text()}\n`); },
    counts: { answered: 0, refused: 0 },
  };
  setMailbox(session);
  addon.queueFrom(options.queued ? 0 : 1e300);
  const progress = openSync(options.progress, 'w');
  const { counts } = session;
  writeSync(progress, '0 ', 0);
  if (options.first === 0) checkCorpus(session);
  counts.answered = counts.refused = 0;
  for (let turn = Math.max(1, options.first); counts.answered + counts.refused < options.calls; turn++) {
    writeSync(progress, `${turn} `, 0);
    session.draw = new Draw(options.seed, turn);
    const kind = session.draw.below(20);
    if (kind < 16) kernelTurn(session);
    else if (kind === 16) await programTurn(session);
    else if (kind === 17) await storageTurn(session);
    else await exportTurn(session);
  }
  process.stdout.write(JSON.stringify(counts));
}

void main(JSON.parse(process.argv[2] as string) as Options).catch((error: unknown) => {
  writeSync(2, `${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});
