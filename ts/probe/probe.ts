/** Every probe of one frozen encoder on one labelled dataset: `simmim probe`. */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openPipeline, Sampler, type BatchSource, type ImageDataset, type TransformOptions, usualResizeRatio } from '../data';
import { SimmimError } from '../errors';
import type { EncoderSource } from './encoder_source';
import { extractFeatures, onDisk, passOver, keptRows, type Extracted, type FeatureSet } from './feature_set';
import { AttentiveHead, LinearHead, type ProbeHead } from './heads';
import { EncodingFeed, microBatch, scoreFeatures, StoredFeed, trainHeads, type HeadEpoch } from './head_training';
import { chooseLayers, forwardLayers, type Layer, type Pooling } from './layers';
import { logisticRegression, type LogisticOptions } from './logistic';
import { nearestNeighbours, type NearestOptions } from './nearest';
import { scores, type Scores } from '../train/scores';

/** The protocols, cheapest first. */
export const PROBE_METHODS = ['knn', 'logistic', 'linear', 'attentive'] as const;
export type ProbeMethod = (typeof PROBE_METHODS)[number];

/** Settings of the probes that are trained in epochs; the defaults are MAE's linear probe (`main_linprobe.py`). */
export interface TrainedProbeOptions {
  /** Default 90. */
  epochs?: number;
  /** Default 10, at most a ninth of the epochs when they are fewer. */
  warmupEpochs?: number;
  /**
   * Images of one update. Default: a power of two with about as many updates an epoch as MAE has on ImageNet (78), at most
   * 16384, MAE's own.
   */
  batchSize?: number;
  /**
   * Linear: peak rate of LARS. Default 0.1 * batchSize / 256; where the batch size is left to its default, 6.4, which is that of
   * MAE's batch: a small set then has MAE's number of updates at MAE's rate, instead of one that is a hundred times lower.
   */
  linearLr?: number;
  /** Attentive: peak rate of AdamW. Default 1e-3 * batchSize / 256. */
  attentiveLr?: number;
  /** RandomResizedCrop and flip in every epoch, so the encoder runs in every epoch; false trains on the features of the pictures as they are. Default true. */
  augment?: boolean;
}

export interface ProbeOptions {
  /** Default knn and logistic. */
  methods?: readonly ProbeMethod[];
  /** See `chooseLayers`. Default all. */
  layers?: string;
  /** Default mean of the patch tokens. */
  pooling?: Pooling;
  /** Evaluation: the shorter side becomes int(ratio * size) before the central crop. Default 256 / 224, and 1 up to 32 px, as the official code. */
  resizeRatio?: number;
  knn?: NearestOptions;
  logistic?: LogisticOptions;
  trained?: TrainedProbeOptions;
  /** Order, augmentation and starting values of trained probes. Default 0. */
  seed?: number;
  /** Loader threads. */
  workers?: number;
  /** Images that the encoder sees at a time. Default 64. */
  encoderBatch?: number;
  /** Working folder: features and states of training, for starting again where it ended. */
  folder: string;
  /** Keep the features after the end. Default false. */
  keepFeatures?: boolean;
  reporter?: ProbeReporter;
}

/** Hears how far a probe is. */
export interface ProbeReporter {
  extracting(what: string, done: number, total: number): void;
  epoch(record: HeadEpoch, epochs: number, heads: readonly ProbeHead[]): void;
  result(result: ProbeResult): void;
}

/** One protocol on one layer. */
export interface ProbeResult {
  /** `knn` has weighted votes, `knn_plain` equal ones. */
  method: ProbeMethod | 'knn_plain';
  layer: Layer;
  top1: number;
  top5: number | null;
  /** One digit for each validation picture: 1 where it is right. */
  right: string;
  /** How a fit ended (logistic): the gradient's norm, and whether it is as small as asked. */
  fit?: { gradientNorm: number; iterations: number; converged: boolean; trainLoss: number };
  /** Validation top-1 after each epoch (trained probes). */
  curve?: (number | null)[];
}

export interface ProbeReport {
  encoder: string;
  digest: string;
  train: { source: string; pictures: number };
  validation: { source: string; pictures: number };
  classes: readonly string[];
  pooling: Pooling;
  /** Pictures that could not be read and were left out. */
  broken: string[];
  results: ProbeResult[];
}

type Settled = Required<Omit<ProbeOptions, 'knn' | 'logistic' | 'trained' | 'reporter' | 'workers'>> & Pick<ProbeOptions, 'knn' | 'logistic' | 'trained' | 'reporter' | 'workers'>;

/**
 * Runs the wanted protocols on the wanted layers. Pooled features of both sets are extracted once, in one pass for all
 * layers; trained probes pass over the training set in every epoch, all layers together. Started again with the same
 * arguments it goes on from what is in `folder`. Throws `invalid_argument` in one sentence for what does not fit.
 */
