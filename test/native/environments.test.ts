import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';

const root = resolve(new URL('.', import.meta.url).pathname, '../..');

/** Runs in a worker or a child: fills tensors, checks them, leaves its environment while memory is live. */
const program = `
  const { kernels, mailbox } = require(${JSON.stringify(root + '/dist/native')});
  const addon = mailbox().addon;
  for (let round = 0; round < 200; round++) {
    const y = { storage: { handle: 0, dtype: 'f32' }, shape: [1000] };
    kernels.fill({ y, value: round });
    const seen = new Float32Array(1000);
    addon.readInto(y.storage.handle, seen);
    if (seen.some((v) => v !== round)) throw new Error('wrong values in round ' + round);
    if (round % 2) addon.release(y.storage.handle);
  }
  if (addon.stats().handles !== 100) throw new Error('handles of another environment: ' + addon.stats().handles);
`;

test('four workers run kernels at once, each with its own handles', async () => {
  const done = Array.from({ length: 4 }, () => new Promise<number>((finish, fail) => new Worker(program, { eval: true }).on('error', fail).on('exit', finish)));
  expect(await Promise.all(done)).toEqual([0, 0, 0, 0]);
});

test('two copies of the addon live in one process', () => {
  const twice = `
    const fs = require('fs'), os = require('os'), path = require('path');
    const copy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'simmim-')), 'simmim.node');
    fs.copyFileSync(process.env.SIMMIM_ADDON || ${JSON.stringify(root + '/build/Release/simmim.node')}, copy);
    ${program}
    const other = require(copy);
    other.setMailbox(new Int32Array(new SharedArrayBuffer(256)), new Float64Array(new SharedArrayBuffer(512)), Error);
    other.release(other.allocate(0, 10));
    if (other.stats().handles !== 0 || addon.stats().handles !== 100) throw new Error('the copies share state');
  `;
  execFileSync(process.execPath, ['-e', twice], { stdio: 'pipe' });
});

test('a bad SIMMIM_ISA is one clear sentence', () => {
  const run = (isa: string): string => execFileSync(process.execPath, ['-e', `const { mailbox } = require(${JSON.stringify(root + '/dist/native')}); try { console.log(mailbox().addon.info().isa) } catch (e) { console.log(e.message) }`], { env: { ...process.env, SIMMIM_ISA: isa }, encoding: 'utf8' }).trim();
  expect(run('baseline')).toBe('baseline');
  expect(run('sse9')).toBe("info: SIMMIM_ISA is 'sse9', expected baseline, avx2 or avx512");
});

test('a bad SIMMIM_QUEUE_FROM is one clear sentence', () => {
  const run = (from: string): string => execFileSync(process.execPath, ['-e', `try { require(${JSON.stringify(root + '/dist/native')}).mailbox(); console.log('ok') } catch (e) { console.log(e.message) }`], { env: { ...process.env, SIMMIM_QUEUE_FROM: from }, encoding: 'utf8' }).trim();
  expect(['0', '1e6', 'off'].map(run)).toEqual(['ok', 'ok', 'ok']);
  for (const bad of ['-1', '5k', 'on']) expect(run(bad)).toContain(`SIMMIM_QUEUE_FROM is '${bad}', expected a number of at least 0 or 'off'`);
});
