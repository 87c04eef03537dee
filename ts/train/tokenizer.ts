import * as tf from '@tensorflow/tfjs-core';
import type { Batch, BatchSource } from '../data';
import { SimmimError } from '../errors';
import { fromFloat32, type RawTensor } from '../formats/raw_tensor';
import { namedParameters } from '../nn/module';
import { philox } from '../rng';
import { Dvae, type DvaeSizes } from '../simmim';
import { flatBuffers, type FlatBuffers } from './flat_buffers';
import { pretrainGroups } from './param_groups';
import { imageSizeOf, statisticsOf, type Recipe } from './recipe';
import { openRunData } from './run_data';
import { learningRate, makeSchedule } from './schedule';
import { type HostBatch, TrainingStep } from './step';
import { StepState } from './step_state';

/** How a dVAE is trained. */
export interface TokenizerOptions extends DvaeSizes {
  /** Updates of the run. */
  updates: number;
  /** Images of one update. */
  batch: number;
  /** Highest learning rate (AdamW, cosine after a linear warm-up over a twentieth of the updates). */
  lr: number;
  /** Weight of the divergence of the tokens' law from the uniform one. */
  kl: number;
  seed: number;
}

/** What a dVAE makes of pictures it was not trained on, each token the best one. */
export interface TokenizerFigures {
  images: number;
  /** Mean squared error per value in 0..1. */
  error: number;
  /** The same of the images' mean colour, which is all that a single token could say. */
  constantError: number;
  /** Different tokens that occur. */
  used: number;
  /** exp of the entropy of the tokens' frequencies: as many equally frequent tokens would have it. */
  perplexity: number;
}

/** A trained dVAE. */
export interface TrainedTokenizer {
  dvae: Dvae;
  /** Its weights by name, for a file. */
  state: Map<string, RawTensor>;
  /** Updates done: fewer than asked for when it was stopped. */
  updates: number;
  /** Mean loss of the last tenth of the updates, in nats per value. */
  loss: number;
  dispose(): void;
}

/** The sample's temperature falls from the first to the second, by the same factor at every update (DALL-E: from 1 to 1/16). */
const TEMPERATURE = [1, 1 / 16] as const;
const CLIP = 1;
const WEIGHT_DECAY = 1e-4;
const WARMUP_SHARE = 0.05;
/** Philox site of the Gumbel noise. */
const SITE = 0x67756d62;

/** Numbers strictly between 0 and 1, of (seed, update) alone. */
function uniformNoise(count: number, seed: number, update: number): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 4) {
    const words = philox(seed, SITE, update, i / 4);
    for (let lane = 0; lane < 4 && i + lane < count; lane++) values[i + lane] = (((words[lane] as number) >>> 9) + 0.5) / 8388608;
  }
  return values;
}

/**
 * Trains a dVAE on a recipe's pictures, cropped and flipped as in pre-training. A function of recipe, options and
 * data; `stop` asked after each update ends it early. Throws `invalid_argument` for sizes that do not fit.
 */
