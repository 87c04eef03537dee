import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const root = resolve(__dirname, '../..');

// 4225 specs run in Node once upstream's guards on browsers and networks have dropped theirs; 5 are pending upstream (xit).
it('tfjs-core 4.22: every spec of its own suite', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'test/conformance/run.cjs')], { cwd: root, maxBuffer: 1 << 24 }).catch((error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }));
  const lines = stdout.trim().split('\n');
  const counts = JSON.parse(lines.pop() as string) as Record<string, number>;
  console.log(`tfjs-core suite on simmim-cpu: run ${counts.run}, passed ${counts.passed}, failed ${counts.failed}, skipped ${counts.skipped}`);
  expect(lines.filter((line) => line.startsWith('FAIL'))).toEqual([]);
  expect(counts).toEqual({ run: 4225, passed: 4225, failed: 0, skipped: 5 });
});
