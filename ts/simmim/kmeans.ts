import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { Rng } from '../rng';

/** Philox site of the draws of the first centres. */
const SITE = 0x6b6d6e73;
/** Points of one product with all centres, so that its scores stay in the cache. */
const SCORES_AT_ONCE = 2 ** 21;
/** The first centres are drawn from at most this many points for each of them. */
const SEEDS_PER_CENTRE = 32;

/** Settings of {@link kMeans}. */
export interface KMeansOptions {
  /** K. */
  clusters: number;
  seed: number;
  /** At most this many rounds. Default 50. */
  iterations?: number;
  /** Ends when a round lowers the distortion by less than this share. Default 1e-4. */
  tolerance?: number;
  /** Told after each round. */
  onRound?: (round: number, distortion: number) => void;
}

/** What {@link kMeans} found. */
export interface Clusters {
  /** [K, d], in ascending order of their mean value. */
  centres: Float32Array;
  /** Points of each cluster, [K]. */
  counts: Uint32Array;
  /** Mean over the points of the squared distance to the nearest centre. */
  distortion: number;
  rounds: number;
  /** Clusters that ran empty on the way and were started anew. */
  revived: number;
}

/**
 * k-means (Lloyd) from k-means++ centres (Arthur & Vassilvitskii 2007). points [n, d] row-major. Distances are a matrix
 * product on the active backend, sums of clusters are in double precision on the host: the result depends on points and
 * seed alone. A cluster that runs empty starts anew at the point farthest from its centre. Throws `invalid_argument` when
 * there are fewer different points than clusters.
 */
export function kMeans(points: Float32Array, dimension: number, options: KMeansOptions): Clusters {
  const count = checkPoints(points, dimension, options.clusters);
  return lloyd(points, dimension, firstCentres(points, dimension, count, options.clusters, new Rng(options.seed, SITE)), options);
}

/** The rounds of {@link kMeans} from given centres [K, d], which are overwritten. */
export function lloyd(points: Float32Array, dimension: number, centres: Float32Array, { iterations = 50, tolerance = 1e-4, onRound }: Partial<KMeansOptions> = {}): Clusters {
  let revived = 0;
  let state = assign(points, dimension, centres);
  let rounds = 0;
  while (rounds < iterations) {
    const before = state.distortion;
    const started = update(points, dimension, centres, state);
    revived += started;
    state = assign(points, dimension, centres);
    onRound?.(++rounds, state.distortion);
    if (started === 0 && before - state.distortion <= tolerance * before) break;
  }
  const order = byMean(centres, dimension);
  const sorted = new Float32Array(centres.length);
  order.forEach((k, i) => sorted.set(centres.subarray(k * dimension, (k + 1) * dimension), i * dimension));
  return { centres: sorted, counts: Uint32Array.from(order, (k) => state.counts[k] as number), distortion: state.distortion, rounds, revived };
}

/** Mean squared distance of points [n, d] to the nearest of centres [K, d]. */
export function distortionOf(points: Float32Array, dimension: number, centres: Float32Array): number {
  return assign(points, dimension, centres).distortion;
}

function checkPoints(points: Float32Array, dimension: number, clusters: number): number {
  const refuse = (message: string): never => {
    throw new SimmimError('invalid_argument', 'cluster', message);
  };
  const count = points.length / dimension;
  if (!Number.isInteger(dimension) || dimension < 1 || !Number.isInteger(count)) refuse(`${points.length} values are not points of ${dimension} values each`);
  if (!Number.isInteger(clusters) || clusters < 2) refuse(`clusters is ${clusters}, expected a whole number of at least 2`);
  if (count < clusters) refuse(`there are ${count} points, expected at least ${clusters}, one for each cluster`);
  if (!points.every((v) => Number.isFinite(v))) refuse('the points hold values that are not finite');
  return count;
}

function squaredDistance(points: Float32Array, i: number, centres: Float32Array, k: number, dimension: number): number {
  let sum = 0;
  for (let j = 0; j < dimension; j++) sum += ((points[i * dimension + j] as number) - (centres[k * dimension + j] as number)) ** 2;
  return sum;
}

/** Centres drawn from an even choice of the points; from all of them where the choice has too few different values. */
function firstCentres(points: Float32Array, dimension: number, count: number, clusters: number, rng: Rng): Float32Array {
  const some = Math.min(count, clusters * SEEDS_PER_CENTRE);
  const choice = Uint32Array.from({ length: some }, (_, i) => Math.floor((i * count) / some));
  let drawn = drawCentres(points, dimension, choice, clusters, rng);
  if (drawn.found < clusters && some < count) drawn = drawCentres(points, dimension, Uint32Array.from({ length: count }, (_, i) => i), clusters, rng);
  if (drawn.found < clusters) throw new SimmimError('invalid_argument', 'cluster', `the ${count} points have only ${drawn.found} different values, expected at least ${clusters}, one for each cluster`);
  return drawn.centres;
}

