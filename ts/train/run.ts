import * as tf from '@tensorflow/tfjs-core';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BatchSource } from '../data';
import { type Checkpoint } from './checkpoint';
import { evaluateMasked } from './evaluate';
import type { FlatBuffers } from './flat_buffers';
import { MaskedTask } from './masked_task';
import { type BuiltModel, buildBuffers, buildModel } from './model_build';
import type { Recipe } from './recipe';
import { type RunData, openRunData } from './run_data';
import { type Reporter, Trainer } from './trainer';

/** A run ready to start, and what belongs to it. */
export interface OpenRun {
  trainer: Trainer;
  built: BuiltModel;
  buffers: FlatBuffers;
  data: RunData;
  /** Pictures left out as broken so far. */
  broken(): string[];
  /** Stops the loader and frees the buffers. */
  close(): Promise<void>;
}

/** Versions written into checkpoints. */
export function versions(): Record<string, string> {
  const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as { version: string };
  return { simmim: version, node: process.versions.node, tfjs: tf.version_core, backend: tf.getBackend() };
}

/**
 * Opens data and model of a recipe on the active backend, at the start or at a checkpoint. `out` is the
 * folder of the run. Throws one sentence for whatever does not fit.
 */
export function openRun(recipe: Recipe, out: string, reporter: Reporter, resume: Checkpoint | null): OpenRun {
  const data = openRunData(recipe);
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  const source: BatchSource = data.openTrain((_, reason) => reporter.note(`left out: ${reason}`));
  const validate = data.validation && (async () => {
    const held = data.openValidation() as BatchSource;
    try {
      return await evaluateMasked(built.model, built.masking, held, recipe.train.seed, recipe.loss);
    } finally {
      await held.close();
    }
  });
  try {
    const trainer = new Trainer({ recipe, task: new MaskedTask(built.model, built.masking, recipe.train.seed), buffers, source, validate, out, reporter, versions: versions(), resume });
    return {
      trainer, built, buffers, data,
      broken: () => source.state().broken,
      close: async () => {
        trainer.close();
        await source.close();
        buffers.dispose();
      },
    };
  } catch (error) {
    void source.close();
    throw error;
  }
}
