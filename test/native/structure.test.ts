import { execFileSync, spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(dirname(), '../..');
function dirname(): string {
  return new URL('.', import.meta.url).pathname;
}

test('the tree follows its architecture', () => {
  expect(execFileSync(process.execPath, [join(root, 'scripts/check-structure.mjs')], { encoding: 'utf8' })).toContain('structure ok');
});

test('kernels.gen.ts is what the addon says', () => {
  execFileSync(process.execPath, [join(root, 'scripts/gen-kernels.mjs'), '--check']);
});

test('tests and benches are as strictly typed as the library', () => {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const run = spawnSync(process.execPath, [compiler, '-p', join(root, 'test/tsconfig.json')], { encoding: 'utf8' });
  expect(run.stdout).toBe('');
  expect(run.status).toBe(0);
});
