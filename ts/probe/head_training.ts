/** Trains probe heads on a frozen encoder: all heads in the same passes over the data. */
import * as tf from '@tensorflow/tfjs-core';
import { existsSync, readFileSync } from 'node:fs';
import type { BatchSource } from '../data';
import { SimmimError } from '../errors';
import { encodeSafetensors, parseSafetensors, toFloat32, type RawTensor } from '../formats/safetensors';
import { writeWhole } from '../formats/whole_file';
import type { Encoder } from '../models';
import { featuresInMemory, type FeatureSet } from './feature_set';
import type { ProbeHead } from './heads';
import { forwardLayers, pooled, type Layer, type Pooling } from './layers';
import { scores, type Scores } from '../train/scores';
import { forBlocks, RESIDENT_BYTES } from './standardise';

export interface HeadTrainingOptions {
  epochs: number;
  warmupEpochs: number;
  /** Images of one update. */
  batchSize: number;
  pooling: Pooling;
  /** Where the state is kept after each epoch, and continued from. */
  stateFile: string;
  /** What must be the same for a state to be continued: encoder, data and settings. */
  fingerprint: string;
  /** Told after each epoch. */
  onEpoch?: (record: HeadEpoch) => void;
}

/** What an epoch gave, for each head in order. */
export interface HeadEpoch {
  epoch: number;
  /** Mean training loss. */
  loss: number[];
  /** Validation accuracy in percent; null where it was not measured (attentive heads, but for the last epoch). */
  top1: (number | null)[];
}

/** Rows that linear heads normalise together: a GPU's share in MAE's runs. */
const NORM_ROWS = 512;

/** The share of the peak rate at update `u` of `epochs * perEpoch`: linear warm-up from 0, then half a cosine to 0 (MAE `lr_sched.py`). */
export function cosineShare(u: number, perEpoch: number, epochs: number, warmupEpochs: number): number {
  const at = u / perEpoch;
  return at < warmupEpochs ? at / warmupEpochs : 0.5 * (1 + Math.cos((Math.PI * (at - warmupEpochs)) / (epochs - warmupEpochs)));
}

/** The largest number of images at most `most` that divides a batch evenly: what the encoder sees at a time. */
export function microBatch(batchSize: number, most: number): number {
  let size = Math.min(batchSize, most);
  while (batchSize % size !== 0) size--;
  return size;
}

/** Where training images come from: augmented pictures through the encoder, or stored features. */
export interface HeadFeed {
  /** Micro-batches of one epoch, and how many make an update. */
  readonly perEpoch: number;
  readonly perUpdate: number;
  /** The next micro-batch: each layer's features by name (as `reads` of the heads asks), and labels [B]. */
  next(): Promise<{ features: Map<string, { pooled?: tf.Tensor2D; tokens?: tf.Tensor }>; labels: Int32Array }>;
  /** Goes to the start of an epoch. */
  seek(epoch: number): void;
}

/** Augmented pictures, encoded as they come. */
export class EncodingFeed implements HeadFeed {
  readonly perEpoch: number;

  constructor(
    private readonly encoder: Encoder,
    private readonly source: BatchSource,
    private readonly layers: readonly Layer[],
    private readonly heads: readonly ProbeHead[],
    private readonly pooling: Pooling,
    readonly perUpdate: number,
  ) {
    this.perEpoch = source.batchesPerEpoch;
  }

  seek(epoch: number): void {
    this.source.restore({ ...this.source.state(), epoch, step: 0 });
  }

