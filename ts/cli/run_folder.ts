import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { checkpointsFolder, latestCheckpoint, listCheckpoints, type Checkpoint } from '../train/checkpoint';
import { firstDifference } from '../train/recipe_difference';
import { refuseIfLocked } from '../train/run_lock';

/** Options of the commands that train. */
export interface TrainOptions {
  recipe?: string;
  data?: string;
  out?: string;
  /** Short for --set train.precision=. */
  precision?: string;
  set: string[];
  printConfig?: boolean;
  resume?: boolean;
  overwrite?: boolean;
  tensorboard?: boolean;
  backend: string;
}

/** The override that --precision stands for. */
export function precisionOverride({ precision }: TrainOptions): string[] {
  return precision === undefined ? [] : [`train.precision=${JSON.stringify(precision)}`];
}

/** The run's folder: --out, else one named after the recipe. */
export function runFolder(command: string, { out, recipe, resume, overwrite }: TrainOptions): string {
  if (resume && overwrite) throw new SimmimError('invalid_argument', command, '--resume and --overwrite exclude each other: one continues the run, the other deletes it');
  if (out !== undefined) return out;
  if (recipe === undefined) throw new SimmimError('invalid_argument', command, "give --recipe NAME (see 'simmim recipes'), or --resume with the --out folder of a run");
  return join('runs', recipe.replace(/\.ya?ml$/, '').split(/[\\/]/).slice(-2).join('-'));
}

/** The checkpoint to continue from, or null for a run that begins. */
export function resumedCheckpoint(command: string, out: string, { resume, recipe }: TrainOptions, print: (line: string) => void): Checkpoint | null {
  const checkpoint = resume ? latestCheckpoint(checkpointsFolder(out), print) : null;
  if (resume && !checkpoint && recipe === undefined) throw new SimmimError('not_found', command, `'${out}' holds no checkpoint to resume`);
  return checkpoint;
}

/** Throws `invalid_argument` unless a run may continue under `wanted`. */
export function checkResumable<R>(command: string, { folder }: Checkpoint, stored: R, wanted: R): R {
  const difference = firstDifference(stored, wanted);
  if (difference) throw new SimmimError('invalid_argument', command, `cannot resume '${folder}': ${difference}; start a new run with another --out`);
  return wanted;
}

/** Makes the run's folder; throws `invalid_argument` when there is a run in it that is neither continued nor replaced, or one that still goes on. */
export function prepareFolder(command: string, out: string, options: TrainOptions): void {
  const parent = checkpointsFolder(out);
  const used = listCheckpoints(parent).length > 0 || existsSync(join(out, 'log.jsonl'));
  if (used && !options.resume && !options.overwrite) throw new SimmimError('invalid_argument', command, `'${out}' already holds a run: continue it with --resume, replace it with --overwrite, or give another --out`);
  refuseIfLocked(command, out);
  try {
    if (options.overwrite) for (const part of [parent, join(out, 'log.jsonl'), join(out, 'tensorboard')]) rmSync(part, { recursive: true, force: true });
    mkdirSync(out, { recursive: true });
  } catch (error) {
    throw new SimmimError('io', command, `cannot make the folder '${out}': ${(error as Error).message}`);
  }
}
