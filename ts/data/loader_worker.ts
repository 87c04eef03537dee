/** Entry of a worker thread of the pipeline: claims rows of the announced jobs and fills them until told to close. */
import { parentPort, workerData } from 'node:worker_threads';
import { SimmimError } from '../errors';
import { decodeSideBySide } from './decode';
import { SampleMaker, type SampleJob, type SampleKernels } from './sample';
import { Staging, type StagingBuffers } from './staging';
import type { Transform } from './transform';

/** What a worker is started with. */
export interface WorkerSetup {
  staging: StagingBuffers;
  transform: Transform;
  seed: number;
  kernels: SampleKernels;
}

/** Rows to fill: claim numbers base .. base + rows.length - 1 of the slot stand for `rows` in order. */
export interface FillJob {
  slot: number;
  base: number;
  epoch: number;
  rows: SampleJob[];
}

async function fill(job: FillJob, staging: Staging, maker: SampleMaker): Promise<boolean> {
  const end = job.base + job.rows.length;
  let completed = false;
  for (let claim = staging.claim(job.slot, job.base, end); claim >= 0; claim = staging.claim(job.slot, job.base, end)) {
    const row = job.rows[claim - job.base] as SampleJob;
    let reason: string | null = null;
    try {
      await maker.make(row, job.epoch, staging.row(job.slot, row.row));
    } catch (error) {
      if (!(error instanceof SimmimError) || (error.code !== 'corrupt' && error.code !== 'io')) throw error;
      reason = error.message;
    }
    staging.report(job.slot, row.row, reason);
    completed = staging.finish(job.slot) === end;
  }
  return completed;
}

function main(): void {
  const port = parentPort;
  if (!port) throw new SimmimError('internal', 'pipeline', 'loader_worker runs in a worker thread only');
  const setup = workerData as WorkerSetup;
  decodeSideBySide();
  const staging = new Staging(setup.staging);
  const maker = new SampleMaker(setup.transform, setup.seed, setup.kernels);
  const queue: FillJob[] = [];
  let closing = false;
  let busy = false;
  const close = (): void => {
    maker.dispose();
    port.close();
  };
  const drain = async (): Promise<void> => {
    busy = true;
    for (let job = queue.shift(); job && !closing; job = queue.shift()) {
      if (await fill(job, staging, maker)) port.postMessage(job.slot);
    }
    busy = false;
    if (closing) close();
  };
  port.on('message', (message: FillJob | 'close') => {
    if (message === 'close') {
      closing = true;
      queue.length = 0;
      if (!busy) close();
      return;
    }
    queue.push(message);
    // A rejection is a fault of ours, not of a picture: it ends the worker and reaches the pipeline as its 'error'.
    if (!busy) void drain();
  });
}

main();