export async function runProbe(source: EncoderSource, train: ImageDataset, validation: ImageDataset, options: ProbeOptions): Promise<ProbeReport> {
  const o: Settled = { methods: ['knn', 'logistic'], layers: 'all', pooling: 'mean', resizeRatio: usualResizeRatio(source.encoder.imageSize), seed: 0, encoderBatch: 64, keepFeatures: false, ...options };
  const job = new ProbeJob(source, train, validation, o);
  return job.run();
}

class ProbeJob {
  private readonly layers: Layer[];
  private readonly results: ProbeResult[] = [];

  constructor(
    private readonly source: EncoderSource,
    private readonly train: ImageDataset,
    private readonly validation: ImageDataset,
    private readonly o: Settled,
  ) {
    this.layers = chooseLayers(source.encoder, o.layers);
  }

  async run(): Promise<ProbeReport> {
    const { o, source } = this;
    const [train, validation] = [await this.features('train', this.train), await this.features('validation', this.validation)];
    for (const layer of this.layers) this.closedForm(layer, train.set(layer), validation.set(layer));
    await this.trained(train, validation);
    const side = (set: ImageDataset, found: Extracted): ProbeReport['train'] => ({ source: set.source, pictures: found.files.length });
    if (!o.keepFeatures) rmSync(join(o.folder, 'features'), { recursive: true, force: true });
    return {
      encoder: source.description, digest: source.digest, train: side(this.train, train), validation: side(this.validation, validation),
      classes: this.train.classes, pooling: o.pooling, broken: [...train.broken, ...validation.broken], results: this.results,
    };
  }

  /** Protocols that look at all features at once. */
  private closedForm(layer: Layer, train: FeatureSet, validation: FeatureSet): void {
    const { methods } = this.o;
    const judged = (outputs: ArrayLike<number>): Scores => scores(outputs, validation.labels, validation.classes.length);
    if (methods.includes('knn')) {
      const { weighted, plain } = nearestNeighbours(train, validation, this.o.knn);
      this.add('knn', layer, judged(weighted));
      this.add('knn_plain', layer, judged(plain));
    }
    if (methods.includes('logistic')) {
      const { logits, fit } = logisticRegression(train, this.o.logistic);
      const { gradientNorm, iterations, converged, value } = fit;
      this.add('logistic', layer, judged(logits(validation)), { fit: { gradientNorm, iterations, converged, trainLoss: value } });
    }
  }

  private add(method: ProbeResult['method'], layer: Layer, { top1, top5, right }: Scores, more: Pick<ProbeResult, 'fit' | 'curve'> = {}): void {
    const result = { method, layer, top1, top5, right: right.map(Number).join(''), ...more };
    this.results.push(result);
    this.o.reporter?.result(result);
  }

  /** Linear and attentive heads of all layers, trained together. */
  private async trained(train: Extracted, validation: Extracted): Promise<void> {
    const wanted = this.o.methods.filter((m) => m === 'linear' || m === 'attentive');
    if (wanted.length === 0) return;
    const { augment = true, epochs = 90 } = this.o.trained ?? {};
    const { warmupEpochs = Math.min(10, epochs / 9), batchSize = usualBatch(this.train.length) } = this.o.trained ?? {};
    if (!augment && wanted.includes('attentive')) throw new SimmimError('invalid_argument', 'probe', 'the attentive probe reads all tokens, which are not stored: it is trained with augmentation only');
    const { linearLr = (0.1 * (this.o.trained?.batchSize ?? MAE_BATCH)) / 256, attentiveLr = (1e-3 * batchSize) / 256 } = this.o.trained ?? {};
    const heads = this.heads(wanted, linearLr, attentiveLr);
    const micro = microBatch(batchSize, this.o.encoderBatch);
    const opened = augment ? openPipeline(this.train, { ...this.loader(), batchSize: micro, transform: { ...this.sizes(), crop: 'random', interpolation: 'bicubic', scale: [0.08, 1], ratio: [3 / 4, 4 / 3], flip: 0.5 } }) : null;
    const sampler = new Sampler({ length: train.files.length, batchSize: micro, seed: this.o.seed });
    const feed = opened ? new EncodingFeed(this.source.encoder, opened, this.layers, heads, this.o.pooling, batchSize / micro)
      : new StoredFeed(new Map(this.layers.map((l) => [l.name, train.set(l)])), micro, batchSize / micro, (epoch) => orderOf(sampler, epoch));
    try {
      const fingerprint = this.digest([this.train, this.validation], { wanted, epochs, warmupEpochs, batchSize, linearLr, attentiveLr, augment, seed: this.o.seed, pooling: this.o.pooling });
      const { scores: found, curve } = await trainHeads(heads, feed, this.train.classes.length, (head) => this.judge(head, validation), {
        epochs, warmupEpochs, batchSize, pooling: this.o.pooling, stateFile: join(this.o.folder, 'heads.safetensors'), fingerprint, onEpoch: (record) => this.o.reporter?.epoch(record, epochs, heads),
      });
      heads.forEach((head, i) => this.add(head.kind, head.layer, found[i] as Scores, { curve: curve.map((record) => record.top1[i] ?? null) }));
    } finally {
      await opened?.close();
      for (const head of heads) head.dispose();
    }
  }

