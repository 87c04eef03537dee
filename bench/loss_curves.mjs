// How closely one run's training loss follows another's: means over eighths of the runs, and the last validation.
//   simmim pretrain --recipe demo --precision f32 --out runs/f32; simmim pretrain --recipe demo --precision bf16 --out runs/bf16
//   node bench/loss_curves.mjs runs/f32 runs/bf16
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [first, second] = process.argv.slice(2).map((folder) => readFileSync(join(folder, 'log.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line)));
if (!second) throw new Error('give the folders of two runs');
const losses = (log) => log.filter((record) => record.kind === 'update').map((record) => record.loss);
const [a, b] = [losses(first), losses(second)];
if (a.length !== b.length) throw new Error(`the runs have ${a.length} and ${b.length} updates`);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const percent = (x, y) => `${(100 * (y / x - 1)).toFixed(2)} %`;
for (let part = 0; part < 8; part++) {
  const [from, to] = [part, part + 1].map((p) => Math.round((p * a.length) / 8));
  const [x, y] = [mean(a.slice(from, to)), mean(b.slice(from, to))];
  console.log(`updates ${from + 1} to ${to}: ${x.toFixed(4)} and ${y.toFixed(4)}, ${percent(x, y)}`);
}
const validation = (log) => log.filter((record) => record.kind === 'validation').at(-1)?.loss;
const [u, v] = [validation(first), validation(second)];
if (u !== undefined && v !== undefined) console.log(`last validation: ${u.toFixed(4)} and ${v.toFixed(4)}, ${percent(u, v)}`);
