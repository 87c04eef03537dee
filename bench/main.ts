// npm run bench -- step    [--models a,b] [--image-size 192] [--precision f32|bf16] [--checkpointing] [--rivals torch,cpu,wasm] [--batch 8] [--threads 2] [--rounds 5]
//                          cpu, wasm: the same step op by op on tfjs's own backends, which take minutes for what we do in a second: make it small
// npm run bench -- ops     [--ops a,b] [--forward] [--precision f32|bf16] [--batch 8] [--threads 2] [--rounds 5] [--roofline FILE.svg]
// npm run bench -- profile MODEL [--precision f32|bf16] [--batch 8] [--threads 2] [--rounds 5] [--clock wall|thread] [--shapes] [--roofline FILE.svg]
// npm run bench -- tfjs    [--ops 'a;b'] [--sizes small,medium,large] [--rivals cpu,wasm,tf-eager,tf-function] [--threads 2] [--rounds 5] [--markdown FILE]
// npm run bench -- dispatch [--rounds 9]
// npm run bench -- replay TRACE [--ops kernel,kernel] [--threads 2] [--rounds 5] [--roofline FILE.svg]   TRACE: what SIMMIM_TRACE=1 wrote on standard error
// npm run bench -- limits  [--threads 2]
// step, ops: --device cpu|cuda: all contestants on the same one; --modes eager,compile,sdpa,timm,sdpa-compile,timm-compile: each mode of
// PyTorch (rivals/torch_server.py) is a rival, the first one the rival of the ratios; timm is one of steps only.
// All: --json FILE writes the results; --compare FILE sets them beside an earlier --json and ends with 1 when something became slower.
//
// Each contestant is a process of its own; rounds are interleaved; the figure is the ratio of medians. PyTorch is
// found through SIMMIM_PYTHON (default python3) and, for training steps, the official model code through
// SIMMIM_OFFICIAL; a rival that is not there is said to be missing. Ceilings of the machine are measured by limits.cc.
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Comparable, compare } from './compare';
import { dispatch } from './dispatch';
import { geometricMean, interleave, median, type Result, Server, table } from './harness';
import { type Limits, measureLimits, shareOfLimit, streamBandwidth } from './limits';
import { OP_BENCHES } from './ops';
import type { BenchCase } from './ops/op_bench';
import { profileStep, tracedRuns } from './profile';
import { replayTrace } from './replay';
import { type Measured, roofline } from './roofline';
import { compare as compareTfjs } from './tfjs/compare';

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
    checkpointing: { type: 'boolean', default: false },
    device: { type: 'string', default: 'cpu' },
    modes: { type: 'string', default: 'eager' },
    json: { type: 'string' },
    compare: { type: 'string' },
    sizes: { type: 'string', default: 'small,medium,large' },
    rivals: { type: 'string' },
    'image-size': { type: 'string' },
    markdown: { type: 'string' },
    roofline: { type: 'string' },
  },
});

function simmim(name = 'simmim'): Server {
  return new Server(name, process.execPath, [join(__dirname, 'rivals/simmim_server.js')], { UV_THREADPOOL_SIZE: '1' });
}

function torch(mode: string): Server {
  return new Server(mode === 'eager' ? 'torch' : `torch ${mode}`, process.env.SIMMIM_PYTHON ?? 'python3', [join(here, 'rivals/torch_server.py')], { SIMMIM_TORCH_MODE: mode });
}
/** PyTorch once for each mode. */
const torches = (): Server[] => options.modes.split(',').map(torch);

/** Ours first, then PyTorch. */
const contestants = (): Server[] => [simmim(), ...torches()];

/** tfjs's own backends, on which our server runs the same models. */
const TFJS_BACKENDS = ['cpu', 'wasm'];

/** Ours first, then those that --rivals names. */
function stepContestants(): Server[] {
  const rivals = (options.rivals ?? 'torch').split(',').flatMap((name) => {
    if (name === 'torch') return torches();
    if (TFJS_BACKENDS.includes(name)) return [simmim(name)];
    throw new Error(`unknown rival '${name}' of a step, expected torch, ${TFJS_BACKENDS.join(' or ')}`);
  });
  return [simmim(), ...rivals];
}

