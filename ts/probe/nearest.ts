import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { FeatureSet } from './feature_set';
import { forBlocks, unitRows } from './standardise';

export interface NearestOptions {
  /** Neighbours that vote. Default 20. */
  k?: number;
  /** Weighted votes: a neighbour of cosine similarity s counts exp(s / temperature). Default 0.07. */
  temperature?: number;
}

/** Votes [rows, K] for each validation picture. */
export interface NearestVotes {
  /** Weighted by similarity, as DINO's evaluation does. */
  weighted: Float64Array;
  /** One vote each; ties go to the class of the nearer neighbours. */
  plain: Float64Array;
}

/** The k nearest rows seen so far of a block of queries, nearest first. */
interface Best {
  similarity: Float32Array;
  row: Int32Array;
}

const QUERY_ROWS = 1024;

/**
 * k nearest training features by cosine similarity, for each row of `queries`. Similarities are products on the active
 * backend, block by block, so memory does not grow with either set. Throws `invalid_argument` for a k that is larger than the training set.
 */
export function nearestNeighbours(train: FeatureSet, queries: FeatureSet, options: NearestOptions = {}): NearestVotes {
  const { k = 20, temperature = 0.07 } = options;
  const classes = train.classes.length;
  if (!Number.isInteger(k) || k < 1 || k > train.rows) throw new SimmimError('invalid_argument', 'knn', `k is ${k}, expected 1 to ${train.rows}, the number of training pictures`);
  if (!(temperature > 0)) throw new SimmimError('invalid_argument', 'knn', `temperature is ${temperature}, expected above 0`);
  const votes: NearestVotes = { weighted: new Float64Array(queries.rows * classes), plain: new Float64Array(queries.rows * classes) };
  const rows = unitRows(train);
  forBlocks(unitRows(queries), (values, from, count) => {
    const best: Best = { similarity: new Float32Array(count * k).fill(-Infinity), row: new Int32Array(count * k).fill(-1) };
    const query = tf.tensor2d(values, [count, queries.channels]);
    forBlocks(rows, (block, start, size) => merge(best, k, query, tf.tensor2d(block, [size, train.channels]), start));
    query.dispose();
    for (let q = 0; q < count; q++) vote(votes, from + q, best, q, k, train.labels, classes, temperature);
  }, QUERY_ROWS);
  return votes;
}

/** Merges a block of training rows into the best of each query; disposes the block. */
function merge(best: Best, k: number, query: tf.Tensor2D, block: tf.Tensor2D, start: number): void {
  const count = query.shape[0];
  const taken = Math.min(k, block.shape[0]);
  const { values, indices } = tf.tidy(() => tf.topk(tf.matMul(query, block, false, true), taken));
  const [similar, index] = [values.dataSync(), indices.dataSync()];
  tf.dispose([values, indices, block]);
  for (let q = 0; q < count; q++) {
    const candidates = Array.from({ length: k }, (_, i) => ({ s: best.similarity[q * k + i] as number, row: best.row[q * k + i] as number }));
    for (let i = 0; i < taken; i++) candidates.push({ s: similar[q * taken + i] as number, row: start + (index[q * taken + i] as number) });
    candidates.sort((a, b) => b.s - a.s || a.row - b.row);
    for (let i = 0; i < k; i++) {
      best.similarity[q * k + i] = (candidates[i] as { s: number }).s;
      best.row[q * k + i] = (candidates[i] as { row: number }).row;
    }
  }
}

function vote(votes: NearestVotes, at: number, best: Best, q: number, k: number, labels: Int32Array, classes: number, temperature: number): void {
  for (let i = 0; i < k; i++) {
    const label = at * classes + (labels[best.row[q * k + i] as number] as number);
    votes.weighted[label] = (votes.weighted[label] as number) + Math.exp(((best.similarity[q * k + i] as number) - 1) / temperature); // - 1: no overflow; all votes shrink alike
    votes.plain[label] = (votes.plain[label] as number) + 1 + (k - i) / (2 * k * k); // all such parts together stay below one vote
  }
}
