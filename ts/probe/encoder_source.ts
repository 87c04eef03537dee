import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { SimmimError } from '../errors';
import { IMAGENET } from '../image_statistics';
import { createEncoder, encoderFromConfig, encoderNames, gridsOf, loadPretrained, type Encoder, type KnownSizes, type ModelConfig, type Pair, type Weights } from '../models';
import type { Normalisation } from '../data';
import { namedParameters } from '../nn/module';
import { findWeights } from '../train/weights_source';

export interface EncoderSourceOptions {
  /** Other than the weights': positions are resized as for fine-tuning. */
  imageSize?: number | Pair;
  /** Sizes that a bare file of weights does not tell. */
  known?: KnownSizes;
  /** The same encoder at its random start instead of with its weights: the baseline of every probe. Default false. */
  random?: boolean;
  /** Seed of that start. Default: that of the run, else 0. */
  seed?: number;
  /** Told what was left out or resized, and of damaged checkpoints. */
  note?: (sentence: string) => void;
}

/** An encoder ready to give features. */
export interface EncoderSource {
  encoder: Encoder;
  /** What its images are normalised by. */
  statistics: Normalisation;
  /** For people: where it came from. */
  description: string;
  /** Tells two encoders apart: a digest of all weights and sizes. */
  digest: string;
}

const OP = 'encoder';

/**
 * The encoder of a SimMIM run (its newest checkpoint), of one checkpoint, of anything that `readWeights` reads, or, where
 * `source` is the name of a preset, that preset at its random start. Parameters take memory on the active backend.
 */
export function openEncoder(source: string, options: EncoderSourceOptions = {}): EncoderSource {
  const note = options.note ?? (() => undefined);
  if (!existsSync(source) && encoderNames.includes(source)) {
    const encoder = createEncoder(source, { seed: options.seed ?? 0, ...(options.imageSize === undefined ? {} : { imageSize: options.imageSize }) });
    return finish(encoder, IMAGENET, `${source} at its random start (seed ${options.seed ?? 0})`);
  }
  if (!existsSync(source)) throw new SimmimError('not_found', OP, `'${source}' does not exist: expected a run, a checkpoint, a file of weights, or a preset (${encoderNames.join(', ')})`);
  const weights = findWeights(source, { note, ...(options.known ? { known: options.known } : {}) });
  const { config } = weights;
  const start = options.seed ?? weights.checkpoint?.state.recipe.train.seed ?? 0;
  const encoder = encoderFromConfig({ ...config, encoder: { ...config.encoder, dropPath: 0, seed: start, imageSize: options.imageSize ?? config.encoder.imageSize } } as ModelConfig);
  const statistics = threeChannels(weights);
  if (options.random) return finish(encoder, statistics, `${basename(source)} at its random start (seed ${start})`);
  const report = loadPretrained(namedParameters(encoder), weights.state, gridsOf(encoder, config));
  const lacking = [...report.missing, ...report.mismatched.map((m) => m.name)].filter((name) => name !== 'mask_token'); // nothing is hidden from a probe
  if (lacking.length > 0) throw new SimmimError('corrupt', OP, `'${source}' lacks ${lacking.length} parts of the encoder: ${lacking.slice(0, 5).join(', ')}`);
  if (report.resized.length > 0) note(`${report.resized.length} tables of positions were resized, such as ${report.resized[0]?.name ?? ''}`);
  return finish(encoder, statistics, source);
}

function threeChannels({ statistics }: Weights): Normalisation {
  if (!statistics) return IMAGENET;
  const [mean, std] = [statistics.mean, statistics.std] as unknown as [Normalisation['mean'], Normalisation['std']];
  if (mean.length !== 3) throw new SimmimError('unsupported', OP, `the weights are for images of ${mean.length} channels, pictures have 3`);
  return { mean, std };
}

function finish(encoder: Encoder, statistics: Normalisation, description: string): EncoderSource {
  const hash = createHash('sha256').update(JSON.stringify([encoder.name, encoder.imageSize, encoder.patchSize, statistics]));
  for (const [name, parameter] of namedParameters(encoder)) {
    const values = parameter.value.dataSync() as Float32Array;
    hash.update(name).update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return { encoder, statistics, description, digest: hash.digest('hex') };
}
