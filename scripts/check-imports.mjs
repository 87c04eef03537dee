// Whether everything that tests on a GPU and benches import is there: their files, and the entries of packages. Prints what is
// not and ends with 1.
import { build } from 'esbuild';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(join(root, 'package.json'));
const folders = ['test/cuda', 'test/ops', 'test/backend', 'test/autodiff', 'test/native', 'test/models'];
const tests = folders.flatMap((folder) => readdirSync(join(root, folder)).filter((file) => file.endsWith('.test.ts')).map((file) => join(root, folder, file)));
const benches = ['main.ts', 'rivals/simmim_server.ts'].map((file) => join(root, 'bench', file));

/** A package may be imported as a module alone, so that require.resolve refuses it: its folder must be there. */
function isThere(name) {
  try {
    return existsSync(require.resolve(name));
  } catch {
    const [scope, inner] = name.split('/');
    const file = join(root, 'node_modules', scope.startsWith('@') ? join(scope, inner) : scope, 'package.json');
    return existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).exports !== undefined;
  }
}

const { metafile } = await build({ entryPoints: [...tests, ...benches], outdir: root, bundle: true, write: false, metafile: true, platform: 'node', format: 'esm', packages: 'external', logLevel: 'error' });
const packages = new Set(Object.values(metafile.inputs).flatMap(({ imports }) => imports.filter(({ external, path }) => external && path !== '<runtime>').map(({ path }) => path)));
const missing = [...packages].filter((name) => !isBuiltin(name) && !isThere(name));
for (const name of missing) console.log(`${name} is not there`);
process.exit(missing.length > 0 ? 1 : 0);
