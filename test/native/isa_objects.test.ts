import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(new URL('.', import.meta.url).pathname, '../..');
const build = join(root, 'build-cmake/CMakeFiles');

/**
 * Files compiled per instruction set must define nothing that other levels could share: a weak symbol (an
 * out-of-line inline function) outside simmim::<level> would be merged by the linker, perhaps into AVX-512 code.
 */
test.each(['baseline', 'avx2', 'avx512'])('objects of level %s define no shared inline function', (level) => {
  const dir = join(build, `level_${level}.dir`);
  const objects = readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.o'));
  expect(objects.length).toBeGreaterThan(1);
  for (const object of objects) {
    const symbols = execFileSync('nm', ['-C', '--defined-only', join(dir, object)], { encoding: 'utf8' }).split('\n');
    const shared = symbols.filter((line) => / [WVu] /.test(line) && !line.includes(`simmim::${level}::`) && !/ DW\.ref\./.test(line));
    expect(shared, object).toEqual([]);
  }
});
