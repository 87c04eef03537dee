/** Features of a whole dataset under a frozen encoder: extracted in one pass, kept on disk, read in blocks. */
import * as tf from '@tensorflow/tfjs-core';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BatchSource } from '../data';
import { SimmimError } from '../errors';
import { forwardLayers, pooled, type Layer, type Pooling } from './layers';
import { readRows, RowWriter } from './row_file';
import type { Encoder } from '../models';

/** Rows of one layer's features [N, C] and the labels that belong to them. */
export interface FeatureSet {
  readonly rows: number;
  readonly channels: number;
  /** Class indices [N]. */
  readonly labels: Int32Array;
  readonly classes: readonly string[];
  /** Rows [from, from + count), row-major. */
  read(from: number, count: number): Float32Array;
}

/** Features in memory, such as those of a test. */
export function featuresInMemory(values: Float32Array, channels: number, labels: Int32Array, classes: readonly string[]): FeatureSet {
  if (values.length !== labels.length * channels) throw new SimmimError('invalid_argument', 'features', `values has ${values.length} numbers, expected ${labels.length * channels} = ${labels.length} rows of ${channels}`);
  return { rows: labels.length, channels, labels, classes, read: (from, count) => values.slice(from * channels, (from + count) * channels) };
}

/** What was extracted: the pictures in row order, and where each layer's rows are. */
export interface Extracted {
  files: string[];
  /** -1 where there is no label. */
  labels: Int32Array;
  classes: readonly string[];
  layers: Layer[];
  /** Pictures left out as broken. */
  broken: string[];
  /** Features of a layer that was asked for. */
  set(layer: Layer): FeatureSet;
}

export interface ExtractOptions {
  pooling?: Pooling;
  /** Format of the files, one for each layer, named after it. Default npy (probes read no other). */
  format?: 'npy' | 'safetensors';
  /** Told after each batch how many pictures are done. */
  onProgress?: (done: number) => void;
}

/**
 * Passes once over `source` (neither shuffled nor augmented, with its last batch) and writes the pooled features
 * [N, C] of each layer to FOLDER/LAYER.npy, with FOLDER/files.csv beside them. Broken pictures are left out. Memory: one
 * batch, whatever N is.
 */
export async function extractFeatures(encoder: Encoder, source: BatchSource, layers: readonly Layer[], folder: string, options: ExtractOptions = {}): Promise<Extracted> {
  const { pooling = 'mean', format = 'npy' } = options;
  const fileOf = (layer: Layer): string => join(folder, `${layer.name}.${format}`);
  const most = source.batchesPerEpoch * source.batchSize;
  makeFolder(folder);
  const writers = layers.map((layer) => new RowWriter(fileOf(layer), [layer.channels], most));
  try {
    const rows = await passOver(source, options.onProgress, (images, keep) => {
      const found = forwardLayers(encoder, images, layers, (output) => pooled(output, pooling));
      layers.forEach((layer, i) => writers[i]?.append(keptRows(found.get(layer.name) as tf.Tensor, keep)));
      tf.dispose([...found.values()]);
    });
    for (const writer of writers) writer.finish();
    const labels = Int32Array.from(rows.labels);
    writeFileSync(join(folder, 'files.csv'), filesCsv(rows.files, labels, source.classes));
    return { ...rows, labels, classes: source.classes, layers: [...layers], set: (layer) => onDisk(fileOf(layer), layer.channels, labels, source.classes) };
  } catch (error) {
    for (const writer of writers) writer.abandon();
    throw error;
  }
}

/** Features that an earlier {@link extractFeatures} left in an .npy file. */
export function onDisk(file: string, channels: number, labels: Int32Array, classes: readonly string[]): FeatureSet {
  return { rows: labels.length, channels, labels, classes, read: (from, count) => readRows(file, channels, from, count) };
}

/** Rows of a batch's tensor [B, ...] that are kept, on the host. */
export function keptRows(values: tf.Tensor, keep: readonly number[]): Float32Array {
  const all = values.dataSync() as Float32Array;
  if (keep.length === values.shape[0]) return all;
  const size = all.length / (values.shape[0] as number);
  const out = new Float32Array(keep.length * size);
  keep.forEach((row, i) => out.set(all.subarray(row * size, (row + 1) * size), i * size));
  return out;
}

/**
 * One pass over a source in its own order: `use` gets each batch's images [B, 3, H, W] and the rows that are what they
 * should be, not stand-ins for broken pictures.
 */
export async function passOver(source: BatchSource, onProgress: ((done: number) => void) | undefined, use: (images: tf.Tensor4D, keep: number[]) => void): Promise<{ files: string[]; labels: number[]; broken: string[] }> {
  const files: string[] = [];
  const labels: number[] = [];
  source.restore({ ...source.state(), epoch: 0, step: 0 });
  for (let step = 0; step < source.batchesPerEpoch; step++) {
    const batch = await source.next();
    const keep = batch.indices.flatMap((index, row) => (index === step * source.batchSize + row ? [row] : []));
    const images = tf.tensor4d(batch.images, [batch.indices.length, ...source.imageShape]);
    use(images, keep);
    images.dispose();
    for (const row of keep) {
      files.push(batch.files[row] as string);
      labels.push(batch.labels?.[row] ?? -1);
    }
    onProgress?.(step * source.batchSize + batch.indices.length);
    await new Promise((resolve) => setImmediate(resolve)); // signals and the loader's messages
  }
  return { files, labels, broken: source.state().broken };
}

/** `file,label` with the label's index and name; fields that need it are quoted. */
export function filesCsv(files: readonly string[], labels: Int32Array, classes: readonly string[]): string {
  const quoted = (text: string): string => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = files.map((file, i) => (classes.length === 0 ? quoted(file) : `${quoted(file)},${labels[i] ?? -1},${quoted(classes[labels[i] ?? -1] ?? '')}`));
  return `${[classes.length === 0 ? 'file' : 'file,index,label', ...rows].join('\n')}\n`;
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new SimmimError('io', 'features', `cannot make the folder '${folder}': ${(error as Error).message}`);
  }
}
