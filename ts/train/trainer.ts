import { join } from 'node:path';
import type { Batch, BatchSource, LeasedBatch } from '../data/types';
import { SimmimError } from '../errors';
import { onOwnBackend } from '../ops/fused_op';
import { type Checkpoint, type RunIdentity, type RunPosition, checkpointsFolder, pruneCheckpoints, restoreBuffers, saveCheckpoint } from './checkpoint';
import { writeNonFiniteReport } from './non_finite';
import type { FlatBuffers } from './flat_buffers';
import { JsonlLog, type UpdateRecord, type ValidationFigures, type ValidationRecord } from './metrics';
import { RunLock } from './run_lock';
import { type HostBatch, type StepObjective, TrainingStep, type UpdateResult } from './step';
import { StepState } from './step_state';
import { Timetable } from './timetable';

/** What a run trains: a loss, and how a batch of pictures becomes its inputs. */
export interface TrainingTask extends StepObjective {
  /** The inputs of micro step `micro` of update `update`, a pure function of its arguments; images are [3, H, W] each. */
  inputs(batch: Batch, imageShape: readonly number[], update: number, micro: number): HostBatch;
}

/** Hears what a run does; the CLI prints it. */
export interface Reporter {
  update(record: UpdateRecord, run: { updates: number; secondsLeft: number; show: boolean }): void;
  validation(record: ValidationRecord): void;
  checkpoint(folder: string): void;
  /** A sentence for the user. */
  note(sentence: string): void;
}

/** What a run is made of. */
export interface TrainerParts extends RunIdentity {
  task: TrainingTask;
  buffers: FlatBuffers;
  source: BatchSource;
  /** What the model makes of held-out pictures; null without validation. */
  validate: (() => Promise<ValidationFigures>) | null;
  /** Folder of the run: log.jsonl, checkpoints/. */
  out: string;
  reporter: Reporter;
  /** Continue from here. */
  resume: Checkpoint | null;
}

/** How a run ended. */
export interface RunSummary {
  /** `finished`: all updates done; `stopped`: asked to stop, or `train.stopAfter` reached. */
  end: 'finished' | 'stopped';
  update: number;
  skipped: number;
  /** The last checkpoint. */
  checkpoint: string;
  /** The last validation of this process, if any. */
  validation: ValidationRecord | null;
}

/** Seconds over which the speed of the progress line is averaged. */
const SPEED_WINDOW = 20;

/**
 * A run: take images, step, log, validate, save. Its course depends on the recipe and the data
 * alone; stopping anywhere and resuming from the checkpoint gives the same bits.
 */
export class Trainer {
  private readonly timetable: Timetable;
  private readonly step: TrainingStep;
  private readonly state: StepState;
  private readonly lock: RunLock;
  private readonly log: JsonlLog;
  private position: RunPosition;
  private stopRequested = false;
  private closed = false;
  private lastSaved = -1;
  private lastFolder = '';
  private lastValidation: ValidationRecord | null = null;
  private readonly ticks: { time: number; images: number }[] = [];

  constructor(private readonly parts: TrainerParts) {
    const { recipe, task, buffers, source, resume } = parts;
    this.timetable = new Timetable(recipe, source.batchesPerEpoch);
    this.state = new StepState(recipe.train.seed);
    const { betas, eps, weightDecay, clip } = recipe.optimizer;
    this.step = new TrainingStep(task, buffers, this.state, {
      accumulation: recipe.train.accumulation, clip, clipEveryMicroStep: recipe.quirks.clipEveryMicroStep, betas, eps, weightDecay, precision: recipe.train.precision, recorded: recipe.train.recorded, ema: recipe.task === 'finetune' ? recipe.optimizer.ema : null,
    });
    this.position = { update: 0, adamwSteps: 0, skippedInARow: 0, skipped: 0, source: source.state() };
    if (resume) {
      restoreBuffers(resume, buffers);
      source.restore(resume.state.position.source);
      this.position = structuredClone(resume.state.position);
      this.lastSaved = this.position.update;
      this.lastFolder = resume.folder;
    }
    if (recipe.train.precision === 'bf16' && !onOwnBackend()) parts.reporter.note("train.precision is bf16: tfjs's own backends know float32 only, so this run computes in float32");
    this.lock = new RunLock('train', parts.out);
    try {
      this.log = new JsonlLog(join(parts.out, 'log.jsonl'), this.position.update);
    } catch (error) {
      this.lock.release();
      throw error;
    }
  }

