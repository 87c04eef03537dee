/** One process at a time writes into a run's folder; a killed one's right is void at once. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { LOCK_FILE, refuseIfLocked, RunLock } from '../../ts/train/run_lock';

const dir = mkdtempSync(join(tmpdir(), 'simmim-lock-'));
afterAll(() => rmSync(dir, { recursive: true }));

/** A process that does nothing until it is killed. */
async function sleeper(): Promise<{ pid: number; kill: () => Promise<void> }> {
  const child = spawn(process.execPath, ['-e', "console.log('up'); setInterval(() => {}, 1000)"], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((up) => child.stdout.once('data', up));
  return {
    pid: child.pid as number,
    kill: async () => {
      child.kill('SIGKILL');
      await new Promise((gone) => child.once('exit', gone));
    },
  };
}

test('a second run in the folder is refused until the first gives it back', () => {
  const out = join(dir, 'a/b');
  const lock = new RunLock('train', out);
  expect(() => new RunLock('train', out)).toThrow(`train: process ${process.pid} is training in '${out}'`);
  expect(() => refuseIfLocked('pretrain', out)).toThrow('pretrain: process');
  const other = new RunLock('train', join(dir, 'c'));
  lock.release();
  expect(existsSync(join(out, LOCK_FILE))).toBe(false);
  const next = new RunLock('train', out);
  lock.release(); // of a right that is no longer its own
  expect(existsSync(join(out, LOCK_FILE))).toBe(true);
  next.release();
  other.release();
  refuseIfLocked('pretrain', out);
});

test('the right of a killed process is void, also when another one got its number', async () => {
  const out = join(dir, 'killed');
  const { pid, kill } = await sleeper();
  const holder = (more: object): void => writeFileSync(join(out, LOCK_FILE), JSON.stringify({ pid, host: hostname(), started: null, ...more }));
  new RunLock('train', out).release();
  holder({});
  expect(() => new RunLock('train', out)).toThrow(`process ${pid} is training`);
  if (process.platform === 'linux') {
    holder({ started: 'another boot 17' });
    new RunLock('train', out).release();
  }
  holder({});
  await kill();
  const lock = new RunLock('train', out);
  expect((JSON.parse(readFileSync(join(out, LOCK_FILE), 'utf8')) as { pid: number }).pid).toBe(process.pid);
  lock.release();
});

test('a process of another machine is believed while it gives signs of life; half a file is not', () => {
  const out = join(dir, 'far');
  new RunLock('train', out).release();
  const file = join(out, LOCK_FILE);
  writeFileSync(file, JSON.stringify({ pid: 1, host: 'elsewhere', started: null }));
  expect(() => new RunLock('train', out)).toThrow("process 1 on 'elsewhere' is training");
  const longAgo = new Date(Date.now() - 3_600_000);
  utimesSync(file, longAgo, longAgo);
  new RunLock('train', out).release();
  writeFileSync(file, '{"pid": 1');
  new RunLock('train', out).release();
  expect(existsSync(file)).toBe(false);
});
