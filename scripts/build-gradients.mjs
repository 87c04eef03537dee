// Bundles tfjs-core's gradient configurations into dist/backend/core_gradients.cjs. Node cannot load
// tfjs-core/dist/gradients itself (ES modules with extensionless imports in a package that is not a module), and
// its Node bundle leaves them out. The bundle holds a second copy of the ops, which shares the engine through
// globalThis; it registers nothing, ts/backend/gradients.ts does, so that nothing already there is overwritten.
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const core = dirname(require.resolve('@tensorflow/tfjs-core'));
const files = readdirSync(join(core, 'gradients')).filter((file) => file.endsWith('_grad.js')).sort();
const entry = [
  ...files.map((file, i) => `import * as m${i} from ${JSON.stringify(`./gradients/${file}`)};`),
  `export const configs = [${files.map((_, i) => `...Object.values(m${i})`).join(', ')}].filter((c) => c && c.gradFunc);`,
].join('\n');
const common = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  minify: true,
  legalComments: 'eof',
  logLevel: 'warning',
};
await build({ ...common, stdin: { contents: entry, resolveDir: core, sourcefile: 'core_gradients.js' }, outfile: join(root, 'dist/backend/core_gradients.cjs') });
// Chained methods (x.add(y)), which the Node bundle leaves out as well.
await build({ ...common, entryPoints: [join(core, 'public/chained_ops/register_all_chained_ops.js')], outfile: join(root, 'dist/backend/chained_methods.cjs') });
