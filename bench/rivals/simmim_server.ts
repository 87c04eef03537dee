// Our side of every bench: the protocol of torch_server.py, on the compiled package in dist/.
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs-core';
import type { IsaLevel } from '../../ts/native';
import { OP_BENCHES } from '../ops';
import { type BenchCase, dist } from '../ops/op_bench';
import type { TracedCall } from '../trace';
import { ReplayedCall } from './replayed_call';

// The compiled files are what users install.
const native = require(dist('native')) as typeof import('../../ts/native');
require(dist('backend'));
const train = require(dist('train')) as typeof import('../../ts/train');

type Job = () => number | null | Promise<number>;

interface Request {
  cmd: string;
  model?: string;
  /** Pixels; 192, for a ViT 224. */
  imageSize?: number;
  batch?: number;
  recorded?: boolean;
  precision?: 'f32' | 'bf16';
  checkpointing?: boolean;
  threads?: number;
  device?: 'cpu' | 'cuda';
  /** One of tfjs's own in place of ours: the step op by op in float32. */
  backend?: 'cpu' | 'wasm';
  isa?: IsaLevel;
  op?: string;
  case?: BenchCase;
  backward?: boolean;
  repeats?: number;
  /** The call that replay_setup repeats. */
  call?: TracedCall;
  /** Print every native call on standard error. */
  trace?: boolean;
}

/** Waits until everything is done that was asked for: large calls are queued, and on a GPU all of them. */
function finishDevice(): void {
  if (tf.getBackend() === 'simmim-cuda') tf.tidy(() => tf.zeros([1]).dataSync());
  else native.loadAddon().join();
}

/** The most bytes that tensors and workspaces took: of the GPU's memory, or of this process. */
function peakBytes(): number {
  return tf.getBackend() === 'simmim-cuda' ? native.loadAddon().stats(native.openCuda()).peak : process.resourceUsage().maxRSS * 1024;
}

/** Forward, backward, clip 5 and AdamW on one batch of noise: what the trainer does between two batches, recorded or eager. */
function stepJob({ model = '', imageSize, backend, batch = 8, recorded = backend === undefined, precision = 'f32', checkpointing = false }: Request): Job {
  if (backend && precision !== 'f32') throw new Error(`${backend} computes in f32 alone`);
  const step = new train.NoiseStep(train.parseRecipe({ model: { encoder: model, imageSize: imageSize ?? (model.startsWith('vit') ? 224 : 192), checkpointing }, train: { precision, recorded } } as never), batch);
  return () => step.run();
}

async function answer(request: Request, job: Job | null): Promise<{ reply: object; job: Job | null }> {
  if (request.cmd === 'info') return { reply: { name: 'simmim', ...native.loadAddon().info() }, job };
  if (request.cmd.endsWith('_setup')) {
    const backend = request.backend ?? (request.device === 'cuda' ? 'simmim-cuda' : 'simmim-cpu');
    if (backend === 'wasm') require('@tensorflow/tfjs-backend-wasm');
    if (!(await tf.setBackend(backend))) throw new Error(`${backend} does not start here: see 'simmim doctor'`);
    const addon = native.loadAddon();
    addon.setThreads(request.threads ?? addon.info().threads);
    if (request.isa) addon.setIsa(request.isa);
    if (request.cmd === 'step_setup') return { reply: { ok: true }, job: stepJob(request) };
    if (request.call) {
      const call = new ReplayedCall(native, request.call);
      return { reply: { ok: true }, job: () => call.run() };
    }
    const bench = OP_BENCHES.find((b) => b.op === request.op);
    if (!bench) throw new Error(`no bench of ${request.op}`);
    return { reply: { ok: true }, job: bench.job(request.case ?? {}, request.backward ?? false, request.precision ?? 'f32') };
  }
  if (!job) throw new Error('run before setup');
  const seconds: number[] = [];
  const host: number[] = [];
  let value: number | null = null;
  native.loadAddon().setTrace(request.trace ?? false);
  for (let i = 0; i < (request.repeats ?? 1); i++) {
    const start = process.hrtime.bigint();
    const before = performance.eventLoopUtilization();
    value = await job();
    host.push(performance.eventLoopUtilization(before).active / 1e3);
    finishDevice();
    seconds.push(Number(process.hrtime.bigint() - start) / 1e9);
  }
  return { reply: { seconds, host, value, peakBytes: peakBytes() }, job };
}

async function serve(): Promise<void> {
  let job: Job | null = null;
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const done = await answer(JSON.parse(line) as Request, job);
      job = done.job;
      console.log(JSON.stringify(done.reply));
    } catch (error) {
      console.log(JSON.stringify({ error: (error as Error).stack }));
    }
  }
}

void serve();
