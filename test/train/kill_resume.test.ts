/**
 * A run killed at random moments and resumed each time ends with the bits of a run that nobody touched.
 * SIMMIM_KILLS sets how often (default 4); SIMMIM_KILL_SEED the moments.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { checkpointsFolder, latestCheckpoint, listCheckpoints, openCheckpoint } from '../../ts/train/checkpoint';
import { Rng } from '../../ts/rng';

const KILLS = Number(process.env.SIMMIM_KILLS ?? 4);
const CLI = resolve(new URL('.', import.meta.url).pathname, '../../dist/cli/main.js');
const folder = mkdtempSync(join(tmpdir(), 'simmim-kill-'));
afterAll(() => rmSync(folder, { recursive: true }));

// A checkpoint after every second update: a good part of the time goes into writing them.
const COMMON = [
  'model.imageSize=32', 'model.embedDim=16', 'model.depths=[2,2]', 'model.heads=[2,4]', 'model.windowSize=4', 'model.dropPath=0.1', 'data.samplesPerEpoch=52', 'data.workers=1',
  'train.batchSize=4', 'schedule.warmupEpochs=1', 'validation.everyEpochs=3', 'checkpoint.everySteps=2',
];
/** Command, recipe, its settings, the files of its checkpoints, and the share of the kills that it gets. */
const RUNS: Record<string, { arguments: string[]; files: string[]; kills: number }> = {
  pretrain: { arguments: ['--recipe', 'demo', ...sets([...COMMON, 'masking.patchSize=8', 'train.epochs=6', 'validation.images=4'])], files: ['model.safetensors', 'optimizer.safetensors'], kills: Math.ceil(KILLS / 2) },
  finetune: { arguments: ['--recipe', 'finetune/demo', ...sets([...COMMON, 'train.epochs=3', 'checkpoint.keep=3'])], files: ['model.safetensors', 'optimizer.safetensors', 'ema.safetensors'], kills: Math.floor(KILLS / 2) },
};

function sets(values: readonly string[]): string[] {
  return values.flatMap((s) => ['--set', s]);
}

/** Runs the CLI; kills it with SIGKILL `afterMs` after its first progress line, or lets it end. */
function run(command: string, out: string, killAfterMs: number | null): Promise<{ code: number | null; killed: boolean; stderr: string }> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [CLI, command, ...(RUNS[command]?.arguments ?? []), '--resume', '--out', out], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    let timer: NodeJS.Timeout | null = null;
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
      if (killAfterMs !== null && timer === null) timer = setTimeout(() => child.kill('SIGKILL'), killAfterMs);
    });
    child.on('error', fail);
    child.on('close', (code, signal) => {
      if (timer) clearTimeout(timer);
      done({ code, killed: signal === 'SIGKILL', stderr });
    });
  });
}

/** Files of the newest checkpoint: weights and moments as bytes, and the position. */
function final(command: string, out: string): unknown[] {
  const checkpoint = latestCheckpoint(checkpointsFolder(out), (sentence) => expect.fail(sentence));
  if (!checkpoint) throw new Error(`no checkpoint in ${out}`);
  const bytes = (name: string): string => readFileSync(join(checkpoint.folder, name)).toString('base64');
  return [checkpoint.state.position, ...(RUNS[command]?.files ?? []).map(bytes)];
}

const losses = (out: string): unknown[] => readFileSync(join(out, 'log.jsonl'), 'utf8').trim().split('\n').map((line) => {
  const { step, loss, gradientNorm } = JSON.parse(line) as Record<string, number>;
  return [step, loss, gradientNorm];
});

test.each(Object.entries(RUNS))(`%s, killed and resumed, ends with the weights of the uninterrupted run (${KILLS} kills in all)`, { timeout: 60_000 + KILLS * 30_000 }, async (command, { kills }) => {
  const whole = join(folder, command, 'whole');
  const begin = performance.now();
  expect(await run(command, whole, null)).toMatchObject({ code: 0 });
  const length = performance.now() - begin;
  const rng = new Rng(Number(process.env.SIMMIM_KILL_SEED ?? 1));
  const broken = join(folder, command, 'broken');
  let killed = 0;
  let restarts = 0;
  while (killed < kills) {
    const last = await run(command, broken, rng.uniform() * Math.min(0.5 * length, 1500));
    for (const checkpoint of listCheckpoints(checkpointsFolder(broken))) openCheckpoint(checkpoint); // throws for an unreadable one
    if (last.killed) killed++;
    else {
      // It finished before the blow: compare, then begin again until all blows have fallen.
      expect(last.code, last.stderr).toBe(0);
      expect(final(command, broken)).toEqual(final(command, whole));
      rmSync(broken, { recursive: true });
      if (++restarts > kills) break;
    }
  }
  expect(killed).toBe(kills);
  expect(await run(command, broken, null)).toMatchObject({ code: 0 });
  expect(final(command, broken)).toEqual(final(command, whole));
  expect(losses(broken)).toEqual(losses(whole));
  expect(readdirSync(checkpointsFolder(broken)).filter((name) => !name.startsWith('step-'))).toEqual([]);
});

test('Ctrl-C saves and ends cleanly, in the middle of an epoch; resumed, the end is the same', async () => {
  const out = join(folder, 'stopped');
  const child = spawn(process.execPath, [CLI, 'pretrain', ...(RUNS.pretrain?.arguments ?? []), '--out', out], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.once('data', () => setTimeout(() => child.kill('SIGINT'), 100));
  const code = await new Promise((done) => child.on('close', done));
  expect(code).toBe(0);
  expect(stdout).toContain('stopped after update');
  expect(await run('pretrain', out, null)).toMatchObject({ code: 0 });
  expect(final('pretrain', out)).toEqual(final('pretrain', join(folder, 'pretrain', 'whole')));
});
