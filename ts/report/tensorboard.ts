import { join } from 'node:path';
import { SummaryFileWriter } from '../node/summary';
import { isMasked, type UpdateRecord, type ValidationRecord } from '../train/metrics';
import type { Reporter } from '../train/trainer';
import type { RunRecord } from './run_record';

/** Curves of an update: TensorBoard's tag -> value. */
function updateScalars(r: UpdateRecord): Record<string, number> {
  return { 'train/loss': r.loss, 'train/lr': r.lr, 'train/gradient_norm': r.gradientNorm, 'speed/images_per_second': r.imagesPerSecond, 'speed/data_seconds': r.dataSeconds, 'memory/resident_bytes': r.memory, epoch: r.epoch };
}

function validationScalars(r: ValidationRecord): Record<string, number> {
  if (isMasked(r)) return { 'validation/loss': r.loss, 'validation/constant_loss': r.constantLoss };
  return { 'validation/loss': r.loss, 'validation/top1': r.top1, ...(r.top5 === null ? {} : { 'validation/top5': r.top5 }), ...(r.ema ? { 'validation/ema_top1': r.ema.top1 } : {}) };
}

function write(writer: SummaryFileWriter, record: UpdateRecord | ValidationRecord): void {
  const scalars = record.kind === 'update' ? updateScalars(record) : validationScalars(record);
  for (const [tag, value] of Object.entries(scalars)) writer.scalar(tag, value, record.step);
}

/** Writes the logs of runs as event files, a folder for each run; returns the folders. */
export function writeEventFiles(runs: readonly RunRecord[], folder: string): string[] {
  return runs.map(({ name, updates, validations }) => {
    const writer = new SummaryFileWriter(join(folder, name));
    try {
      for (const record of [...updates, ...validations].sort((a, b) => a.step - b.step)) write(writer, record);
    } finally {
      writer.close();
    }
    return writer.logdir;
  });
}

/** A reporter that also writes an event file as training goes; `close` it. A run that continues at `step` takes back what an earlier file says beyond. */
export class EventReporter implements Reporter {
  private readonly writer: SummaryFileWriter;

  constructor(private readonly reporter: Reporter, folder: string, step: number) {
    this.writer = new SummaryFileWriter(folder);
    if (step > 0) this.writer.restart(step + 1);
  }

  update(...[record, run]: Parameters<Reporter['update']>): void {
    write(this.writer, record);
    this.reporter.update(record, run);
  }
  validation(record: ValidationRecord): void {
    write(this.writer, record);
    this.reporter.validation(record);
  }
  checkpoint(folder: string): void {
    this.reporter.checkpoint(folder);
  }
  note(sentence: string): void {
    this.reporter.note(sentence);
  }
  close(): void {
    this.writer.close();
  }
}