  async next(): Promise<Awaited<ReturnType<HeadFeed['next']>>> {
    const batch = await this.source.next();
    const images = tf.tensor4d(batch.images, [batch.indices.length, ...this.source.imageShape]);
    const kept = (kind: ProbeHead['reads'], { name }: Layer): boolean => this.heads.some((head) => head.reads === kind && head.layer.name === name);
    const features = new Map<string, { pooled?: tf.Tensor2D; tokens?: tf.Tensor }>();
    const found = forwardLayers(this.encoder, images, this.layers, (output, layer) => {
      features.set(layer.name, kept('tokens', layer) ? { tokens: tf.keep(output.clone()) } : {});
      return pooled(output, this.pooling);
    });
    for (const [name, vector] of found) features.set(name, { ...features.get(name), pooled: vector });
    images.dispose();
    return { features, labels: batch.labels ?? new Int32Array(0) };
  }
}

/** The set in memory where it fits: its rows are asked for one by one. */
function readAhead(set: FeatureSet): FeatureSet {
  if (set.rows * set.channels * 4 > RESIDENT_BYTES) return set;
  return featuresInMemory(set.read(0, set.rows), set.channels, set.labels, set.classes);
}

/** Un-augmented features extracted before, in an order of their own for each epoch. */
export class StoredFeed implements HeadFeed {
  readonly perEpoch: number;
  private readonly sets: ReadonlyMap<string, FeatureSet>;
  private rows: Uint32Array;
  private step = 0;

  constructor(
    sets: ReadonlyMap<string, FeatureSet>,
    private readonly size: number,
    readonly perUpdate: number,
    private readonly order: (epoch: number) => Uint32Array,
  ) {
    this.sets = new Map([...sets].map(([name, set]) => [name, readAhead(set)]));
    this.rows = order(0);
    this.perEpoch = Math.floor(this.rows.length / size);
  }

  seek(epoch: number): void {
    this.rows = this.order(epoch);
    this.step = 0;
  }

  next(): Promise<Awaited<ReturnType<HeadFeed['next']>>> {
    const rows = this.rows.subarray(this.step * this.size, (this.step + 1) * this.size);
    this.step++;
    const features = new Map([...this.sets].map(([name, set]) => {
      const values = new Float32Array(rows.length * set.channels);
      rows.forEach((row, i) => values.set(set.read(row, 1), i * set.channels));
      return [name, { pooled: tf.tensor2d(values, [rows.length, set.channels]) }] as const;
    }));
    const labels = [...this.sets.values()][0]?.labels ?? new Int32Array(0);
    return Promise.resolve({ features, labels: Int32Array.from(rows, (row) => labels[row] as number) });
  }
}

/**
 * Trains the heads to the end, from the newest whole epoch of an earlier start where there is one. Returns each head's
 * validation scores and the curves. `validate` gives a head's scores.
 */
export async function trainHeads(heads: readonly ProbeHead[], feed: HeadFeed, classes: number, validate: (head: ProbeHead) => Promise<Scores>, options: HeadTrainingOptions): Promise<{ scores: Scores[]; curve: HeadEpoch[] }> {
  const { epochs, warmupEpochs, batchSize } = options;
  const updates = Math.floor(feed.perEpoch / feed.perUpdate);
  if (updates < 1) throw new SimmimError('invalid_argument', 'probe', `an update takes ${batchSize} pictures, an epoch has fewer: use a smaller batch size`);
  const curve = restore(heads, options);
  let last: Scores[] = [];
  for (let epoch = curve.length; epoch < epochs; epoch++) {
    feed.seek(epoch);
    const loss = heads.map(() => 0);
    for (let update = 0; update < updates; update++) {
      await oneUpdate(heads, feed, classes, batchSize, loss);
      const u = epoch * updates + update;
      for (const head of heads) head.update(cosineShare(u, updates, epochs, warmupEpochs), u + 1);
    }
    const final = epoch + 1 === epochs;
    last = [];
    const top1: (number | null)[] = [];
    for (const head of heads) {
      const found = final || head.reads === 'pooled' ? await validate(head) : null;
      if (found) last.push(found);
      top1.push(found?.top1 ?? null);
    }
    const record = { epoch, loss: loss.map((sum) => sum / (updates * batchSize)), top1 };
    curve.push(record);
    save(heads, curve, options);
    options.onEpoch?.(record);
  }
  if (last.length < heads.length) last = await inTurn(heads, validate);
  return { scores: last, curve };
}

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}

