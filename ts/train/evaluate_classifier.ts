import * as tf from '@tensorflow/tfjs-core';
import type { BatchSource } from '../data';
import type { Context } from '../nn/context';
import type { Classifier } from '../simmim';
import type { ClassScores } from './metrics';
import { scores } from './scores';

/** How a classifier did on labelled pictures. */
export interface ClassifierEvaluation extends ClassScores {
  images: number;
  /** For each picture, in the set's order, whether the first guess was right. */
  right: boolean[];
  /** [K][K]: pictures of class i that were taken for class j. */
  confusion: number[][];
}

/** Judges a classifier on one pass of `source`; between batches the event loop turns. */
export async function evaluateClassifier(model: Classifier, source: BatchSource): Promise<ClassifierEvaluation> {
  const { classes } = model;
  source.restore({ ...source.state(), epoch: 0, step: 0 });
  const logits: Float32Array[] = [];
  const labels: number[] = [];
  for (let i = 0; i < source.batchesPerEpoch; i++) {
    const batch = await source.next();
    const output = tf.tidy(() => {
      const ctx: Context = { training: false, precision: 'f32', clock: tf.tensor1d([0, 0, 0, 0], 'int32') };
      return model.logits(tf.tensor(batch.images, [batch.files.length, ...source.imageShape], 'float32'), ctx);
    });
    logits.push(await output.data<'float32'>());
    output.dispose();
    labels.push(...(batch.labels ?? []));
  }
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const all = new Float32Array(labels.length * classes);
  logits.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  let loss = 0;
  labels.forEach((label, row) => {
    const own = all.subarray(row * classes, (row + 1) * classes);
    loss += crossEntropy(own, label);
    const taken = own.reduce((best, v, c) => (v > (own[best] as number) ? c : best), 0);
    (confusion[label] as number[])[taken] = ((confusion[label] as number[])[taken] as number) + 1;
  });
  return { loss: loss / labels.length, ...scores(all, Int32Array.from(labels), classes), images: labels.length, confusion };
}

/** -log of the softmax of `logits` at `label`. */
function crossEntropy(logits: Float32Array, label: number): number {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return Math.log(logits.reduce((sum, v) => sum + Math.exp(v - most), 0)) + most - (logits[label] as number);
}
