// How long training waits for its pictures: some updates of Swin-T at 192 px from disk with the full pre-training
// augmentation, and the share of their time that the log calls waiting. The first update, for which the loader starts, is
// shown apart.
//   node bench/data_wait.mjs FOLDER [--updates 24] [--batch 32] [--set key=value ...]
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: option, positionals } = parseArgs({
  allowPositionals: true,
  options: { updates: { type: 'string', default: '24' }, batch: { type: 'string', default: '32' }, set: { type: 'string', multiple: true, default: [] } },
});
const folder = positionals[0];
if (!folder) throw new Error('usage: node bench/data_wait.mjs FOLDER');

const out = mkdtempSync(join(tmpdir(), 'simmim-wait-'));
const sets = ['model.encoder=swin_tiny', `train.batchSize=${option.batch}`, 'train.accumulation=1', `train.stopAfter=${option.updates}`, 'data.validationShare=0', 'checkpoint.everySteps=100000', ...option.set];
const run = spawnSync(process.execPath, [fileURLToPath(new URL('../dist/cli/main.js', import.meta.url)), 'pretrain', '--recipe', 'paper/swin_base_100ep', '--data', folder, '--out', join(out, 'run'), ...sets.flatMap((s) => ['--set', s])], { stdio: ['ignore', 'ignore', 'inherit'] });
if (run.status !== 0) process.exit(run.status ?? 1);
const updates = readFileSync(join(out, 'run/log.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line)).filter((r) => r.kind === 'update');
rmSync(out, { recursive: true });

const share = (records) => {
  const took = records.reduce((sum, r) => sum + Number(option.batch) / r.imagesPerSecond, 0);
  const waited = records.reduce((sum, r) => sum + r.dataSeconds, 0);
  return `${((100 * waited) / took).toFixed(2)} % (${waited.toFixed(2)} of ${took.toFixed(1)} s)`;
};
console.log(`all ${updates.length} updates of ${option.batch} images waited ${share(updates)}`);
console.log(`without the first: ${share(updates.slice(1))}`);
