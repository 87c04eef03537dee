// Runs every command of the README's ```sh blocks, except the ones CI runs anyway (npm ci, npm test) and
// lines marked `# not in CI: reason`. Fails on the first command that fails.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const commands = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) => block.split('\n')).map((line) => line.trim()).filter((line) => line && !line.startsWith('#') && !line.includes('# not in CI:'));

let ran = 0;
for (const line of commands) {
  const command = line
    .replace(/\s#.*$/, '')
    .split('&&')
    .map((part) => part.trim())
    .filter((part) => part !== 'npm ci' && part !== 'npm test')
    .join(' && ')
    .replace(/^npx simmim/, 'node dist/cli/main.js');
  if (!command) continue;
  console.log(`$ ${command}`);
  const { status } = spawnSync('bash', ['-c', command], { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    console.error(`README command failed: ${command}`);
    process.exit(1);
  }
  ran++;
}
if (ran === 0) {
  console.error('README has no commands to run');
  process.exit(1);
}
console.log(`${ran} README commands ok`);
