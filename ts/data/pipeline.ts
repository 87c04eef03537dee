/**
 * Batches made beside training. Worker threads own the whole way from the file to the row of a staged
 * batch, several batches ahead, so they go on while a training step blocks the main thread; the order,
 * the draws and the stand-ins for broken files are pure functions of (seed, epoch, position).
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { SimmimError } from '../errors';
import type { ImageDataset } from './dataset';
import type { FillJob, WorkerSetup } from './loader_worker';
import { SampleMaker, type SampleJob, type SampleKernels } from './sample';
import { Sampler, replacementIndex, type SamplerOptions } from './sampler';
import { Staging } from './staging';
import { transform, type Transform, type TransformOptions } from './transform';
import type { Batch, BatchSource, LeasedBatch, SourceState } from './types';

export interface PipelineOptions extends Omit<SamplerOptions, 'length'> {
  transform: TransformOptions;
  /** Worker threads; 0 makes each batch on the calling thread when it is asked for. Default: cores, at most 8. */
  workers?: number;
  /** Batches staged ahead, at least 1. Each takes B * 3 * H * W * 4 bytes. Default 4. */
  prefetch?: number;
  /** The run stops when more than this share of the dataset's files is broken. Default 0.05. */
  maxBrokenShare?: number;
  /** Told once of each broken file. Default: a Node.js process warning. */
  onBroken?: (name: string, reason: string) => void;
  /** Default native; `reference` needs no addon and gives the same bits, slowly. */
  kernels?: SampleKernels;
}

interface Row {
  job: SampleJob;
  index: number;
  attempts: number;
}

/** One staged batch: where it is in the run, and which claim numbers of its slot are its own. */
interface Staged {
  slot: number;
  epoch: number;
  step: number;
  rows: Row[];
  base: number;
  end: number;
}

const OP = 'pipeline';
const MAX_ATTEMPTS = 100;
const CLOSE_MS = 10_000;

/** Starts the workers and begins to stage the first batches. Throws invalid_argument for options that make no sense. */
export function openPipeline(dataset: ImageDataset, options: PipelineOptions): BatchSource {
  return new Pipeline(dataset, options);
}

function integer(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) throw new SimmimError('invalid_argument', OP, `${name} is ${value}, expected an integer from ${least} to ${most}`);
  return value;
}

/** The compiled worker beside this file, or in dist/ when this file runs from TypeScript sources. */
function workerScript(): string {
  const candidates = [join(__dirname, 'loader_worker.js'), join(__dirname, '../../dist/data/loader_worker.js')];
  const found = candidates.find((file) => existsSync(file));
  if (!found) throw new SimmimError('not_found', OP, `no compiled loader_worker.js (looked for ${candidates.join(', ')}): run 'npm run build:ts'`);
  return found;
}

