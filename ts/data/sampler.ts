/**
 * Which sample comes when: a seeded shuffle per epoch, cut into batches and shared among ranks. Pure
 * functions of (seed, epoch), so any position can be recomputed and nothing but the position is saved.
 */
import { SimmimError } from '../errors';
import { Rng } from '../rng';

/** Philox sites of the data layer; other layers must not use them. */
export const SITE = { shuffle: 0x64617401, augment: 0x64617402, replace: 0x64617403, holdout: 0x64617404, mix: 0x64617405, noise: 0x64617406 } as const;

export interface SamplerOptions {
  /** Samples in the dataset, N. */
  length: number;
  /** B, samples per batch of one rank. */
  batchSize: number;
  seed: number;
  /** Default true; false keeps dataset order. */
  shuffle?: boolean;
  /** Leave out the last, incomplete global batch of an epoch. Default true. */
  dropLast?: boolean;
  /** This process among `world`; its batch is the rank-th part of each global batch of world * B. Default 0 of 1. */
  rank?: number;
  world?: number;
  /** Virtual epoch length, for folders with few pictures: N is walked through again, in a new order, until reached. Default N. */
  samplesPerEpoch?: number;
}

/** One sample of an epoch: `position` is its place in the epoch's global order, `index` its dataset index. */
export interface SampleAt {
  position: number;
  index: number;
}

const OP = 'sampler';

function positive(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) throw new SimmimError('invalid_argument', OP, `${name} is ${value}, expected an integer of at least ${least}`);
}

/** Order, batches and shards of every epoch. */
export class Sampler {
  readonly batchSize: number;
  readonly batchesPerEpoch: number;
  private readonly options: Required<SamplerOptions>;
  private cached: { epoch: number; order: Uint32Array } | null = null;

  /** Throws invalid_argument when a number makes no sense or an epoch would hold no batch. */
  constructor(options: SamplerOptions) {
    const o = { shuffle: true, dropLast: true, rank: 0, world: 1, samplesPerEpoch: options.length, ...dropUndefined(options) };
    positive('length', o.length, 1);
    positive('batchSize', o.batchSize, 1);
    positive('world', o.world, 1);
    positive('rank', o.rank, 0);
    positive('samplesPerEpoch', o.samplesPerEpoch, 1);
    if (o.rank >= o.world) throw new SimmimError('invalid_argument', OP, `rank is ${o.rank}, expected less than world = ${o.world}`);
    const globalBatch = o.batchSize * o.world;
    if (o.dropLast && o.samplesPerEpoch < globalBatch) {
      throw new SimmimError('invalid_argument', OP, `an epoch of ${o.samplesPerEpoch} samples holds no full batch of ${globalBatch}${o.world > 1 ? ` (${o.batchSize} on each of ${o.world} ranks)` : ''}: use a smaller batchSize, or samplesPerEpoch to walk through few pictures several times`);
    }
    this.options = o;
    this.batchSize = o.batchSize;
    this.batchesPerEpoch = o.dropLast ? Math.floor(o.samplesPerEpoch / globalBatch) : Math.ceil(o.samplesPerEpoch / globalBatch);
  }

  /** Samples of this rank in batch `step` of `epoch`; only without drop-last may it be shorter than B, or empty. */
  batch(epoch: number, step: number): SampleAt[] {
    const { batchSize, world, rank, samplesPerEpoch } = this.options;
    const order = this.order(epoch);
    const from = (step * world + rank) * batchSize;
    const to = Math.min(from + batchSize, samplesPerEpoch);
    const samples: SampleAt[] = [];
    for (let position = from; position < to; position++) samples.push({ position, index: order[position] as number });
    return samples;
  }

  private order(epoch: number): Uint32Array {
    if (this.cached?.epoch !== epoch) this.cached = { epoch, order: this.makeOrder(epoch) };
    return this.cached.order;
  }

  private makeOrder(epoch: number): Uint32Array {
    const { length, samplesPerEpoch, shuffle, seed } = this.options;
    const order = new Uint32Array(samplesPerEpoch);
    const rng = new Rng(seed, SITE.shuffle, epoch);
    for (let from = 0; from < samplesPerEpoch; from += length) {
      const round = Uint32Array.from({ length }, (_, i) => i);
      if (shuffle) shuffleInPlace(round, rng);
      order.set(round.subarray(0, Math.min(length, samplesPerEpoch - from)), from);
    }
    return order;
  }
}

/** Fisher-Yates. */
export function shuffleInPlace(values: Uint32Array, rng: Rng): void {
  for (let i = values.length - 1; i > 0; i--) {
    const j = rng.below(i + 1);
    const kept = values[i] as number;
    values[i] = values[j] as number;
    values[j] = kept;
  }
}

const DRAWS_PER_SAMPLE = 1024;

/**
 * The stream of augmentation draws of one sample: a pure function of (seed, epoch, position). At most
 * 1,024 draws belong to it before the next sample's begin.
 */
export function augmentationRng(seed: number, epoch: number, position: number): Rng {
  const rng = new Rng(seed, SITE.augment, epoch);
  rng.state = position * DRAWS_PER_SAMPLE;
  return rng;
}

/** The stream of the normal noise of one sample's erased box, of `values` numbers at most. */
export function noiseRng(seed: number, epoch: number, position: number, values: number): Rng {
  const rng = new Rng(seed, SITE.noise, epoch);
  rng.state = position * 2 ** Math.ceil(Math.log2(2 * values + 4)); // two draws a value, streams end on a whole block
  return rng;
}

/** Dataset index that stands in for a broken sample, at the given attempt (0, 1, ...). */
export function replacementIndex(seed: number, epoch: number, position: number, attempt: number, length: number): number {
  const rng = new Rng(seed, SITE.replace, epoch);
  rng.state = position * DRAWS_PER_SAMPLE + attempt * 4;
  return rng.below(length);
}

function dropUndefined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
}
