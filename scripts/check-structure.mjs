// Holds the tree to its architecture: direction of dependencies, one stem per fused kernel, file sizes,
// and words that must not appear. Prints every violation and exits 1 when there is one.
//   node scripts/check-structure.mjs [ROOT]
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(process.argv[2] ?? dirname(dirname(fileURLToPath(import.meta.url))));
const MAX_LINES = 600;

/** Layer -> layers it may import. An arrow may be skipped, never reversed. */
const TS_LAYERS = {
  root: [],
  formats: ['root'],
  charts: ['root'],
  native: ['root'],
  backend: ['root', 'native'],
  autodiff: ['root'],
  ops: ['root', 'native', 'backend', 'autodiff'],
  nn: ['root', 'native', 'backend', 'autodiff', 'ops'],
  models: ['root', 'formats', 'native', 'backend', 'autodiff', 'ops', 'nn'],
  simmim: ['root', 'formats', 'native', 'backend', 'autodiff', 'ops', 'nn', 'models'],
  data: ['root', 'formats', 'native'],
  node: ['root', 'formats', 'native', 'backend'],
  train: ['root', 'formats', 'native', 'backend', 'autodiff', 'ops', 'nn', 'models', 'simmim', 'data', 'node', 'recipes', 'charts'],
  ablation: ['root', 'formats', 'nn', 'models', 'simmim', 'data', 'train', 'recipes', 'charts'],
  probe: ['root', 'formats', 'native', 'backend', 'autodiff', 'ops', 'nn', 'models', 'simmim', 'data', 'train', 'node'],
  experiment: ['root', 'formats', 'nn', 'data', 'train', 'recipes', 'charts', 'probe'],
  recipes: ['root'],
  report: ['root', 'formats', 'native', 'backend', 'autodiff', 'ops', 'nn', 'models', 'simmim', 'data', 'train', 'node', 'charts', 'probe'],
  cli: ['root', 'formats', 'native', 'backend', 'autodiff', 'ops', 'nn', 'models', 'simmim', 'data', 'train', 'node', 'recipes', 'report', 'charts', 'ablation', 'probe', 'experiment'],
};
const NATIVE_LAYERS = {
  core: [],
  cpu: ['core'],
  cuda: ['core'],
  comm: ['core'],
  kernels: ['core', 'cpu', 'cuda'],
  binding: ['core', 'cpu', 'kernels', 'comm'],
};
/** Fused kernels whose files must all carry the stem; the CUDA twin unless kernels.def says that there is none. */
const FUSED = ['linear', 'mlp', 'layer_norm', 'window_attention', 'attention', 'patch_embed', 'mask_tokens', 'random_mask', 'random_values', 'masked_loss', 'drop_path', 'accumulate', 'grad_norm', 'adamw'];

const problems = [];
const report = (file, what) => problems.push(`${relative(root, file)}: ${what}`);

function walk(dir) {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === 'node_modules' || entry.name.startsWith('build')) return [];
    const path = join(dir, entry.name);
    return entry.isDirectory() ? walk(path) : [path];
  });
}

/** 'root' for ts/errors.ts and its like, else the folder below ts/. */
function tsLayer(path) {
  const parts = relative(join(root, 'ts'), path).split('/');
  return parts.length > 1 || existsSync(join(root, 'ts', parts[0], 'index.ts')) ? parts[0] : 'root';
}

