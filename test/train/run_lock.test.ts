/** One process at a time writes into a run's folder; a killed one's right is void at once. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
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

/** A lock whose process has ended. */
async function dead(): Promise<string> {
  const { pid, kill } = await sleeper();
  await kill();
  return JSON.stringify({ pid, host: hostname(), started: null });
}

/** A process that tries to take the folders it is told, with a pause before every access to a file, and holds them until the next. */
const CONTESTANT = `
const fs = require('node:fs');
const cell = new Int32Array(new SharedArrayBuffer(4));
for (const name of ['linkSync', 'readFileSync', 'renameSync', 'rmSync', 'writeFileSync']) {
  const call = fs[name];
  fs[name] = (...args) => (Atomics.wait(cell, 0, 0, Math.random() * 4), call(...args));
}
const { RunLock } = require(${JSON.stringify(resolve(__dirname, '../../dist/train/run_lock.js'))});
let lock = null;
process.on('message', ({ out }) => {
  lock?.release();
  lock = null;
  try {
    if (out) lock = new RunLock('train', out);
    process.send({ got: lock !== null });
  } catch (error) {
    process.send({ got: false, said: error.message });
  }
});`;

test('of processes that find the lock of a dead one at the same instant, one gets the folder', async () => {
  const script = join(dir, 'contestant.cjs');
  writeFileSync(script, CONTESTANT);
  const children = Array.from({ length: 4 }, () => fork(script));
  const ask = (child: ChildProcess, message: object): Promise<{ got: boolean; said?: string }> => new Promise((answer) => {
    child.once('message', answer as (reply: unknown) => void);
    child.send(message);
  });
  const text = await dead();
  try {
    for (let round = 0; round < 100; round++) {
      const out = join(dir, `race-${round}`);
      mkdirSync(out);
      writeFileSync(join(out, LOCK_FILE), round % 3 === 2 ? '{"pid": 1' : text);
      const answers = await Promise.all(children.map((child) => ask(child, { out })));
      expect(answers.filter(({ got }) => got), `round ${round}: ${JSON.stringify(answers)}`).toHaveLength(1);
      for (const { got, said } of answers) if (!got) expect(said).toMatch(/train: process \d+ is training/);
      expect(readdirSync(out), `round ${round}`).toEqual([LOCK_FILE]);
    }
    await Promise.all(children.map((child) => ask(child, {})));
    expect(readdirSync(join(dir, 'race-99'))).toEqual([]);
  } finally {
    for (const child of children) child.kill();
  }
});

test('a process that is killed while it replaces a dead one leaves nothing in the way', async () => {
  const out = join(dir, 'half');
  mkdirSync(out);
  writeFileSync(join(out, LOCK_FILE), await dead());
  const script = join(dir, 'killed.cjs');
  writeFileSync(script, `const fs = require('node:fs'); fs.renameSync = () => process.kill(process.pid, 'SIGKILL');
new (require(${JSON.stringify(resolve(__dirname, '../../dist/train/run_lock.js'))}).RunLock)('train', process.argv[2]);`);
  const child = fork(script, [out]);
  const signal = await new Promise((ended) => child.once('exit', (_, name) => ended(name)));
  expect(signal).toBe('SIGKILL');
  expect(readdirSync(out)).toHaveLength(2);
  const lock = new RunLock('train', out);
  expect((JSON.parse(readFileSync(join(out, LOCK_FILE), 'utf8')) as { pid: number }).pid).toBe(process.pid);
  expect(readdirSync(out)).toEqual([LOCK_FILE]);
  lock.release();
  expect(readdirSync(out)).toEqual([]);
});
