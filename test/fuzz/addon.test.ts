/**
 * Every function of the addon and every kernel with wrong handles, ranks, sizes, dtypes and arguments: right calls, recorded
 * from the backend's and the ops' own cases, in which something is broken. An error of ours or a right result; never a crash, a
 * hang, a report of a sanitizer or memory out of proportion.
 *   SIMMIM_FUZZ_CALLS=100000 scripts/test-sanitize.sh test/fuzz     the long run; SIMMIM_FUZZ_SEED: other draws
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { serialize } from 'node:v8';
import * as tf from '@tensorflow/tfjs-core';
import { buildSync } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import '../../ts/backend';
import type { Options } from './child';
import { recordCorpus } from './corpus';

const CALLS = Number(process.env.SIMMIM_FUZZ_CALLS ?? 3000);
const SEED = Number(process.env.SIMMIM_FUZZ_SEED ?? 1);
const SILENT_MS = 60_000;
const TAIL = 6000;
const here = resolve(new URL('.', import.meta.url).pathname);
const folder = mkdtempSync(join(tmpdir(), 'simmim-fuzz-'));
const corpus = join(folder, 'corpus');
const program = join(folder, 'child.cjs');

interface Ended {
  how: string;
  turn: number;
  stdout: string;
  stderr: string;
}

/** Runs the fuzz from a turn on; a turn that lasts is stopped. */
function run(first: number, calls: number, mode: string, verbose: boolean): Promise<Ended> {
  const progress = join(folder, `progress-${mode}`);
  writeFileSync(progress, `${first} `);
  const options: Options = { addon: process.env.SIMMIM_ADDON ?? resolve(here, '../../build/Release/simmim.node'), corpus, progress, seed: SEED, first, calls, queued: mode === 'queued', verbose };
  const turn = (): number => Number.parseInt(readFileSync(progress, 'utf8'), 10);
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, ['--expose-gc', program, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr, seen, since] = ['', '', -1, Date.now()];
    const watch = setInterval(() => {
      if (turn() !== seen) [seen, since] = [turn(), Date.now()];
      else if (Date.now() - since > SILENT_MS) child.kill('SIGKILL');
    }, 500);
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-100_000)));
    child.on('error', fail);
    child.on('close', (code, signal) => {
      clearInterval(watch);
      done({ how: signal === 'SIGKILL' ? `hung for ${SILENT_MS / 1000} s` : signal ? `died of ${signal}` : code === 0 ? '' : `exit ${code}`, turn: turn(), stdout, stderr });
    });
  });
}

/** What a failure was: the turn once more by itself, saying what it does. */
async function report({ how, turn, stderr }: Ended, mode: string): Promise<string> {
  const again = await run(turn, 1, mode, true);
  return `seed ${SEED}, turn ${turn}: ${how}\n${stderr.slice(0, TAIL)}\n--- the turn by itself (${again.how || 'no failure'}):\n${again.stderr.slice(0, 2 * TAIL)}`;
}

describe('the addon under wrong use', () => {
  beforeAll(async () => {
    await tf.setBackend('simmim-cpu');
    writeFileSync(corpus, serialize(await recordCorpus()));
    buildSync({ entryPoints: [join(here, 'child.ts')], bundle: true, platform: 'node', format: 'cjs', target: 'node20', packages: 'external', outfile: program });
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each([['at once', 'eager', CALLS], ['behind the event loop', 'queued', Math.ceil(CALLS / 2)]])('calls that run %s: an answer or a SimmimError', async (_, mode, calls) => {
    const ended = await run(0, calls, mode, false);
    if (ended.how) expect.fail(await report(ended, mode));
    const { answered, refused } = JSON.parse(ended.stdout) as { answered: number; refused: number };
    console.log(`fuzz, seed ${SEED}: ${ended.turn + 1} turns, ${answered} calls answered, ${refused} refused`);
    // Both sides of the checks are reached.
    expect(answered).toBeGreaterThan(calls / 10);
    expect(refused).toBeGreaterThan(calls / 10);
  }, 3_600_000);
});