export async function trainTokenizer(recipe: Recipe, options: TokenizerOptions, onUpdate: (update: number, loss: number, lr: number) => void, stop: () => boolean = () => false): Promise<TrainedTokenizer> {
  const { updates, batch, seed, kl } = options;
  const [height, width] = imageSizeOf(recipe);
  const dvae = Dvae.create(options, statisticsOf(recipe), seed);
  if (height % dvae.patch !== 0 || width % dvae.patch !== 0) throw new SimmimError('invalid_argument', 'tokenizer', `cells of ${dvae.patch} px do not tile an image of ${height} x ${width}`);
  const data = openRunData({ ...recipe, data: { ...recipe.data, samplesPerEpoch: updates * batch }, train: { ...recipe.train, seed, batchSize: batch } });
  const parameters = namedParameters({ encoder: dvae.encoder, decoder: dvae.decoder });
  const buffers = flatBuffers(parameters, pretrainGroups([...parameters].map(([name, { shape }]) => ({ name, shape })), WEIGHT_DECAY), WEIGHT_DECAY);
  const state = new StepState(seed);
  const step = new TrainingStep({ loss: ({ images, uniform, temperature }) => dvae.loss(images as tf.Tensor, uniform as tf.Tensor, temperature as tf.Tensor, kl) }, buffers, state, {
    accumulation: 1, clip: CLIP, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: WEIGHT_DECAY,
  });
  const schedule = makeSchedule({ name: 'cosine', steps: updates, warmupSteps: Math.round(WARMUP_SHARE * updates), minLr: options.lr / 100, warmupPrefix: true });
  const source = data.openTrain(() => undefined);
  const last: number[] = [];
  let update = 0;
  try {
    while (update < updates && !(update > 0 && stop())) {
      const lr = learningRate(schedule, options.lr, update);
      state.writeClock(update, 0);
      await step.begin();
      await step.micro(inputsOf(await source.next(), [height, width], dvae, options, update)).done;
      const { loss, applied } = await step.apply(Math.max(lr, Number.MIN_VALUE), update + 1);
      if (!applied) throw new SimmimError('non_finite', 'tokenizer', `the loss of update ${update + 1} or its gradient is not finite: take a smaller learning rate than ${options.lr}`);
      update++;
      last.push(loss);
      if (last.length > Math.max(1, Math.floor(updates / 10))) last.shift();
      onUpdate(update, loss, lr);
    }
  } finally {
    await source.close();
    step.dispose();
    state.dispose();
  }
  return { dvae, state: stateOf(buffers), updates: update, loss: last.reduce((a, b) => a + b, 0) / last.length, dispose: () => buffers.dispose() };
}

function inputsOf({ images, files }: Batch, [height, width]: readonly [number, number], { patch, size }: Dvae, { updates, seed }: TokenizerOptions, update: number): HostBatch {
  const grid = [files.length, height / patch, width / patch, size];
  const [from, to] = TEMPERATURE;
  return {
    images: { shape: [files.length, 3, height, width], dtype: 'float32', values: images },
    uniform: { shape: grid, dtype: 'float32', values: uniformNoise(grid.reduce((a, b) => a * b), seed, update) },
    temperature: { shape: [1], dtype: 'float32', values: Float32Array.of(from * (to / from) ** (update / Math.max(1, updates - 1))) },
  };
}

const stateOf = (buffers: FlatBuffers): Map<string, RawTensor> => new Map(buffers.names.map((name, i) => [name, fromFloat32(buffers.read('weights', i), [...buffers.shapeOf(i)])]));

/** One pass over a source of pictures, normalised with deviations `std`. */
export async function evaluateTokenizer(dvae: Dvae, source: BatchSource, { std }: { std: readonly number[] }): Promise<TokenizerFigures> {
  const counts = new Map<number, number>();
  const spread = std.map(() => ({ sum: 0, squares: 0, count: 0 }));
  const sum = { error: 0, images: 0 };
  for (let i = 0; i < source.batchesPerEpoch; i++) {
    const { images, files } = await source.next();
    const [ids, error] = tf.tidy(() => {
      const given = tf.tensor(images, [files.length, ...source.imageShape], 'float32');
      const ids = dvae.tokens(given);
      const scale = tf.tensor([...std], [1, std.length, 1, 1], 'float32');
      return [ids.dataSync(), tf.mean(tf.square(tf.mul(tf.sub(given, dvae.picture(ids)), scale))).dataSync()[0] as number] as const;
    });
    for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
    const pixels = source.imageShape[1] * source.imageShape[2];
    images.forEach((v, at) => {
      const channel = spread[Math.floor(at / pixels) % std.length] as (typeof spread)[number];
      channel.sum += v;
      channel.squares += v * v;
      channel.count++;
    });
    sum.error += error * files.length;
    sum.images += files.length;
  }
  const constantError = spread.reduce((all, { sum: s, squares, count }, c) => all + (squares / count - (s / count) ** 2) * (std[c] as number) ** 2, 0) / std.length;
  const tokens = [...counts.values()].reduce((a, b) => a + b, 0);
  const entropy = [...counts.values()].reduce((h, n) => h - (n / tokens) * Math.log(n / tokens), 0);
  return { images: sum.images, error: sum.error / sum.images, constantError, used: counts.size, perplexity: Math.exp(entropy) };
}
