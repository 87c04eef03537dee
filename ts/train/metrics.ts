import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { SimmimError } from '../errors';

/** One line of the log for an update. */
export interface UpdateRecord {
  kind: 'update';
  /** Updates done, this one included. */
  step: number;
  epoch: number;
  /** Mean over the micro steps. */
  loss: number;
  lr: number;
  gradientNorm: number;
  imagesPerSecond: number;
  /** Seconds that the update waited for its images. */
  dataSeconds: number;
  /** Resident bytes of the process. */
  memory: number;
  /** true when a non-finite value made the update be skipped. */
  skipped?: true;
}

/** What pre-training measures on held-out pictures. */
export interface MaskedFigures {
  /** Masked loss on fixed pictures under fixed masks. */
  loss: number;
  /** The same loss of the best constant: each image's mean over its visible pixels. */
  constantLoss: number;
  images: number;
}

/** How well pictures were classified: mean cross-entropy, and percent of them whose class has the largest logit, or one of the five largest (null up to five classes). */
export interface ClassScores {
  loss: number;
  top1: number;
  top5: number | null;
}

/** What fine-tuning measures on held-out pictures. */
export interface ClassFigures extends ClassScores {
  images: number;
  /** Scores of the weights' moving average. */
  ema?: ClassScores;
}

/** What `simmim evaluate` writes to evaluation.json. */
export interface RunEvaluation extends ClassScores {
  /** What was judged. */
  weights: string;
  images: number;
  /** Names in label order. */
  classes: string[];
  /** [K][K]: pictures of class i that were taken for class j. */
  confusion: number[][];
  /** For each picture 1 where the first guess was right, in the set's order. */
  right: string;
}

export type ValidationFigures = MaskedFigures | ClassFigures;

/** One line of the log for a validation. */
export type ValidationRecord = { kind: 'validation'; step: number; epoch: number } & ValidationFigures;

/** Whether the figures are those of pre-training. */
export function isMasked<F extends ValidationFigures>(figures: F): figures is F & MaskedFigures {
  return 'constantLoss' in figures;
}

export type LogRecord = UpdateRecord | ValidationRecord;

/** `log.jsonl`: one JSON object a line, appended as the run goes. Numbers that are not finite are written as strings. */
export class JsonlLog {
  private readonly descriptor: number;

  /** Opens for appending, folder included; lines of steps after `lastStep` (and a torn last line) are cut off. */
  constructor(readonly file: string, lastStep: number) {
    try {
      mkdirSync(dirname(file), { recursive: true });
      const keep = existsSync(file) ? lengthUpTo(readFileSync(file, 'utf8'), lastStep) : 0;
      this.descriptor = openSync(file, 'a');
      ftruncateSync(this.descriptor, keep);
    } catch (error) {
      throw new SimmimError('io', 'log', `cannot write '${file}': ${(error as Error).message}`);
    }
  }

  append(record: LogRecord): void {
    writeSync(this.descriptor, `${JSON.stringify(record, (_, value: unknown) => (typeof value === 'number' && !Number.isFinite(value) ? String(value) : value))}\n`);
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

/** Bytes of the leading lines that are whole and belong to steps up to `lastStep`. */
function lengthUpTo(text: string, lastStep: number): number {
  let kept = '';
  for (const line of text.split('\n').slice(0, -1)) {
    try {
      if ((JSON.parse(line) as { step: number }).step > lastStep) break;
    } catch {
      break; // torn by a crash
    }
    kept += `${line}\n`;
  }
  return Buffer.byteLength(kept);
}

/** Seconds as `4 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Four significant digits without needless zeros; small and large numbers as powers. */
export function short(x: number): string {
  if (!Number.isFinite(x)) return String(x);
  return Math.abs(x) >= 1e-3 && Math.abs(x) < 1e5 ? String(Number(x.toPrecision(4))) : x.toExponential(2);
}

/** The records of a `log.jsonl`; a torn last line is left out. Throws `not_found`, or `corrupt` for any other line that is no record. */
export function readLog(file: string): LogRecord[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new SimmimError('not_found', 'log', `cannot read '${file}': ${(error as Error).message}`);
  }
  return text.split('\n').slice(0, -1).map((line, i) => {
    try {
      return JSON.parse(line, (_, value: unknown) => (value === 'NaN' || value === 'Infinity' || value === '-Infinity' ? Number(value) : value)) as LogRecord;
    } catch {
      throw new SimmimError('corrupt', 'log', `'${file}' has no record in line ${i + 1}`);
    }
  });
}

/** Median images a second over the updates of a `log.jsonl`; null when it has none. */
export function medianSpeed(file: string): number | null {
  const speeds = readLog(file).flatMap((r) => (r.kind === 'update' && Number.isFinite(r.imagesPerSecond) ? [r.imagesPerSecond] : [])).sort((a, b) => a - b);
  return speeds[speeds.length >> 1] ?? null;
}
