// npm run bench -- step [--models a,b] [--batch 8] [--threads 2] [--rounds 5] [--json FILE]
// npm run bench -- profile MODEL [--precision f32|bf16] [--batch 8] [--threads 2] [--rounds 5] [--clock wall|thread] [--shapes]
// npm run bench -- ops  [--ops a,b] [--forward] [--threads 2] [--rounds 5] [--json FILE]
//
// Each contestant is a process of its own; rounds are interleaved; the figure is the ratio of medians. PyTorch is
// found through SIMMIM_PYTHON (default python3) and, for training steps, the official model code through
// SIMMIM_OFFICIAL; a rival that is not there is said to be missing.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { OP_BENCHES } from './ops';
import { interleave, type Result, Server, table } from './harness';
import { profileStep } from './profile';

const here = process.env.SIMMIM_BENCH ?? 'bench';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    models: { type: 'string', default: 'swin_tiny,swin_base,vit_base' },
    ops: { type: 'string' },
    forward: { type: 'boolean', default: false },
    precision: { type: 'string', default: 'f32' },
    clock: { type: 'string', default: 'wall' },
    shapes: { type: 'boolean', default: false },
    batch: { type: 'string', default: '8' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'string' },
  },
});

function simmim(): Server {
  return new Server('simmim', process.execPath, [join(__dirname, 'rivals/simmim_server.js')], { UV_THREADPOOL_SIZE: '1' });
}

function contestants(): Server[] {
  const ours = simmim();
  const torch = new Server('torch', process.env.SIMMIM_PYTHON ?? 'python3', [join(here, 'rivals/torch_server.py')]);
  return [ours, torch];
}

const mebibytes = (bytes?: number): string => (bytes ? (bytes / 2 ** 20).toFixed(0) : '-');

/** Training steps: images/s and peak resident memory beside PyTorch running the official model. */
async function benchSteps(): Promise<unknown[]> {
  const rows: string[][] = [['model', 'rival', 'median s', 'fastest s', 'images/s', 'ratio', 'peak MiB', 'peak ratio', 'loss', 'note']];
  const results: unknown[] = [];
  const batch = Number(options.batch);
  for (const model of options.models.split(',')) {
    const servers = contestants(); // fresh processes: the peak is this model's
    const request = { cmd: 'step_setup', model, batch, threads: Number(options.threads) };
    const figures = await interleave(servers, () => request, Number(options.rounds));
    servers.forEach((server) => server.close());
    const rival = figures[1] as Result;
    for (const f of figures) {
      const ratio = rival.median / f.median;
      const peakRatio = f.peakBytes && rival.peakBytes ? f.peakBytes / rival.peakBytes : NaN;
      rows.push([model, f.name, f.median.toFixed(3), f.fastest.toFixed(3), (batch / f.median).toFixed(2), ratio.toFixed(2), mebibytes(f.peakBytes), peakRatio.toFixed(2), f.value?.toFixed(4) ?? '-', f.error?.split('\n')[0] ?? '']);
      results.push({ model, batch, ...f, imagesPerSecond: batch / f.median, ratio, peakRatio });
    }
  }
  console.log(table(rows));
  return results;
}

/** Every op beside PyTorch's form of it, with achieved GFLOP/s and GB/s. */
async function benchOps(): Promise<unknown[]> {
  const rows: string[][] = [['op', 'case', 'ms', 'torch ms', 'ratio', 'GFLOP/s', 'GB/s', 'note']];
  const results: unknown[] = [];
  const backward = !options.forward;
  const wanted = options.ops?.split(',');
  for (const bench of OP_BENCHES.filter((b) => !wanted || wanted.includes(b.op))) {
    for (const { name, case: c } of bench.cases) {
      const servers = contestants();
      const request = { cmd: 'op_setup', op: bench.op, case: c, threads: Number(options.threads), backward };
      const [ours, torch] = (await interleave(servers, () => request, Number(options.rounds), 5)) as [Result, Result];
      servers.forEach((server) => server.close());
      const ratio = torch.median / ours.median;
      const [gflops, gbytes] = [bench.flops(c, backward) / ours.median / 1e9, bench.bytes(c, backward) / ours.median / 1e9];
      rows.push([bench.op, name, (ours.median * 1e3).toFixed(3), (torch.median * 1e3).toFixed(3), ratio.toFixed(2), gflops.toFixed(1), gbytes.toFixed(1), (ours.error ?? torch.error ?? '').split('\n')[0] as string]);
      results.push({ op: bench.op, name, case: c, backward, ours, torch, ratio, gflops, gbytes });
    }
  }
  console.log(table(rows));
  return results;
}

/** Where the time of a step goes, kernel by kernel. */
async function benchProfile(models: readonly string[]): Promise<unknown[]> {
  const results: unknown[] = [];
  for (const model of models) {
    const { precision, shapes } = options;
    const clock = options.clock === 'thread' ? 'thread' : 'wall';
    const kernels = await profileStep(simmim(), model, { batch: Number(options.batch), threads: Number(options.threads), rounds: Number(options.rounds), precision, clock, shapes });
    results.push({ model, precision, kernels });
  }
  return results;
}

const COMMANDS: Record<string, (names: string[]) => Promise<unknown[]>> = {
  step: benchSteps,
  ops: benchOps,
  profile: (names) => benchProfile(names.length > 0 ? names : ['swin_tiny']),
};

async function main(): Promise<void> {
  const [what = 'step', ...names] = positionals;
  const command = COMMANDS[what];
  if (!command) throw new Error(`unknown bench '${what}', expected one of ${Object.keys(COMMANDS).join(', ')}`);
  const results = await command(names);
  if (options.json) writeFileSync(options.json, JSON.stringify({ date: new Date().toISOString(), node: process.version, results }, null, 1));
}

main().catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
