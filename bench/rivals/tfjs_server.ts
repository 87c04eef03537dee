// One tfjs backend for `npm run bench -- tfjs`: node tfjs_server.js BACKEND. Answers JSON lines as torch_server.py does.
import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs-core';
import { dist } from '../ops/op_bench';
import { checksum, inputValues } from '../tfjs/data';
import { type Size, TFJS_OPS, type TfjsOp } from '../tfjs/ops';

const backend = process.argv[2] ?? 'simmim-cpu';

interface Request {
  cmd: 'setup' | 'run';
  op?: string;
  size?: Size;
  threads?: number;
}

/** A timed call: the op, and reading one value of what it gives, so that queued work counts. */
interface Job {
  run(): void;
  inputs: tf.Tensor[];
  calls: number;
}

async function start(threads: number): Promise<void> {
  require(dist('backend'));
  if (backend === 'wasm') require('@tensorflow/tfjs-backend-wasm');
  await tf.setBackend(backend);
  if (backend === 'simmim-cpu') (require(dist('native')) as typeof import('../../ts/native')).loadAddon().setThreads(threads);
}

function inputs(op: TfjsOp, size: Size): tf.Tensor[] {
  return op.shapes[size].map((shape, i) => {
    const values = inputValues(op, size, i);
    return tf.tensor(values, shape, values instanceof Int32Array ? 'int32' : 'float32');
  });
}

function first(y: tf.Tensor): number {
  return tf.tidy(() => tf.slice(tf.reshape(y, [-1]), [0], [1]).dataSync()[0] as number);
}

const seconds = (f: () => void): number => {
  const begin = process.hrtime.bigint();
  f();
  return Number(process.hrtime.bigint() - begin) / 1e9;
};

function setup(op: TfjsOp, size: Size): { job: Job; reply: object } {
  const given = inputs(op, size);
  const y = tf.tidy(() => tf.cast(op.run(tf, given), 'float32'));
  const value = checksum(y.dataSync() as Float32Array);
  y.dispose();
  const once = (): void => tf.tidy(() => { op.run(tf, given); });
  const job: Job = {
    inputs: given,
    calls: 1,
    run: () => {
      for (let i = 1; i < job.calls; i++) once();
      const last = tf.tidy(() => op.run(tf, given));
      first(last);
      last.dispose();
    },
  };
  // as many calls as take about 20 ms
  const warm = seconds(job.run);
  job.calls = Math.max(1, Math.min(2000, Math.round(0.02 / Math.min(warm, seconds(job.run)))));
  return { job, reply: { value, slow: warm > 1 } };
}

async function serve(): Promise<void> {
  let job: Job | undefined;
  let started = false;
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as Request;
    try {
      if (request.cmd === 'setup') {
        if (!started) await start(request.threads ?? 2);
        started = true;
        if (job) tf.dispose(job.inputs);
        job = undefined;
        const made = setup(TFJS_OPS.find((op) => op.name === request.op) as TfjsOp, request.size ?? 'small');
        job = made.job;
        console.log(JSON.stringify(made.reply));
      } else if (job) {
        const { run, calls } = job;
        console.log(JSON.stringify({ seconds: [seconds(run) / calls], peakBytes: process.resourceUsage().maxRSS * 1024 }));
      }
    } catch (error) {
      console.log(JSON.stringify({ error: (error as Error).message }));
    }
  }
}

void serve();