const mebibytes = (bytes?: number): string => (bytes ? (bytes / 2 ** 20).toFixed(0) : '-');
const percent = (share: number): string => (100 * share).toFixed(0);
const threads = Number(options.threads);

/** Ceilings of the device that is measured: of a GPU what PyTorch reaches on it. */
async function limitsNow(): Promise<Limits> {
  if (options.device === 'cpu') return measureLimits(here, join(__dirname, 'limits'), threads);
  const server = torch('eager');
  const rates = await server.ask({ cmd: 'limits', device: options.device });
  server.close();
  if (rates.error) throw new Error(`limits: ${rates.error}`);
  return { threads, triadStreamed: null, ...(rates as unknown as Omit<Limits, 'threads' | 'triadStreamed'>) };
}

/** What a bench found: as JSON keeps it, and in the form that --compare and --roofline take. */
interface Outcome {
  results: unknown[];
  comparable: Comparable[];
  measured?: { title: string; limits: Limits; items: Measured[] };
}

/** Training steps: images/s and peak resident memory beside PyTorch running the official model. */
async function benchSteps(): Promise<Outcome> {
  const rows: string[][] = [['model', 'rival', 'median s', 'fastest s', 'images/s', 'ratio', 'peak MiB', 'peak ratio', 'JavaScript ms', 'loss', 'note']];
  const outcome: Outcome = { results: [], comparable: [] };
  const batch = Number(options.batch);
  const { precision, checkpointing } = options;
  for (const model of options.models.split(',')) {
    const servers = stepContestants(); // fresh processes: the peak is this model's
    const imageSize = options['image-size'] === undefined ? undefined : Number(options['image-size']);
    const request = { cmd: 'step_setup', model, imageSize, batch, threads, precision, checkpointing, device: options.device };
    const figures = await interleave(servers, ({ name }) => (TFJS_BACKENDS.includes(name) ? { ...request, backend: name } : request), Number(options.rounds));
    servers.forEach((server) => server.close());
    const rival = figures[1] as Result;
    for (const f of figures) {
      const ratio = rival.median / f.median;
      const peakRatio = f.peakBytes && rival.peakBytes ? f.peakBytes / rival.peakBytes : NaN;
      rows.push([model, f.name, f.median.toFixed(3), f.fastest.toFixed(3), (batch / f.median).toFixed(2), ratio.toFixed(2), mebibytes(f.peakBytes), peakRatio.toFixed(2), f.host === undefined ? '-' : (f.host * 1e3).toFixed(2), f.value?.toFixed(4) ?? '-', f.error?.split('\n')[0] ?? '']);
      outcome.results.push({ model, batch, precision, checkpointing, ...f, imagesPerSecond: batch / f.median, ratio, peakRatio });
    }
    const [ours] = figures as [Result];
    outcome.comparable.push({ key: `step ${model} ${precision} batch ${batch}${checkpointing ? ' checkpointing' : ''}`, seconds: ours.median, ratio: finite(rival.median / ours.median) });
  }
  console.log(`${precision}${checkpointing ? ', our blocks recomputed in the backward pass' : ''}, ${threads} threads\n${table(rows)}`);
  return outcome;
}

/** The images that the cases of bench/ops are for, and the numbers of a case that grow with them. */
const OP_BATCH = 8;
const OF_BATCH = ['batch', 'rows', 'elements'];
const scaled = (c: BenchCase, by: number): BenchCase => Object.fromEntries(Object.entries(c).map(([key, value]) => [key, OF_BATCH.includes(key) ? value * by : value]));

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null);

/** Seconds that one run of a set-up op spends inside kernels, by the trace; on a GPU the trace has no such times. */
async function kernelSeconds(server: Server): Promise<number> {
  if (options.device !== 'cpu') return NaN;
  return median((await tracedRuns(server, 5 * Number(options.rounds))).map((calls) => calls.reduce((sum, call) => sum + call.wall, 0) / 1e6));
}
const shown = (value: number, digits: number): string => (Number.isFinite(value) ? value.toFixed(digits) : '-');

/**
 * Every op beside PyTorch's form of it, with achieved GFLOP/s and GB/s and their share of what the machine allows. The time is that of
 * the calls from JavaScript through tfjs's engine, gradients and all; what of it the kernels take stands beside.
 */
