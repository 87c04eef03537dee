// Images per second from disk with the full pre-training augmentation, against torchvision's ImageFolder +
// DataLoader on the same files: whole epochs, interleaved, medians and the ratio of each pair of rounds.
//   node bench/loader.mjs FOLDER [--size 192] [--batch 32] [--workers 2] [--rounds 5] [--python python3]
// Before timing, the rows of one batch are compared with the TypeScript definition: equal bits or no figures.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: option, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: 'string', default: '192' },
    batch: { type: 'string', default: '32' },
    workers: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    python: { type: 'string', default: 'python3' },
  },
});
const folder = positionals[0];
if (!folder) throw new Error('usage: node bench/loader.mjs FOLDER');
const [size, batchSize, workers, rounds] = [option.size, option.batch, option.workers, option.rounds].map(Number);
const { openImageFolder, openPipeline } = createRequire(import.meta.url)('../dist/data/index.js');

const open = (extra) => openPipeline(openImageFolder(folder), { batchSize, seed: 1, workers, transform: { size: [size, size] }, ...extra });

async function check() {
  const [ours, definition] = [open({}), open({ workers: 0, kernels: 'reference' })];
  const [a, b] = [await ours.next(), await definition.next()];
  await Promise.all([ours.close(), definition.close()]);
  if (Buffer.compare(Buffer.from(a.images.buffer), Buffer.from(b.images.buffer)) !== 0) throw new Error('the loader does not agree with its definition');
}

async function epoch(source) {
  // Prefetched batches of the last round would be a head start: throw them away first.
  source.restore({ epoch: 0, step: 0, broken: [] });
  const start = process.hrtime.bigint();
  let images = 0;
  for (let step = 0; step < source.batchesPerEpoch; step++) images += (await source.next()).indices.length;
  return images / (Number(process.hrtime.bigint() - start) / 1e9);
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

await check();
const torch = spawn(option.python, [fileURLToPath(new URL('rivals/loader_torch.py', import.meta.url)), folder, option.size, option.batch, option.workers], { stdio: ['pipe', 'pipe', 'inherit'] });
const answers = createInterface({ input: torch.stdout })[Symbol.asyncIterator]();
async function torchEpoch() {
  torch.stdin.write('\n');
  const answer = await answers.next();
  if (answer.done) throw new Error(`${option.python} could not run the rival`);
  const { images, seconds } = JSON.parse(answer.value);
  return images / seconds;
}

const source = open({});
await epoch(source);
await torchEpoch();
const figures = { simmim: [], torchvision: [], ratio: [] };
for (let round = 0; round < rounds; round++) {
  const [a, b] = [await epoch(source), await torchEpoch()];
  figures.simmim.push(a);
  figures.torchvision.push(b);
  figures.ratio.push(a / b);
}
await source.close();
torch.stdin.end();
for (const [name, values] of Object.entries(figures)) {
  const shown = (v) => v.toFixed(name === 'ratio' ? 2 : 0);
  console.log(`${name.padEnd(12)} median ${shown(median(values))}  (${values.map(shown).join(' ')})${name === 'ratio' ? '' : ' images/s'}`);
}
