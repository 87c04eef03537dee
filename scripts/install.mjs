// npm's install step: nothing to do when a prebuilt binary for this platform is in the package, else
// build from source; where there is an NVIDIA driver and nvcc, the CUDA plugin too. A failed build is told in one sentence and does not fail the install of an
// application: the backend says the same when it is first used.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);

function prebuiltLoads() {
  if (process.env.npm_config_build_from_source) return false;
  try {
    require(require('node-gyp-build').path(root));
    return true;
  } catch {
    return false;
  }
}

const checkout = existsSync(join(root, 'test'));
if (checkout || !prebuiltLoads()) {
  const result = spawnSync(process.execPath, [join(root, 'scripts/build-native.mjs')], { stdio: 'inherit' });
  if (result.status !== 0) {
    if (checkout) process.exit(1);
    console.error('simmim: installed without its native addon; setBackend("simmim-cpu") will refuse until `npm rebuild simmim` succeeds');
  }
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** The plugin lies beside the addon in use, prebuilt or not. */
function folderOfAddon() {
  return dirname(require('node-gyp-build').path(root));
}

if (!checkout && has('nvcc') && has('nvidia-smi')) {
  const folder = folderOfAddon();
  if (!existsSync(join(folder, 'libsimmim_cuda.so'))) {
    const result = spawnSync('npm', ['run', '--silent', 'build:cuda', '--', '--out', folder], { stdio: 'inherit', cwd: root });
    if (result.status !== 0) console.error('simmim: installed without its CUDA plugin; setBackend("simmim-cuda") will refuse until `npm run build:cuda` succeeds in the package folder');
  }
}