async function benchOps(): Promise<Outcome> {
  const limits = await limitsNow();
  const { precision } = options;
  const scale = Number(options.batch) / OP_BATCH;
  const others = options.modes.split(',').slice(1);
  const rows: string[][] = [['op', 'case', 'ms', 'torch ms', ...others.map((mode) => `${mode} ms`), 'ratio', 'GFLOP/s', 'GB/s', '% of stream', '% of limit', 'kernels ms', 'kernels % of stream', 'note']];
  const outcome: Outcome = { results: [], comparable: [] };
  const items: Measured[] = [];
  const backward = !options.forward;
  const wanted = options.ops?.split(',');
  const ratios = new Map<string, number[]>();
  for (const bench of OP_BENCHES.filter((b) => (!wanted || wanted.includes(b.op)) && (precision === 'f32' || b.half || wanted))) {
    const storage = bench.half ? precision : 'f32';
    for (const { name, case: given } of bench.cases) {
      const c = scaled(given, scale);
      const servers = contestants();
      const request = { cmd: 'op_setup', op: bench.op, case: c, threads, backward, precision: storage, device: options.device };
      const [ours, torch, ...rest] = (await interleave(servers, () => request, Number(options.rounds), 0.1)) as [Result, Result, ...Result[]];
      const inKernels = ours.error ? NaN : await kernelSeconds(servers[0] as Server);
      servers.forEach((server) => server.close());
      const ratio = torch.median / ours.median;
      const work = { flops: bench.flops(c, backward), bytes: bench.bytes(c, backward) / (storage === 'bf16' ? 2 : 1), seconds: ours.median };
      const [gflops, gbytes] = [work.flops / ours.median / 1e9, work.bytes / ours.median / 1e9];
      const limitShare = shareOfLimit(limits, storage, work);
      rows.push([bench.op, name, (ours.median * 1e3).toFixed(3), (torch.median * 1e3).toFixed(3), ...rest.map((r) => (r.median * 1e3).toFixed(3)), ratio.toFixed(2), gflops.toFixed(1), gbytes.toFixed(1), percent(gbytes / streamBandwidth(limits)), percent(limitShare), shown(inKernels * 1e3, 3), shown((100 * work.bytes) / inKernels / 1e9 / streamBandwidth(limits), 0), (ours.error ?? torch.error ?? '').split('\n')[0] as string]);
      outcome.results.push({ op: bench.op, name, case: c, backward, precision: storage, ours, torch, others: rest, ratio, gflops, gbytes, limitShare, kernelSeconds: finite(inKernels) });
      outcome.comparable.push({ key: `${bench.op} ${name}${backward ? '' : ' forward'}${storage === 'f32' ? '' : ` ${storage}`}${scale === 1 ? '' : ` batch ${options.batch}`}`, seconds: ours.median, ratio: finite(ratio) });
      items.push({ name: `${bench.op} ${name}`, ...work });
      if (Number.isFinite(ratio)) ratios.set(bench.op, [...(ratios.get(bench.op) ?? []), ratio]);
    }
  }
  console.log(table(rows));
  for (const [op, list] of ratios) console.log(`${op}: ${geometricMean(list).toFixed(2)} times as fast as PyTorch (geometric mean of ${list.length}, least ${Math.min(...list).toFixed(2)})`);
  return { ...outcome, measured: { title: `Ops, ${backward ? 'forward and backward' : 'forward'}, ${precision}`, limits, items } };
}

/** Where the time of a step goes, kernel by kernel. */
async function benchProfile(models: readonly string[]): Promise<Outcome> {
  const outcome: Outcome = { results: [], comparable: [] };
  const limits = await limitsNow();
  const items: Measured[] = [];
  const { precision, shapes } = options;
  for (const model of models) {
    const clock = options.clock === 'thread' ? 'thread' : 'wall';
    const { kernels, calls } = await profileStep(simmim(), model, { batch: Number(options.batch), threads, rounds: Number(options.rounds), precision, clock, shapes, limits });
    outcome.results.push({ model, precision, kernels });
    outcome.comparable.push(...kernels.map((k) => ({ key: `profile ${model} ${precision} ${k.name}`, seconds: k.milliseconds / 1e3, ratio: null })));
    items.push(...calls.map((c) => ({ name: c.name, flops: c.flops, bytes: c.bytes, seconds: c.milliseconds / 1e3 })));
  }
  return { ...outcome, measured: { title: `Kernels of a training step: ${models.join(', ')}, ${precision}`, limits, items } };
}