class Pipeline implements BatchSource {
  readonly batchSize: number;
  readonly batchesPerEpoch: number;
  readonly imageShape: readonly [3, number, number];
  readonly classes: readonly string[];
  private readonly sampler: Sampler;
  private readonly transform: Transform;
  private readonly staging: Staging;
  private readonly maker: SampleMaker | null;
  private readonly workers: Worker[] = [];
  private readonly ends: number[];
  private readonly free: number[];
  private readonly broken = new Map<number, string>();
  private readonly maxBrokenShare: number;
  private readonly onBroken: (name: string, reason: string) => void;
  /** Staged batches in the order they will be taken; those of before a `restore` finish in `stale`. */
  private staged: Staged[] = [];
  private stale: Staged[] = [];
  private taken = { epoch: 0, step: 0 };
  private wake: (() => void) | null = null;
  private failure: SimmimError | null = null;
  private closed = false;
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly dataset: ImageDataset,
    private readonly options: PipelineOptions,
  ) {
    const workers = integer('workers', options.workers ?? Math.min(8, availableParallelism()), 0, 256);
    const slots = workers === 0 ? 1 : integer('prefetch', options.prefetch ?? 4, 1, 1024);
    this.maxBrokenShare = options.maxBrokenShare ?? 0.05;
    if (!(this.maxBrokenShare >= 0 && this.maxBrokenShare <= 1)) throw new SimmimError('invalid_argument', OP, `maxBrokenShare is ${this.maxBrokenShare}, expected a share from 0 to 1`);
    this.onBroken = options.onBroken ?? ((_, reason) => process.emitWarning(reason, 'SimmimData'));
    this.sampler = new Sampler({ ...options, length: dataset.length });
    this.transform = transform(options.transform);
    this.batchSize = this.sampler.batchSize;
    this.batchesPerEpoch = this.sampler.batchesPerEpoch;
    this.imageShape = [3, ...this.transform.size];
    this.classes = dataset.classes;
    this.staging = Staging.allocate(slots, this.batchSize, 3 * this.transform.size[0] * this.transform.size[1]);
    this.maker = workers === 0 ? new SampleMaker(this.transform, options.seed, options.kernels) : null;
    this.ends = new Array<number>(slots).fill(0);
    this.free = Array.from({ length: slots }, (_, i) => i);
    for (let i = 0; i < workers; i++) this.startWorker();
    if (workers > 0) this.schedule();
  }

  private startWorker(): void {
    const workerData: WorkerSetup = { staging: this.staging.buffers, transform: this.transform, seed: this.options.seed, kernels: this.options.kernels ?? 'native' };
    const worker = new Worker(workerScript(), { workerData });
    worker.on('message', () => this.wake?.());
    worker.on('error', (error) => this.fail(new SimmimError('internal', OP, `a loader thread died: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`, { cause: error })));
    worker.on('exit', (code) => {
      if (!this.closed) this.fail(new SimmimError('internal', OP, `a loader thread ended with code ${code}`));
    });
    worker.unref(); // a program that forgets close() may still end; next() holds the loop open while it waits
    this.workers.push(worker);
  }

  private fail(error: SimmimError): void {
    this.failure ??= error;
    this.wake?.();
  }

  async next(): Promise<Batch> {
    const { release, ...leased } = await this.lease();
    const batch = { ...leased, images: leased.images.slice() };
    release();
    return batch;
  }

  lease(): Promise<LeasedBatch> {
    const result = this.last.then(() => this.take());
    this.last = result.catch(() => undefined);
    return result;
  }

  state(): SourceState {
    return { ...this.taken, broken: [...this.broken.values()] };
  }

  restore(state: SourceState): void {
    integer('epoch', state.epoch, 0, 2 ** 31 - 1);
    integer('step', state.step, 0, this.batchesPerEpoch - 1);
    const indexOf = new Map(this.dataset.samples.map((s, i) => [s.name, i]));
    this.broken.clear();
    for (const name of state.broken) {
      const index = indexOf.get(name);
      if (index !== undefined) this.broken.set(index, name); // a file that was removed since is no longer broken
    }
    this.taken = { epoch: state.epoch, step: state.step };
    // Rows that no worker has begun are claimed here, so only those in work have to be waited for.
    for (const batch of this.staged) {
      while (this.staging.claim(batch.slot, batch.base, batch.end) >= 0) this.staging.finish(batch.slot);
    }
    this.stale.push(...this.staged);
    this.staged = [];
    if (this.workers.length > 0) this.schedule();
  }

  async close(): Promise<void> {
    if (!this.closed) this.maker?.dispose();
    this.closed = true;
    this.wake?.();
    await Promise.all(this.workers.splice(0).map(closeWorker));
  }

  private async take(): Promise<LeasedBatch> {
    this.check();
    const batch = await this.head();
    await this.fillRows(batch, batch.rows);
    for (let failed = this.failedRows(batch); failed.length > 0; failed = this.failedRows(batch)) {
      for (const row of failed) this.replace(row, batch);
      if (this.workers.length > 0) this.send(batch, failed);
      await this.fillRows(batch, failed);
    }
    this.staged = this.staged.filter((b) => b !== batch);
    this.taken = this.after(batch.epoch, batch.step);
    const images = this.staging.pixelsOf(batch.slot, batch.rows.length);
    // Without workers there is one slot, into which the next batch will be made.
    if (this.maker) return { ...this.describe(batch), images: images.slice(), release: () => undefined };
    let leased = true;
    const release = (): void => {
      if (!leased || this.closed) return;
      leased = false;
      this.free.push(batch.slot);
      this.schedule();
    };
    return { ...this.describe(batch), images, release };
  }

  /** The batch to take next; after a `restore`, waits for a slot whose old rows are finished. */
  private async head(): Promise<Staged> {
    if (this.workers.length === 0) return this.staged[0] ?? this.stage(0);
    for (this.schedule(); this.staged.length === 0; this.schedule()) await this.woken();
    return this.staged[0] as Staged;
  }

  /** Waits for a worker to finish a batch; holds the event loop open meanwhile. */
  private async woken(): Promise<void> {
    for (const worker of this.workers) worker.ref();
    await new Promise<void>((resolve) => (this.wake = resolve));
    this.wake = null;
    for (const worker of this.workers) worker.unref();
    this.check();
  }

  private check(): void {
    if (this.closed) throw new SimmimError('disposed', OP, 'the batch source was closed');
    if (this.failure) throw this.failure;
  }

  /** Waits until the workers have finished the batch's rows, or makes the given rows here when there are no workers. */
  private async fillRows(batch: Staged, rows: Row[]): Promise<void> {
    if (this.maker) {
      for (const { job } of rows) {
        const error = await this.maker.make(job, batch.epoch, this.staging.row(0, job.row)).then(() => null, asBroken);
        this.staging.report(0, job.row, error);
      }
      return;
    }
    while (this.staging.done(batch.slot) < batch.end) await this.woken();
  }

  private failedRows(batch: Staged): Row[] {
    return batch.rows.filter(({ job }) => this.staging.failure(batch.slot, job.row) !== null);
  }

  /** Notes a broken file and gives its row the next stand-in. */
  private replace(row: Row, batch: Staged): void {
    const { name } = this.dataset.sample(row.index);
    const reason = this.staging.failure(batch.slot, row.job.row) ?? '';
    if (!this.broken.has(row.index)) {
      this.broken.set(row.index, name);
      this.onBroken(name, reason);
    }
    const allowed = Math.floor(this.maxBrokenShare * this.dataset.length);
    if (this.broken.size > allowed) {
      const names = [...this.broken.values()];
      const shown = names.slice(0, 5).join(', ') + (names.length > 5 ? `, ... (${names.length - 5} more)` : '');
      this.failure = new SimmimError('corrupt', 'data', `${names.length} of the ${this.dataset.length} images of '${this.dataset.source}' are broken, more than maxBrokenShare = ${this.maxBrokenShare} allows: ${shown}; the last one: ${reason}`);
      throw this.failure;
    }
    this.resolve(row, batch.epoch);
  }

  /** Moves a row on from broken files, to the first stand-in that is not known to be broken. */
  private resolve(row: Row, epoch: number): void {
    while (this.broken.has(row.index)) {
      if (row.attempts === MAX_ATTEMPTS) throw new SimmimError('corrupt', 'data', `no readable image found in '${this.dataset.source}' after ${MAX_ATTEMPTS} attempts: ${this.broken.size} of ${this.dataset.length} are broken`);
      row.index = replacementIndex(this.options.seed, epoch, row.job.position, row.attempts++, this.dataset.length);
    }
    const { name, location } = this.dataset.sample(row.index);
    row.job = { ...row.job, name, location };
  }

  /** Gives every free slot the next batch to be staged. */
  private schedule(): void {
    this.stale = this.stale.filter((b) => {
      const finished = this.staging.done(b.slot) >= b.end;
      if (finished) this.free.push(b.slot);
      return !finished;
    });
    for (let slot = this.free.shift(); slot !== undefined; slot = this.free.shift()) {
      const batch = this.stage(slot);
      this.send(batch, batch.rows);
    }
  }

  private stage(slot: number): Staged {
    const previous = this.staged.at(-1);
    const { epoch, step } = previous ? this.after(previous.epoch, previous.step) : this.taken;
    const rows = this.sampler.batch(epoch, step).map(({ position, index }, row): Row => {
      const { name, location } = this.dataset.sample(index);
      const made: Row = { job: { row, name, location, position }, index, attempts: 0 };
      this.resolve(made, epoch);
      return made;
    });
    const batch: Staged = { slot, epoch, step, rows, base: this.ends[slot] as number, end: this.ends[slot] as number };
    this.staged.push(batch);
    return batch;
  }

  private send(batch: Staged, rows: Row[]): void {
    batch.base = this.ends[batch.slot] as number;
    batch.end = batch.base + rows.length;
    this.ends[batch.slot] = batch.end;
    const job: FillJob = { slot: batch.slot, base: batch.base, epoch: batch.epoch, rows: rows.map((r) => r.job) };
    for (const worker of this.workers) worker.postMessage(job);
  }

  private after(epoch: number, step: number): { epoch: number; step: number } {
    return step + 1 < this.batchesPerEpoch ? { epoch, step: step + 1 } : { epoch: epoch + 1, step: 0 };
  }

  private describe(batch: Staged): Omit<Batch, 'images'> {
    const samples = batch.rows.map((r) => this.dataset.sample(r.index));
    return {
      files: samples.map((s) => s.name),
      indices: batch.rows.map((r) => r.index),
      ...(this.classes.length > 0 ? { labels: Int32Array.from(samples, (s) => s.label) } : {}),
      epoch: batch.epoch,
      step: batch.step,
    };
  }
}

function asBroken(error: unknown): string {
  if (error instanceof SimmimError && (error.code === 'corrupt' || error.code === 'io')) return error.message;
  throw error;
}

/** Lets a worker finish its row (ending a thread inside libvips is not safe), then ends it. */
async function closeWorker(worker: Worker): Promise<void> {
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  worker.ref();
  worker.postMessage('close');
  const timer = setTimeout(() => void worker.terminate(), CLOSE_MS);
  await ended;
  clearTimeout(timer);
}
