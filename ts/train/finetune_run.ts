import type { BatchSource } from '../data';
import { SimmimError } from '../errors';
import { buildClassifier, rebuildClassifier, type BuiltClassifier } from './classifier_build';
import type { Checkpoint } from './checkpoint';
import { ClassifyTask } from './classify_task';
import { evaluateClassifier } from './evaluate_classifier';
import { openEvaluation, openLabelledData, openTraining } from './finetune_data';
import type { FinetuneRecipe } from './finetune_recipe';
import { flatBuffers, type FlatBuffers } from './flat_buffers';
import type { ClassFigures } from './metrics';
import { versions } from './run';
import { Trainer, type Reporter } from './trainer';
import { findWeights } from './weights_source';

/** A fine-tuning run ready to start, and what belongs to it. */
export interface OpenFinetune {
  trainer: Trainer;
  built: BuiltClassifier;
  buffers: FlatBuffers;
  data: ReturnType<typeof openLabelledData>;
  /** Pictures left out as broken so far. */
  broken(): string[];
  /** Stops the loader and frees the buffers. */
  close(): Promise<void>;
}

/**
 * Opens data and model of a recipe on the active backend, at the start or at a checkpoint. `out` is the folder of the run.
 * Throws one sentence for whatever does not fit.
 */
export function openFinetune(recipe: FinetuneRecipe, out: string, reporter: Reporter, resume: Checkpoint | null): OpenFinetune {
  const data = openLabelledData(recipe);
  const built = resume ? resumed(recipe, resume, data.train.classes) : fresh(recipe, data.train.classes, reporter);
  const images = { size: built.model.encoder.imageSize, normalisation: built.statistics };
  const source = openTraining(recipe, data.train, images, (_, reason) => reporter.note(`left out: ${reason}`));
  const buffers = flatBuffers(built.parameters, built.groups, recipe.optimizer.weightDecay, { averaged: recipe.optimizer.ema !== null, precision: recipe.train.precision });
  const { resizeRatio, batchSize } = recipe.validation;
  const { workers, maxBrokenShare } = recipe.data;
  const validate = (): Promise<ClassFigures> => withSource(openEvaluation(data.validation, { ...images, resizeRatio, batchSize, workers, maxBrokenShare }), async (held) => {
    const own = await evaluateClassifier(built.model, held);
    const figures = (e: typeof own): Omit<ClassFigures, 'images' | 'ema'> => ({ loss: e.loss, top1: e.top1, top5: e.top5 });
    const averaged = buffers.averages ? { ema: figures(await buffers.withAverages(() => evaluateClassifier(built.model, held))) } : {};
    return { ...figures(own), images: own.images, ...averaged };
  });
  try {
    const task = new ClassifyTask(built.model, recipe.augment, recipe.train.seed);
    const trainer = new Trainer({ recipe, task, buffers, source, validate, out, reporter, versions: versions(), classifier: built.identity, resume });
    const close = async (): Promise<void> => {
      trainer.close();
      await source.close();
      buffers.dispose();
    };
    return { trainer, built, buffers, data, broken: () => source.state().broken, close };
  } catch (error) {
    void source.close();
    buffers.dispose();
    throw error;
  }
}

function fresh(recipe: FinetuneRecipe, names: readonly string[], reporter: Reporter): BuiltClassifier {
  const weights = recipe.init === null ? null : findWeights(recipe.init, { note: (sentence) => reporter.note(sentence) });
  return buildClassifier(recipe, names, weights);
}

/** The checkpoint's classifier, if it is for these classes. */
function resumed(recipe: FinetuneRecipe, { folder, state: { classifier } }: Checkpoint, names: readonly string[]): BuiltClassifier {
  if (!classifier) throw new SimmimError('corrupt', 'finetune', `'${folder}' says nothing of its classifier`);
  checkClasses(classifier.names, names, `'${folder}'`);
  return rebuildClassifier(recipe, classifier);
}

/** Throws `invalid_argument` unless the data has the classes of a classifier, in its order. */
export function checkClasses(known: readonly string[], found: readonly string[], whose: string): void {
  if (known.length === found.length && known.every((name, i) => name === found[i])) return;
  const only = (a: readonly string[], b: readonly string[]): string => a.filter((name) => !b.includes(name)).slice(0, 5).join(', ') || 'none';
  throw new SimmimError('invalid_argument', 'classes', `${whose} tells ${known.length} classes apart, the data has ${found.length}: only in the data ${only(found, known)}; only in the classifier ${only(known, found)}`);
}

/** Uses a source and closes it. */
export async function withSource<T>(source: BatchSource, use: (source: BatchSource) => Promise<T>): Promise<T> {
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}