/** Gathers the gradients of one update and adds each head's summed loss to `loss`. */
async function oneUpdate(heads: readonly ProbeHead[], feed: HeadFeed, classes: number, batchSize: number, loss: number[]): Promise<void> {
  const waiting = new Map<string, tf.Tensor2D[]>(); // pooled features of images that are not normalised yet
  let labels: number[] = [];
  const flush = (): void => {
    const targets = oneHot(labels, classes);
    heads.forEach((head, i) => {
      if (head.reads !== 'pooled') return;
      const parts = waiting.get(head.layer.name) as tf.Tensor2D[];
      const rows = parts.length === 1 ? (parts[0] as tf.Tensor2D).clone() : tf.concat2d(parts, 0);
      loss[i] = (loss[i] as number) + head.accumulate(rows, targets, labels.length / batchSize);
      rows.dispose();
    });
    tf.dispose([targets, ...[...waiting.values()].flat()]);
    waiting.clear();
    labels = [];
  };
  for (let micro = 0; micro < feed.perUpdate; micro++) {
    const { features, labels: own } = await feed.next();
    const targets = oneHot([...own], classes);
    heads.forEach((head, i) => {
      const tokens = head.reads === 'tokens' ? features.get(head.layer.name)?.tokens : undefined;
      if (tokens) loss[i] = (loss[i] as number) + head.accumulate(tokens, targets, own.length / batchSize);
    });
    targets.dispose();
    for (const [name, { pooled: vector, tokens }] of features) {
      tokens?.dispose();
      if (vector) waiting.set(name, [...(waiting.get(name) ?? []), vector]);
    }
    labels.push(...own);
    if (labels.length >= NORM_ROWS || micro + 1 === feed.perUpdate) flush();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function oneHot(labels: readonly number[], classes: number): tf.Tensor2D {
  return tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d(labels as number[], 'int32'), classes), 'float32')) as tf.Tensor2D;
}

/** Scores of a head that reads pooled features, on a set of them. */
export function scoreFeatures(head: ProbeHead, set: FeatureSet): Scores {
  const classes = set.classes.length;
  const outputs = new Float32Array(set.rows * classes);
  forBlocks(set, (values, from, count) => {
    const features = tf.tensor2d(values, [count, set.channels]);
    const logits = head.logits(features);
    outputs.set(logits.dataSync(), from * classes);
    tf.dispose([features, logits]);
  });
  return scores(outputs, set.labels, classes);
}

// ---- the state after whole epochs

function save(heads: readonly ProbeHead[], curve: HeadEpoch[], { stateFile, fingerprint }: HeadTrainingOptions): void {
  const tensors = heads.flatMap((head, i) => [...head.state()].map(([name, values]): [string, RawTensor] => [`${i}/${name}`, { dtype: 'F32', shape: [values.length], data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }]));
  writeWhole(stateFile, 'probe', encodeSafetensors(tensors, { fingerprint, curve: JSON.stringify(curve) }));
}

/** The curve so far, after setting the heads to where it ended; empty where there is no state of the same training. */
function restore(heads: readonly ProbeHead[], { stateFile, fingerprint }: HeadTrainingOptions): HeadEpoch[] {
  if (!existsSync(stateFile)) return [];
  const { tensors, metadata } = parseSafetensors(readFileSync(stateFile), stateFile);
  if (metadata.fingerprint !== fingerprint) return [];
  heads.forEach((head, i) => {
    const prefix = `${i}/`;
    head.restore(new Map([...tensors].filter(([name]) => name.startsWith(prefix)).map(([name, tensor]) => [name.slice(prefix.length), toFloat32(tensor, name)])));
  });
  return JSON.parse(metadata.curve ?? '[]') as HeadEpoch[];
}