  /** Number of updates of the whole run. */
  get updates(): number {
    const { stopAfter } = this.parts.recipe.train;
    return stopAfter === null ? this.timetable.updates : Math.min(stopAfter, this.timetable.updates);
  }

  /** Ends the run after the micro step in hand; the checkpoint holds the last whole update. */
  requestStop(): void {
    this.stopRequested = true;
  }

  /** Trains to the end. Throws `non_finite` after too many skipped updates in a row, and what the data throws. */
  async run(): Promise<RunSummary> {
    try {
      while (this.position.update < this.updates && !this.stopRequested) {
        if (!(await this.oneUpdate())) break; // stopped in the middle of an accumulation
        if (this.validationIsDue()) await this.validate();
        if (this.position.update % this.parts.recipe.checkpoint.everySteps === 0) this.save();
      }
      if (this.lastSaved !== this.position.update) this.save();
      const end = this.position.update >= this.timetable.updates ? 'finished' : 'stopped';
      return { end, update: this.position.update, skipped: this.position.skipped, checkpoint: this.lastFolder, validation: this.lastValidation };
    } finally {
      this.close();
    }
  }

  /** Gives the folder back and frees what belongs to the steps; for a run that was never begun. A second call does nothing. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.log.close();
    this.lock.release();
    this.step.dispose();
    this.state.dispose();
  }

  /** One update: its micro steps, then the weights. Returns false when it was given up for a stop request. */
  private async oneUpdate(): Promise<boolean> {
    const { update } = this.position;
    const { accumulation } = this.timetable;
    const begin = performance.now();
    const batches: Batch[] = [];
    let dataSeconds = 0;
    let worked: Promise<unknown> = Promise.resolve();
    await this.step.begin();
    for (let micro = 0; micro < accumulation; micro++) {
      const asked = performance.now();
      const batch = await this.parts.source.lease();
      dataSeconds += (performance.now() - asked) / 1000;
      batches.push({ ...batch, images: new Float32Array(0) }); // only the names are needed from here on
      worked = this.microStep(batch, update, micro);
      if (micro + 1 === accumulation) break; // the update may be asked for at once
      await worked;
      await breathe();
      if (this.stopRequested) return false;
    }
    const lr = this.timetable.lr(update);
    const rates = this.parts.buffers.lrScales.map((scale) => this.timetable.lr(update, scale));
    const [result] = await Promise.all([this.step.apply(lr, this.position.adamwSteps + 1, rates), worked]);
    this.advance(result.applied, batches);
    this.report({ result, lr, dataSeconds, begin, images: batches.reduce((n, b) => n + b.files.length, 0) });
    if (!result.applied) this.afterSkip(result, lr, batches);
    await breathe();
    return true;
  }

  /** Asks for one micro step; the source gets its memory back when the device has the batch. */
  private microStep(batch: LeasedBatch, update: number, micro: number): Promise<unknown> {
    this.state.writeClock(update, micro);
    const { taken, done } = this.step.micro(this.parts.task.inputs(batch, this.parts.source.imageShape, update, micro));
    taken.then(batch.release, batch.release);
    return done;
  }

  /** Moves the position behind an update. */
  private advance(applied: boolean, batches: readonly Batch[]): void {
    const { source } = this.parts;
    const last = batches[batches.length - 1];
    const { droppedBatches, batchesPerEpoch } = this.timetable;
    if (droppedBatches > 0 && last && last.step + 1 + droppedBatches === batchesPerEpoch) {
      source.restore({ ...source.state(), epoch: last.epoch + 1, step: 0 });
    }
    const p = this.position;
    this.position = {
      update: p.update + 1,
      adamwSteps: p.adamwSteps + (applied ? 1 : 0),
      skippedInARow: applied ? 0 : p.skippedInARow + 1,
      skipped: p.skipped + (applied ? 0 : 1),
      source: source.state(),
    };
  }

