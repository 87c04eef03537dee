// npm run bench -- [step|ops|profile|replay|limits|tfjs|dispatch] [options]: bundles bench/ and runs it; see bench/main.ts for the options.
import { buildSync } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, '../build/bench');
const entries = ['main.ts', 'rivals/simmim_server.ts', 'rivals/tfjs_server.ts'];
buildSync({
  entryPoints: entries.map((entry) => join(here, entry)),
  outdir: out,
  outbase: here,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  packages: 'external',
  logLevel: 'error',
});
const result = spawnSync(process.execPath, [join(out, 'main.js'), ...process.argv.slice(2)], { stdio: 'inherit', env: { ...process.env, SIMMIM_BENCH: here } });
process.exit(result.status ?? 1);