  private heads(wanted: readonly ProbeMethod[], linearLr: number, attentiveLr: number): ProbeHead[] {
    const classes = this.train.classes.length;
    return wanted.flatMap((kind) => this.layers.map((layer) => (kind === 'linear' ? new LinearHead(layer, classes, linearLr, 0, this.o.seed) : new AttentiveHead(layer, classes, attentiveLr, 0.05, this.o.seed))));
  }

  private async judge(head: ProbeHead, validation: Extracted): Promise<Scores> {
    if (head.reads === 'pooled') return scoreFeatures(head, validation.set(head.layer));
    const outputs: number[] = [];
    await this.over(this.validation, undefined, (images, keep) => {
      const logits = forwardLayers(this.source.encoder, images, [head.layer], (output) => head.logits(output));
      for (const value of keptRows(logits.get(head.layer.name) as tf.Tensor, keep)) outputs.push(value);
      tf.dispose([...logits.values()]);
    });
    return scores(outputs, validation.labels, this.validation.classes.length);
  }

  private loader(): { seed: number; workers?: number } {
    return { seed: this.o.seed, ...(this.o.workers === undefined ? {} : { workers: this.o.workers }) };
  }

  private sizes(): Pick<TransformOptions, 'size' | 'normalisation'> {
    return { size: this.source.encoder.imageSize, normalisation: this.source.statistics };
  }

  /** One pass over pictures as they are evaluated. */
  private async over(set: ImageDataset, onProgress: ((done: number) => void) | undefined, use: (images: tf.Tensor4D, keep: number[]) => void): Promise<ReturnType<typeof passOver>> {
    const source = this.open(set);
    try {
      return await passOver(source, onProgress, use);
    } finally {
      await source.close();
    }
  }

  private open(set: ImageDataset): BatchSource {
    return openPipeline(set, { ...this.loader(), batchSize: Math.min(this.o.encoderBatch, set.length), shuffle: false, dropLast: false, transform: { ...this.sizes(), crop: 'center', resizeRatio: this.o.resizeRatio } });
  }

  /** The pooled features of a set: those of an earlier start with the same encoder and pictures, or fresh ones. */
  private async features(part: string, set: ImageDataset): Promise<Extracted> {
    const folder = join(this.o.folder, 'features', part);
    const manifest = join(folder, 'manifest.json');
    const fingerprint = this.digest([set], { resizeRatio: this.o.resizeRatio, pooling: this.o.pooling });
    const stored = existsSync(manifest) ? (JSON.parse(readFileSync(manifest, 'utf8')) as { fingerprint: string; files: string[]; labels: number[]; broken: string[] }) : null;
    if (stored?.fingerprint === fingerprint) {
      const labels = Int32Array.from(stored.labels);
      return { ...stored, labels, classes: set.classes, layers: this.layers, set: (layer) => onDisk(join(folder, `${layer.name}.npy`), layer.channels, labels, set.classes) };
    }
    const source = this.open(set);
    try {
      const found = await extractFeatures(this.source.encoder, source, this.layers, folder, { pooling: this.o.pooling, onProgress: (done) => this.o.reporter?.extracting(part, done, set.length) });
      writeFileSync(manifest, JSON.stringify({ fingerprint, files: found.files, labels: [...found.labels], broken: found.broken }));
      return found;
    } finally {
      await source.close();
    }
  }

  private digest(sets: readonly ImageDataset[], settings: object): string {
    const hash = createHash('sha256').update(JSON.stringify([this.source.digest, this.layers.map((l) => l.name), settings]));
    for (const set of sets) for (const { name, label } of set.samples) hash.update(`${name}\n${label}\n`);
    return hash.digest('hex');
  }
}

/** Images of an update of MAE's linear probe (its FINETUNE.md: 32 GPUs of 512). */
const MAE_BATCH = 16384;

/** A power of two with about 78 updates in an epoch of n pictures, as MAE has on ImageNet; 16 to 16384. */
export function usualBatch(n: number): number {
  return Math.min(MAE_BATCH, Math.max(16, 2 ** Math.floor(Math.log2(Math.max(1, n / 64)))));
}

function orderOf(sampler: Sampler, epoch: number): Uint32Array {
  return Uint32Array.from(Array.from({ length: sampler.batchesPerEpoch }, (_, step) => sampler.batch(epoch, step)).flat(), ({ index }) => index);
}