function checkTypeScript(file, text) {
  const layer = tsLayer(file);
  const allowed = TS_LAYERS[layer];
  if (!allowed) return report(file, `layer '${layer}' is not in scripts/check-structure.mjs`);
  const isEntry = layer === 'root' && file.endsWith('index.ts');
  for (const [, spec] of text.matchAll(/(?:from|import|require\()\s*['"](\.[^'"]*)['"]/g)) {
    const target = tsLayer(join(dirname(file), spec));
    if (target !== layer && !isEntry && !allowed.includes(target)) report(file, `${layer} imports ${target} ('${spec}'): against the direction of dependencies`);
  }
  const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
  if (/(?::|<|\bas)\s*any\b/.test(code)) report(file, "uses 'any'");
  if (/export default/.test(code)) report(file, "uses 'export default'");
  if (/engine\(\)\.state/.test(code) && !file.endsWith('autodiff/backward.ts')) report(file, 'touches engine().state outside ts/autodiff/backward.ts');
}

function checkNative(file, text) {
  const [layer] = relative(join(root, 'native'), file).split('/');
  for (const [, spec] of text.matchAll(/#include "([^"]+)"/g)) {
    const target = relative(join(root, 'native'), resolve(dirname(file), spec)).split('/')[0];
    if (target in NATIVE_LAYERS && target !== layer && !NATIVE_LAYERS[layer]?.includes(target)) report(file, `${layer} includes ${target} ("${spec}"): against the direction of dependencies`);
  }
  if (/#include <napi/.test(text) && layer !== 'binding') report(file, 'includes napi.h outside native/binding');
  if (/#include <cuda|cublas|nccl\.h/.test(text) && !(layer === 'cuda' || layer === 'comm' || file.endsWith('.cu'))) report(file, 'knows CUDA');
  if (layer === 'core' && /#include <(thread|immintrin)/.test(text)) report(file, 'core has no threads and no intrinsics');
  if (/\.(cpu|isa)\.cc$/.test(file))
    for (const [, header] of text.matchAll(/#include <([^>]+)>/g))
      if (!/^(cstdint|cstddef|immintrin\.h|arm_neon\.h)$/.test(header)) report(file, `includes <${header}>: files compiled per instruction set stay free of the standard library`);
}

function checkCommon(file, text) {
  if (/\.(ts|mts|mjs|cc|h|cu|cuh|py)$/.test(file) && !file.endsWith('.gen.ts')) {
    const lines = text.split('\n').length - 1;
    if (lines > MAX_LINES) report(file, `has ${lines} lines, at most ${MAX_LINES}`);
  }
  const todo = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'HA' + 'CK'].join('|')})\\b`);
  if (/\.(ts|mjs|cc|h|cu)$/.test(file) && todo.test(text)) report(file, 'leaves work open in a comment');
  if (/(^|\/)[a-z_]*utils?\.(ts|h|cc)$/.test(file)) report(file, 'a file needs a name that says what it holds');
}

for (const folder of ['ts', 'native', 'test', 'bench', 'scripts'])
  for (const file of walk(join(root, folder))) {
    if (!/\.(ts|mts|mjs|cjs|js|cc|h|cu|cuh|py|def)$/.test(file)) continue;
    const text = readFileSync(file, 'utf8');
    checkCommon(file, text);
    if (folder === 'ts' && file.endsWith('.ts')) checkTypeScript(file, text);
    if (folder === 'native') checkNative(file, text);
  }

const cpuOnly = new Set([...readFileSync(join(root, 'native/kernels/kernels.def'), 'utf8').matchAll(/^KERNEL_CPU_ONLY\((\w+)\)/gm)].map(([, name]) => name.toLowerCase()));

for (const stem of FUSED) {
  const wanted = [`native/kernels/${stem}.h`, `native/kernels/${stem}.cpu.cc`, `ts/ops/${stem}.ts`, `test/ops/${stem}.cases.ts`, `test/ops/${stem}.test.ts`, `bench/ops/${stem}.bench.ts`];
  if (!cpuOnly.has(stem.replaceAll('_', ''))) wanted.push(`native/kernels/${stem}.cu`);
  for (const file of wanted) if (!existsSync(join(root, file))) problems.push(`${file}: missing; every fused kernel has its whole set of files`);
}

for (const problem of problems) console.error(problem);
console.log(problems.length ? `${problems.length} violations` : 'structure ok');
process.exit(problems.length ? 1 : 0);