/** k-means++: each next centre is a point drawn in proportion to its squared distance to the nearest one so far; ends early when none has any. */
function drawCentres(points: Float32Array, dimension: number, choice: Uint32Array, clusters: number, rng: Rng): { centres: Float32Array; found: number } {
  const centres = new Float32Array(clusters * dimension);
  const nearest = new Float64Array(choice.length).fill(Infinity);
  let next = rng.below(choice.length);
  for (let k = 0; k < clusters; k++) {
    const from = (choice[next] as number) * dimension;
    centres.set(points.subarray(from, from + dimension), k * dimension);
    let total = 0;
    for (let i = 0; i < choice.length; i++) {
      const distance = squaredDistance(points, choice[i] as number, centres, k, dimension);
      if (distance < (nearest[i] as number)) nearest[i] = distance;
      total += nearest[i] as number;
    }
    if (total === 0) return { centres, found: k + 1 };
    next = pick(nearest, total * (rng.uint32() / 2 ** 32));
  }
  return { centres, found: clusters };
}

/** The first index at which the running sum of weights exceeds `at`; never one of weight 0. */
function pick(weights: Float64Array, at: number): number {
  let sum = 0;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] as number;
    if (weight === 0) continue;
    sum += weight;
    last = i;
    if (sum > at) break;
  }
  return last;
}

interface Assignment {
  /** Nearest centre of each point. */
  nearest: Int32Array;
  /** Squared distance to it. */
  distances: Float64Array;
  /** Points of each centre. */
  counts: Uint32Array;
  distortion: number;
}

/** The nearest centre of each point: the largest of 2 x.c - |c|^2. */
function assign(points: Float32Array, dimension: number, centres: Float32Array): Assignment {
  const count = points.length / dimension;
  const clusters = centres.length / dimension;
  const nearest = new Int32Array(count);
  const rows = Math.max(1, Math.floor(SCORES_AT_ONCE / clusters));
  tf.tidy(() => {
    const c = tf.tensor2d(centres, [clusters, dimension]);
    const directions = tf.transpose(tf.mul(c, 2)) as tf.Tensor2D;
    const lengths = tf.sum(tf.square(c), 1);
    for (let from = 0; from < count; from += rows) {
      const part = points.subarray(from * dimension, (from + rows) * dimension);
      tf.tidy(() => {
        const scores = tf.sub(tf.matMul(tf.tensor2d(part, [part.length / dimension, dimension]), directions), lengths);
        nearest.set(tf.argMax(scores, 1).dataSync() as Int32Array, from);
      });
    }
  });
  const distances = new Float64Array(count);
  const counts = new Uint32Array(clusters);
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const k = nearest[i] as number;
    counts[k] = (counts[k] as number) + 1;
    sum += distances[i] = squaredDistance(points, i, centres, k, dimension);
  }
  return { nearest, distances, counts, distortion: sum / count };
}

/** Moves each centre to the mean of its points, those of empty clusters to the farthest points (one after the other); returns how many were empty. */
function update(points: Float32Array, dimension: number, centres: Float32Array, { nearest, distances, counts }: Assignment): number {
  const sums = new Float64Array(centres.length);
  for (let i = 0; i < nearest.length; i++) {
    const to = (nearest[i] as number) * dimension;
    for (let j = 0; j < dimension; j++) sums[to + j] = (sums[to + j] as number) + (points[i * dimension + j] as number);
  }
  const empty: number[] = [];
  counts.forEach((n, k) => {
    if (n === 0) empty.push(k);
    else for (let j = 0; j < dimension; j++) centres[k * dimension + j] = (sums[k * dimension + j] as number) / n;
  });
  if (empty.length === 0) return 0;
  for (const k of empty) {
    const farthest = distances.reduce((best, d, i) => (d > (distances[best] as number) ? i : best), 0);
    centres.set(points.subarray(farthest * dimension, (farthest + 1) * dimension), k * dimension);
    for (let i = 0; i < distances.length; i++) distances[i] = Math.min(distances[i] as number, squaredDistance(points, i, centres, k, dimension));
  }
  return empty.length;
}

/** Cluster numbers in ascending order of the centres' mean value. */
function byMean(centres: Float32Array, dimension: number): number[] {
  const means = Array.from({ length: centres.length / dimension }, (_, k) => centres.subarray(k * dimension, (k + 1) * dimension).reduce((sum, v) => sum + v, 0));
  return means.map((_, k) => k).sort((a, b) => (means[a] as number) - (means[b] as number) || a - b);
}