  private report(of: { result: UpdateResult; lr: number; dataSeconds: number; begin: number; images: number }): void {
    const { update } = this.position;
    const now = performance.now();
    this.ticks.push({ time: of.begin, images: of.images });
    while (this.ticks.length > 1 && now - (this.ticks[0]?.time ?? now) > SPEED_WINDOW * 1000) this.ticks.shift();
    const seconds = (now - (this.ticks[0]?.time ?? now)) / 1000;
    const imagesPerSecond = this.ticks.reduce((sum, t) => sum + t.images, 0) / seconds;
    const record: UpdateRecord = {
      kind: 'update', step: update, epoch: this.timetable.epoch(update - 1), loss: of.result.loss, lr: of.lr, gradientNorm: of.result.gradientNorm,
      imagesPerSecond: (of.images * 1000) / (now - of.begin), dataSeconds: of.dataSeconds, memory: process.memoryUsage.rss(),
    };
    if (!of.result.applied) record.skipped = true;
    this.log.append(record);
    const left = this.updates - update;
    const show = update % this.parts.recipe.log.everySteps === 0 || update === 1 || left === 0;
    this.parts.reporter.update({ ...record, imagesPerSecond }, { updates: this.updates, secondsLeft: (left * seconds) / this.ticks.length, show });
  }

  /** After a skipped update: says so, and ends the run when it happened too often in a row. */
  private afterSkip({ loss, gradientNorm }: UpdateResult, lr: number, batches: readonly Batch[]): void {
    const { recipe, reporter, out, buffers } = this.parts;
    const { update, skippedInARow } = this.position;
    reporter.note(`update ${update} was skipped: loss ${loss}, gradient norm ${gradientNorm} (${skippedInARow} in a row)`);
    if (skippedInARow < recipe.train.maxNonFinite) return;
    const folder = writeNonFiniteReport(join(out, `non-finite-${String(update).padStart(8, '0')}`), {
      update, loss, lr, gradientNorm, skippedInARow, files: batches.flatMap((b) => b.files), gradientNorms: buffers.gradientNorms(),
    }, (parent) => saveCheckpoint(parent, buffers, this.position, this.identity()));
    throw new SimmimError('non_finite', 'train', `loss or gradient was not finite in ${skippedInARow} updates in a row, the last being ${update}; its files, gradient norms and weights are in '${folder}'`);
  }

  private validationIsDue(): boolean {
    if (!this.parts.validate) return false;
    const { update } = this.position;
    const { everyEpochs } = this.parts.recipe.validation;
    const perEpoch = this.timetable.batchesPerEpoch / this.timetable.accumulation;
    const rounds = (u: number): number => Math.floor(u / perEpoch / everyEpochs + 1e-9);
    return rounds(update) > rounds(update - 1) || update === this.updates;
  }

  private async validate(): Promise<void> {
    if (!this.parts.validate) return;
    const result = await this.parts.validate();
    const record: ValidationRecord = { kind: 'validation', step: this.position.update, epoch: this.timetable.epoch(this.position.update - 1), ...result };
    this.lastValidation = record;
    this.log.append(record);
    this.parts.reporter.validation(record);
    this.ticks.length = 0; // the pause is not training time
  }

  private identity(): RunIdentity {
    const { recipe, versions, classifier } = this.parts;
    return { recipe, versions, ...(classifier ? { classifier } : {}) };
  }

  private save(): void {
    const { out, buffers, recipe, reporter } = this.parts;
    const parent = checkpointsFolder(out);
    this.lastFolder = saveCheckpoint(parent, buffers, this.position, this.identity());
    this.lastSaved = this.position.update;
    pruneCheckpoints(parent, recipe.checkpoint.keep);
    reporter.checkpoint(this.lastFolder);
    this.ticks.length = 0;
  }
}

/** Lets signals and the loader's messages through between two steps of synchronous work. */
function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
