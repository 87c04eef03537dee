import { createHash } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, readSync, readdirSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { SourceState } from '../data/types';
import { SimmimError } from '../errors';
import type { ImageStatistics } from '../image_statistics';
import { encodeSafetensorsHeader, readSafetensors, toFloat32 } from '../formats/safetensors';
import type { ModelConfig } from '../models';
import { type AnyRecipe, type FinetuneRecipe, parseAnyRecipe } from './finetune_recipe';
import type { BufferKind, FlatBuffers } from './flat_buffers';
import type { Recipe, Task } from './recipe';

const OP = 'checkpoint';
const FORMAT = 1;
const MODEL = 'model.safetensors';
const OPTIMIZER = 'optimizer.safetensors';
/** The moving average of the weights, where a run keeps one. */
export const AVERAGE = 'ema.safetensors';
const STATE = 'state.json';
const NAME = /^step-(\d{8,})$/;
/** Prefixes of folders on their way in and out: never taken for a checkpoint. */
const TEMPORARY = '.writing-';
const DOOMED = '.deleting-';

/** Where a run stands: all that is not a tensor and has an influence on what follows. */
export interface RunPosition {
  /** Updates done (those skipped for a non-finite gradient included). */
  update: number;
  /** AdamW updates done: the t of its bias correction. */
  adamwSteps: number;
  /** Updates skipped in a row just before this point. */
  skippedInARow: number;
  /** Updates skipped in the whole run. */
  skipped: number;
  /** Where the data stands. Masks and augmentation need no more: they are functions of seed and position. */
  source: SourceState;
}

/** What a checkpoint says of the run that it belongs to. */
export interface RunIdentity {
  recipe: AnyRecipe;
  versions: Record<string, string>;
  /** Fine-tuning: the whole architecture, which follows from the weights it started from, what its images are normalised by, and the classes' names in label order. */
  classifier?: ModelConfig & { statistics: ImageStatistics; names: string[] };
}

/** What `state.json` holds. */
export interface CheckpointState extends RunIdentity {
  format: number;
  position: RunPosition;
  /** Parameter shapes by name, in file order. */
  parameters: Record<string, number[]>;
  /** Size and SHA-256 of the files beside it: what makes a checkpoint complete. */
  files: Record<string, { bytes: number; sha256: string }>;
}

/** A checkpoint that was read and found complete. */
export interface Checkpoint {
  folder: string;
  state: CheckpointState;
}

/** The folder below `out` that holds the checkpoints. */
export function checkpointsFolder(out: string): string {
  return join(out, 'checkpoints');
}

const folderName = (update: number): string => `step-${String(update).padStart(8, '0')}`;

/**
 * Writes a checkpoint so that it exists either whole or not at all: files into a temporary folder, each
 * synced, then one rename. Returns its folder. Throws `io` when the disk refuses.
 */
export function saveCheckpoint(parent: string, buffers: FlatBuffers, position: RunPosition, run: RunIdentity): string {
  const target = join(parent, folderName(position.update));
  const temporary = join(parent, `${TEMPORARY}${folderName(position.update)}-${process.pid}`);
  try {
    mkdirSync(parent, { recursive: true });
    rmSync(temporary, { recursive: true, force: true });
    mkdirSync(temporary);
    const files = {
      [MODEL]: writeTensors(join(temporary, MODEL), buffers, [['weights', '']]),
      [OPTIMIZER]: writeTensors(join(temporary, OPTIMIZER), buffers, [['m', 'exp_avg/'], ['v', 'exp_avg_sq/']]),
      ...(buffers.averages ? { [AVERAGE]: writeTensors(join(temporary, AVERAGE), buffers, [['ema', '']]) } : {}),
    };
    const parameters = Object.fromEntries(buffers.names.map((name, i) => [name, [...buffers.shapeOf(i)]]));
    const state: CheckpointState = { format: FORMAT, position, ...run, parameters, files };
    writeFile(join(temporary, STATE), [Buffer.from(JSON.stringify(state, null, 1))]);
    syncFolder(temporary);
    if (existsSync(target)) remove(parent, target); // the same step again: same bits, or what was unreadable
    renameSync(temporary, target);
    syncFolder(parent);
  } catch (error) {
    if (error instanceof SimmimError) throw error;
    throw new SimmimError('io', OP, `cannot write '${target}': ${(error as Error).message}`, { cause: error });
  }
  return target;
}

