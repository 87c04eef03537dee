// Matrix products of training (forward, input gradient, weight gradient) against PyTorch, each library in its own
// process, rounds interleaved, medians and ratios.
//   node bench/gemm.mjs [--dtype f32|bf16] [--threads 2] [--rounds 6] [--only SUBSTRING] [--python python3]
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: option } = parseArgs({
  options: {
    dtype: { type: 'string', default: 'f32' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '6' },
    only: { type: 'string', default: '' },
    python: { type: 'string', default: 'python3' },
  },
});
const threads = Number(option.threads);
const dtype = option.dtype;

// [product, rows, inputs, outputs] of the layer: stages of Swin-B at 192 pixels and of ViT-B, batch 8.
const LAYERS = [[18432, 128, 512], [4608, 256, 768], [1152, 512, 2048], [1152, 2048, 512], [288, 1024, 1024], [1576, 768, 2304], [1576, 3072, 768]];
const CASES = LAYERS.flatMap(([rows, inputs, outputs]) => ['y', 'dx', 'dw'].map((product) => ({ product, rows, inputs, outputs })));

const { kernels, loadAddon } = createRequire(import.meta.url)('../dist/native/index.js');
const addon = loadAddon();
addon.setThreads(threads);
const NUMBER = { f32: 0, bf16: 3 };

function random(shape, type) {
  const n = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: n }, Math.random);
  const host = type === 'bf16' ? new Uint16Array(values.buffer).filter((_, i) => i % 2 === 1) : values;
  return { storage: { handle: addon.upload(NUMBER[type], host, n), dtype: type }, shape };
}

/** A function that runs the product once, and one that frees its tensors. */
function ours({ product, rows, inputs, outputs }) {
  const [x, weight, dy] = [random([rows, inputs], dtype), random([outputs, inputs], dtype), random([rows, outputs], dtype)];
  const shape = { y: [rows, outputs], dx: [rows, inputs], dw: [outputs, inputs] }[product];
  const result = { storage: { handle: 0, dtype: product === 'dw' ? 'f32' : dtype }, shape };
  const run = {
    y: () => kernels.linear({ x, weight, y: result, activation: 0 }),
    dx: () => kernels.linearGrad({ dy, weight, dx: result }),
    dw: () => kernels.linearGrad({ dy, x, dweight: result }),
  }[product];
  run();
  return { run, free: () => [x, weight, dy, result].forEach((t) => addon.release(t.storage.handle)) };
}

function startRival() {
  const child = spawn(option.python, [fileURLToPath(new URL('rivals/gemm_torch.py', import.meta.url))], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async times(request) {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return JSON.parse((await lines.next()).value);
    },
    stop: () => child.stdin.end(),
  };
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const rival = startRival();
const ratios = [];
let [logOurs, logTheirs] = [0, 0];
for (const shape of CASES) {
  const { product, rows, inputs, outputs } = shape;
  const name = `${product.padEnd(2)} ${rows}x${inputs} -> ${outputs}`;
  if (!name.includes(option.only)) continue;
  const flops = 2 * rows * inputs * outputs;
  const repeats = Math.max(3, Math.ceil(1e10 / flops));
  const own = ours(shape);
  const request = { ...shape, dtype, threads, repeats };
  let [best, theirs] = [Infinity, Infinity];
  for (let round = 0; round < Number(option.rounds); round++) {
    const times = [];
    for (let i = 0; i < repeats; i++) {
      const start = performance.now();
      own.run();
      addon.join(); // large products are only handed over by the call
      times.push((performance.now() - start) / 1e3);
    }
    best = Math.min(best, median(times));
    theirs = Math.min(theirs, median(await rival.times(request)));
  }
  own.free();
  ratios.push(theirs / best);
  logOurs += Math.log(flops / best / 1e9);
  logTheirs += Math.log(flops / theirs / 1e9);
  console.log(`${name.padEnd(26)} ${(flops / best / 1e9).toFixed(0).padStart(5)} ${(flops / theirs / 1e9).toFixed(0).padStart(5)} GFLOP/s  ${(theirs / best).toFixed(2)}x`);
}
rival.stop();
const mean = (log) => Math.exp(log / ratios.length).toFixed(1);
console.log(`geometric mean: simmim ${mean(logOurs)}, PyTorch ${mean(logTheirs)} GFLOP/s, ratio ${Math.exp((logOurs - logTheirs) / ratios.length).toFixed(3)} (${dtype}, ${threads} threads, best of ${option.rounds} rounds of medians)`);
