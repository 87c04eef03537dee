import * as tf from '@tensorflow/tfjs-core';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { findSplits, openDataset, openPipeline, type BatchSource, type ImageDataset, usualResizeRatio } from '../data';
import { featurePyramid, pyramidLevels, type PyramidOptions } from '../models';
import { unknownName } from '../models/options';
import { chooseLayers, extractFeatures, filesCsv, keptRows, passOver, RowWriter, type EncoderSource, type Pooling } from '../probe';
import { numberList, positiveNumber, wholeNumber, wholeOrZero } from './arguments';
import { useBackend } from './backend';
import { addEncoderOptions, encoderOf, ENCODER_HELP, type EncoderOptions } from './encoder_options';
import { writeWhole } from '../formats/whole_file';
import { counter } from './progress';

/** Options of `simmim features`. */
interface Options extends EncoderOptions {
  data: string;
  out: string;
  layers: string;
  pooling: string;
  multiScale?: boolean;
  levels?: number[];
  resample?: boolean;
  format: string;
  batchSize: number;
  resizeRatio?: number;
  workers?: number;
  backend: string;
}

const FORMATS = ['npy', 'safetensors'] as const;

/** Adds `simmim features` to the command line. */
export function registerFeatures(cli: Command, print: (line: string) => void): Command {
  const command = cli
    .command('features <encoder>')
    .description(`write a frozen encoder's features of pictures, a file for each layer, with names and labels in files.csv; ${ENCODER_HELP}`)
    .requiredOption('--data <data>', 'pictures, labelled or not; train and val parts go to OUT/train and OUT/val')
    .requiredOption('--out <folder>', 'where the files go')
    .option('--layers <list>', 'all, last, or block numbers from 1 and names with commas, such as 8,norm', 'last')
    .option('--pooling <kind>', "mean of the patch tokens, or cls: a ViT's class token", 'mean')
    .option('--multi-scale', 'maps [N, h, w, C] of every stage (a ViT: of four blocks) instead of pooled vectors')
    .option('--levels <list>', 'multi-scale: stages or blocks from 0', numberList)
    .option('--resample', "multi-scale: a ViT's four maps at strides 4 to 32 (for patches of 16 px)")
    .option('--format <format>', FORMATS.join(' or '), 'npy')
    .option('--batch-size <n>', 'pictures at a time', wholeNumber, 64)
    .option('--resize-ratio <r>', 'resize to r times the image size before the central crop (default: 256/224; up to 32 px: 1)', positiveNumber)
    .option('--workers <n>', 'loader threads', wholeOrZero)
    .option('--backend <name>', "tfjs backend: simmim-cpu, or tfjs's own slow 'cpu' for comparison", 'simmim-cpu');
  return addEncoderOptions(command).action((encoder: string, options: Options) => features(encoder, options, print));
}

/** `simmim features ENCODER --data DATA --out OUT`. */
async function features(source: string, options: Options, print: (line: string) => void): Promise<void> {
  if (options.pooling !== 'mean' && options.pooling !== 'cls') unknownName('features', 'pooling', options.pooling, ['mean', 'cls']);
  if (!FORMATS.some((f) => f === options.format)) unknownName('features', 'format', options.format, FORMATS);
  const splits = findSplits(options.data);
  const train = openDataset(splits.train);
  const parts: [ImageDataset, string][] = [[train, splits.val === null ? options.out : join(options.out, 'train')]];
  if (splits.val !== null) parts.push([openDataset(splits.val, train.classes.length > 0 ? { classes: train.classes } : {}), join(options.out, 'val')]);
  await useBackend(options.backend);
  const encoder = encoderOf(source, options, options.random ?? false, print);
  for (const [set, folder] of parts) {
    const pictures = openPictures(set, encoder, options);
    try {
      print(`${encoder.description}: ${await writeFeatures(encoder, set, pictures, folder, options)}`);
    } finally {
      await pictures.close();
    }
  }
}

function openPictures(set: ImageDataset, { encoder, statistics }: EncoderSource, { batchSize, resizeRatio, workers }: Options): BatchSource {
  return openPipeline(set, {
    batchSize: Math.min(batchSize, set.length), seed: 0, shuffle: false, dropLast: false, ...(workers === undefined ? {} : { workers }),
    transform: { size: encoder.imageSize, normalisation: statistics, crop: 'center', resizeRatio: resizeRatio ?? usualResizeRatio(encoder.imageSize) },
  });
}

/** Writes one part; returns what was written, in words. */
async function writeFeatures({ encoder }: EncoderSource, set: ImageDataset, pictures: BatchSource, folder: string, options: Options): Promise<string> {
  const count = counter('features of', set.length, process.stderr);
  const format = options.format as (typeof FORMATS)[number];
  const left = (broken: readonly string[]): string => (broken.length === 0 ? '' : `; ${broken.length} broken pictures left out, the first being '${broken[0] ?? ''}'`);
  if (options.multiScale) {
    const pyramid: PyramidOptions = { resample: options.resample ?? false, ...(options.levels === undefined ? {} : { levels: options.levels }) };
    const { files, broken, shapes } = await writeMaps(encoder, pictures, folder, pyramid, format, count.at);
    count.end();
    return `maps ${shapes.join(', ')} of ${files} pictures in '${folder}'${left(broken)}`;
  }
  const layers = chooseLayers(encoder, options.layers);
  const found = await extractFeatures(encoder, pictures, layers, folder, { pooling: options.pooling as Pooling, format, onProgress: count.at });
  count.end();
  return `${layers.map((l) => `${l.name} [${found.files.length}, ${l.channels}]`).join(', ')} in '${folder}'${left(found.broken)}`;
}

async function writeMaps(encoder: EncoderSource['encoder'], pictures: BatchSource, folder: string, pyramid: PyramidOptions, format: string, onProgress: (done: number) => void): Promise<{ files: number; broken: string[]; shapes: string[] }> {
  const levels = pyramidLevels(encoder, pyramid);
  mkdirSync(folder, { recursive: true });
  const most = pictures.batchesPerEpoch * pictures.batchSize;
  const writers = levels.map((level, i) => new RowWriter(join(folder, `level${i}_stride${level.stride}.${format}`), [...level.size, level.channels], most));
  try {
    const clock = tf.tensor1d(new Int32Array(4), 'int32');
    const { files, labels, broken } = await passOver(pictures, onProgress, (images, keep) => {
      const maps = featurePyramid(encoder, images, { training: false, precision: 'f32', clock }, pyramid);
      maps.forEach((map, i) => writers[i]?.append(keptRows(map, keep)));
      tf.dispose(maps);
    });
    clock.dispose();
    for (const writer of writers) writer.finish();
    writeWhole(join(folder, 'files.csv'), 'features', filesCsv(files, Int32Array.from(labels), pictures.classes));
    return { files: files.length, broken, shapes: levels.map((l) => `[${files.length}, ${l.size.join(', ')}, ${l.channels}] (${l.name}, stride ${l.stride})`) };
  } finally {
    for (const writer of writers) writer.abandon();
  }
}