/** Writes buffers one parameter at a time, so that the host never holds them all. */
function writeTensors(file: string, buffers: FlatBuffers, kinds: readonly [BufferKind, string][]): { bytes: number; sha256: string } {
  const header = encodeSafetensorsHeader(kinds.flatMap(([, prefix]) =>
    buffers.names.map((name, i): [string, { dtype: 'F32'; shape: number[] }] => [prefix + name, { dtype: 'F32', shape: [...buffers.shapeOf(i)] }])), { format: 'pt' });
  function* pieces(): Generator<Uint8Array> {
    yield header;
    for (const [kind] of kinds) {
      for (let i = 0; i < buffers.names.length; i++) {
        const values = buffers.read(kind, i);
        yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      }
    }
  }
  return writeFile(file, pieces());
}

function writeFile(file: string, pieces: Iterable<Uint8Array>): { bytes: number; sha256: string } {
  const hash = createHash('sha256');
  let bytes = 0;
  const descriptor = openSync(file, 'w');
  try {
    for (const piece of pieces) {
      for (let at = 0; at < piece.length;) at += writeSync(descriptor, piece, at);
      hash.update(piece);
      bytes += piece.length;
    }
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  return { bytes, sha256: hash.digest('hex') };
}

function syncFolder(folder: string): void {
  if (process.platform === 'win32') return; // folders cannot be opened there
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Reads a checkpoint's state and checks every file against it. Throws `corrupt` or `not_found` in one sentence. */
export function openCheckpoint(folder: string): Checkpoint {
  const corrupt = (why: string): SimmimError => new SimmimError('corrupt', OP, `'${folder}' ${why}`);
  if (!existsSync(folder)) throw new SimmimError('not_found', OP, `no folder '${folder}'`);
  if (!existsSync(join(folder, STATE))) throw corrupt(`has no ${STATE}: it is not a checkpoint, or its writing never ended`);
  let state: CheckpointState;
  try {
    state = JSON.parse(readFileSync(join(folder, STATE), 'utf8')) as CheckpointState;
  } catch (error) {
    throw corrupt(`has an unreadable ${STATE}: ${(error as Error).message}`);
  }
  if (state.format !== FORMAT) throw corrupt(`has format ${String(state.format)}, this version reads format ${FORMAT}`);
  for (const name of new Set([MODEL, OPTIMIZER, ...Object.keys(state.files ?? {})])) {
    const expected = state.files?.[name];
    if (!expected || !existsSync(join(folder, name))) throw corrupt(`lacks ${name}`);
    const { size } = statSync(join(folder, name));
    if (size !== expected.bytes) throw corrupt(`is damaged: ${name} has ${size} bytes, expected ${expected.bytes}`);
    if (sha256(join(folder, name)) !== expected.sha256) throw corrupt(`is damaged: the content of ${name} does not match its checksum`);
  }
  return { folder, state: { ...state, recipe: parseAnyRecipe(state.recipe, join(folder, STATE)) } };
}

/** The recipe of a checkpoint of pre-training, or of fine-tuning. Throws `invalid_argument` for one of the other. */
export function recipeOf(checkpoint: Checkpoint, task: 'pretrain'): Recipe;
export function recipeOf(checkpoint: Checkpoint, task: 'finetune'): FinetuneRecipe;
export function recipeOf({ folder, state: { recipe } }: Checkpoint, task: Task): AnyRecipe {
  if (recipe.task === task) return recipe;
  const words = { pretrain: 'pre-training', finetune: 'fine-tuning' };
  throw new SimmimError('invalid_argument', OP, `'${folder}' is of ${words[recipe.task]}, expected one of ${words[task]}`);
}

function sha256(file: string): string {
  const hash = createHash('sha256');
  const chunk = Buffer.alloc(1 << 20);
  const descriptor = openSync(file, 'r');
  try {
    for (let n = readSync(descriptor, chunk); n > 0; n = readSync(descriptor, chunk)) hash.update(chunk.subarray(0, n));
  } finally {
    closeSync(descriptor);
  }
  return hash.digest('hex');
}

/** Folders that look like checkpoints, newest step first; complete or not. */
export function listCheckpoints(parent: string): string[] {
  if (!existsSync(parent)) return [];
  const found = readdirSync(parent).map((name) => ({ name, step: Number(NAME.exec(name)?.[1] ?? NaN) })).filter(({ step }) => !Number.isNaN(step));
  return found.sort((a, b) => b.step - a.step).map(({ name }) => join(parent, name));
}

/**
 * The complete checkpoint with the highest step, or null. Unreadable ones are skipped, each with a sentence
 * to `warn`.
 */
export function latestCheckpoint(parent: string, warn: (sentence: string) => void): Checkpoint | null {
  for (const folder of listCheckpoints(parent)) {
    try {
      return openCheckpoint(folder);
    } catch (error) {
      if (!(error instanceof SimmimError)) throw error;
      warn(`${error.message}; trying the one before it`);
    }
  }
  return null;
}

/** Loads weights and moments. Throws `corrupt` when the model's parameters are others. */
export function restoreBuffers(checkpoint: Checkpoint, buffers: FlatBuffers): void {
  const { folder, state } = checkpoint;
  const describe = (shapes: Record<string, readonly number[]>): string[] => Object.entries(shapes).map(([name, shape]) => `${name} [${shape.join(', ')}]`).sort();
  const mine = describe(Object.fromEntries(buffers.names.map((name, i) => [name, buffers.shapeOf(i)])));
  const stored = describe(state.parameters);
  const difference = mine.find((p) => !stored.includes(p)) ?? stored.find((p) => !mine.includes(p));
  if (difference) throw new SimmimError('corrupt', OP, `'${folder}' is of another model: ${difference} is only in ${mine.includes(difference) ? 'the model' : 'the checkpoint'}`);
  const load = (file: string, kind: BufferKind, prefix: string, tensors = readSafetensors(join(folder, file)).tensors): void =>
    buffers.write(kind, (i) => {
      const name = prefix + (buffers.names[i] as string);
      const tensor = tensors.get(name);
      if (!tensor) throw new SimmimError('corrupt', OP, `'${folder}' has no tensor '${name}'`);
      return toFloat32(tensor, name);
    });
  load(MODEL, 'weights', '');
  load(OPTIMIZER, 'm', 'exp_avg/');
  load(OPTIMIZER, 'v', 'exp_avg_sq/');
  if (buffers.averages) load(AVERAGE, 'ema', '');
}

/** Deletes a checkpoint so that at no moment a part of it is left under its name. */
function remove(parent: string, folder: string): void {
  const doomed = join(parent, `${DOOMED}${basename(folder)}-${process.pid}`);
  rmSync(doomed, { recursive: true, force: true });
  renameSync(folder, doomed);
  rmSync(doomed, { recursive: true, force: true });
}

/** Deletes all but the newest `keep` checkpoints, and what writers that died left behind. */
export function pruneCheckpoints(parent: string, keep: number): void {
  for (const folder of listCheckpoints(parent).slice(keep)) remove(parent, folder);
  for (const name of existsSync(parent) ? readdirSync(parent) : []) {
    if (name.startsWith(TEMPORARY) || name.startsWith(DOOMED)) rmSync(join(parent, name), { recursive: true, force: true });
  }
}