/** The calls of a trace, each as a case of its own. */
async function benchReplay([file, ...rest]: readonly string[]): Promise<Outcome> {
  if (file === undefined || rest.length > 0) throw new Error(`bench replay takes one file, got ${file === undefined ? 'none' : rest.length + 1}: the standard error of a program run with SIMMIM_TRACE=1`);
  const limits = await limitsNow();
  const results = await replayTrace(file, simmim, { kernels: options.ops?.split(','), threads, rounds: Number(options.rounds), limits });
  const measured = results.filter((r) => !r.replayed.error);
  return {
    results,
    comparable: measured.map((r) => ({ key: `replay ${r.name}`, seconds: r.replayed.median, ratio: null })),
    measured: { title: `Calls of ${basename(file)}`, limits, items: measured.map((r) => ({ name: r.name, flops: r.flops, bytes: r.bytes, seconds: r.replayed.median })) },
  };
}

/** The machine's own ceilings. */
async function benchLimits(): Promise<Outcome> {
  const limits = await limitsNow();
  const rows = [['ceiling', `${threads} threads`], ['float32 multiply-adds, GFLOP/s', limits.f32.toFixed(0)], ['bf16 dot products, GFLOP/s', limits.bf16?.toFixed(0) ?? 'none'],
    ['triad, GB/s', limits.triad.toFixed(1)], ['triad with streaming stores, GB/s', limits.triadStreamed?.toFixed(1) ?? 'none'], ['copy, GB/s', limits.copy.toFixed(1)], ['read, GB/s', limits.read.toFixed(1)]];
  console.log(table(rows));
  return { results: [limits], comparable: [] };
}

/** tfjs ops on our backend beside the other backends and TensorFlow. */
async function benchTfjs(): Promise<Outcome> {
  const { rows, markdown } = await compareTfjs({ ops: options.ops?.split(';'), sizes: options.sizes.split(','), rivals: (options.rivals ?? 'cpu,wasm,tf-eager,tf-function').split(','), threads, rounds: Number(options.rounds), folder: here });
  console.log(`\n${markdown}`);
  if (options.markdown) writeFileSync(options.markdown, markdown);
  return { results: rows, comparable: [] };
}

const COMMANDS: Record<string, (names: string[]) => Promise<Outcome>> = {
  step: benchSteps,
  ops: benchOps,
  profile: (names) => benchProfile(names.length > 0 ? names : ['swin_tiny']),
  replay: benchReplay,
  limits: benchLimits,
  tfjs: benchTfjs,
  dispatch: async () => ({ results: await dispatch(Number(options.rounds)), comparable: [] }),
};

async function main(): Promise<void> {
  const [what = 'step', ...names] = positionals;
  const command = COMMANDS[what];
  if (!command) throw new Error(`unknown bench '${what}', expected one of ${Object.keys(COMMANDS).join(', ')}`);
  if (options.device !== 'cpu' && options.device !== 'cuda') throw new Error(`unknown device '${options.device}', expected cpu or cuda`);
  const before = options.compare === undefined ? null : (JSON.parse(readFileSync(options.compare, 'utf8')) as { comparable: Comparable[] });
  const { results, comparable, measured } = await command(names);
  if (options.json) writeFileSync(options.json, JSON.stringify({ date: new Date().toISOString(), node: process.version, device: options.device, results, comparable }, null, 1));
  if (options.roofline) {
    if (!measured) throw new Error(`bench ${what} has no roofline: ops, profile and replay have`);
    writeFileSync(options.roofline, roofline(measured.title, measured.limits, options.precision, measured.items));
  }
  if (before) {
    const { text, slower } = compare(before.comparable, comparable);
    console.log(`\n${text}`);
    if (slower.length > 0) throw new Error(`slower than in ${options.compare}: ${slower.join(', ')}`);
  }
}

main().catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
