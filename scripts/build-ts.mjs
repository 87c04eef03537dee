// Compiles ts/ to dist/ (CommonJS + declarations), copies the recipes, bundles tfjs-core's gradients and makes the CLI executable.
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const packageFile = require.resolve('typescript/package.json');
const tsc = join(dirname(packageFile), JSON.parse(readFileSync(packageFile, 'utf8')).bin.tsc);
const result = spawnSync(process.execPath, [tsc, '-p', join(root, 'ts/tsconfig.json'), ...process.argv.slice(2)], { stdio: 'inherit' });
if (result.status !== 0) process.exit(result.status ?? 1);
// Recipes are data: the CLI reads them from dist/recipes.
rmSync(join(root, 'dist/recipes'), { recursive: true, force: true });
if (existsSync(join(root, 'ts/recipes'))) cpSync(join(root, 'ts/recipes'), join(root, 'dist/recipes'), { recursive: true });
const cli = join(root, 'dist/cli/main.js');
if (existsSync(cli)) chmodSync(cli, 0o755);
await import('./build-gradients.mjs');
