// Builds native/ with cmake (through cmake-js where it is installed) and copies the result to
// build/Release, where node-gyp-build and prebuildify look.
//   node scripts/build-native.mjs [--build-dir DIR] [--out DIR] [-DOPTION=VALUE ...]
//   node scripts/build-native.mjs --fingerprint     prints what a CUDA plugin's sources are known by; a built one has it beside it
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const option = (name, fallback) => (args.includes(name) ? resolve(args[args.indexOf(name) + 1]) : fallback);
const buildDir = option('--build-dir', join(root, 'build-cmake'));
const outDir = option('--out', join(root, 'build/Release'));
const defines = args.filter((a) => a.startsWith('-D'));

// gyp's make hands its job server down; cmake's own make must not take part in it.
const env = { ...process.env };
delete env.MAKEFLAGS;
delete env.MAKELEVEL;
// One cache of compiled files for every folder that the same sources lie in.
if (env.CMAKE_CXX_COMPILER_LAUNCHER?.includes('ccache')) Object.assign(env, { CCACHE_BASEDIR: root, CCACHE_NOHASHDIR: '1' });

function stop(sentence) {
  console.error(`simmim: ${sentence}`);
  process.exit(1);
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

function run(command, commandArgs) {
  const result = spawnSync(command, commandArgs, { stdio: ['ignore', process.env.SIMMIM_BUILD_VERBOSE ? 'inherit' : 'pipe', 'inherit'], env, cwd: root });
  if (result.status !== 0) {
    if (result.stdout) process.stderr.write(result.stdout);
    stop(`'${command} ${commandArgs.join(' ')}' failed${result.error ? `: ${result.error.message}` : ''}; building the addon needs a C++20 compiler (gcc >= 11 or clang >= 14), make and CMake >= 3.18`);
  }
}

/** CMake comes with most compilers' packages but not with all; install it where that needs nobody's leave. */
function ensureCmake() {
  if (has('cmake')) return;
  if (process.platform === 'linux' && process.getuid?.() === 0 && has('apt-get')) {
    console.error('simmim: CMake is missing, installing it with apt-get');
    spawnSync('apt-get', ['update', '-qq'], { stdio: 'ignore' });
    spawnSync('apt-get', ['install', '-y', '-qq', 'cmake'], { stdio: ['ignore', 'ignore', 'inherit'] });
    if (has('cmake')) return;
  }
  stop('CMake >= 3.18 is needed to build the addon and was not found: install it (Debian: apt-get install cmake; macOS: brew install cmake) and run this again');
}

/** cmake-js is a development dependency; an installed package builds with plain cmake, to the same result. */
function cmakeJs() {
  try {
    return createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');
  } catch {
    return undefined;
  }
}

/** A running process keeps the old file: overwriting a loaded library in place would crash it. */
function replaceFile(from, to) {
  copyFileSync(from, `${to}.new`);
  renameSync(`${to}.new`, to);
}

/** Hash of the files that the CUDA plugin is made of: a plugin brought from elsewhere is used where it is the same (gpu-run.sh). */
function pluginFingerprint() {
  const hash = createHash('sha256');
  const files = ['core', 'cuda', 'kernels'].flatMap((folder) => readdirSync(join(root, 'native', folder), { recursive: true }).map((file) => join(folder, file)));
  for (const file of ['CMakeLists.txt', ...files].sort()) {
    if (!/\.(h|cc|cuh|cu|def|cmake|txt)$/.test(file) || file.endsWith('.cpu.cc')) continue;
    hash.update(`${file}\n`).update(readFileSync(join(root, 'native', file)));
  }
  return hash.digest('hex');
}

if (args.includes('--fingerprint')) {
  console.log(pluginFingerprint());
  process.exit(0);
}
ensureCmake();
if (!process.env.CXX && !has('c++') && !has('g++') && !has('clang++')) stop('a C++20 compiler is needed to build the addon and none was found (Debian: apt-get install g++ make)');
const binaries = join(buildDir, 'Release');
const jobs = String(availableParallelism());
if (cmakeJs()) {
  run(process.execPath, [cmakeJs(), 'compile', '-d', join(root, 'native'), '-O', buildDir, '-p', jobs, ...defines.map((d) => `--CD${d.slice(2)}`)]);
} else {
  run('cmake', ['-S', join(root, 'native'), '-B', buildDir, '-DCMAKE_BUILD_TYPE=Release', `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${binaries}`, ...defines]);
  run('cmake', ['--build', buildDir, '--config', 'Release', '--parallel', jobs]);
}
mkdirSync(outDir, { recursive: true });
for (const file of readdirSync(binaries)) if (/(\.(node|so|dylib|dll)|_test)$/.test(file)) replaceFile(join(binaries, file), join(outDir, file));
const plugin = 'libsimmim_cuda.so';
if (readdirSync(binaries).includes(plugin)) writeFileSync(join(outDir, `${plugin}.sources`), `${pluginFingerprint()}\n`);
