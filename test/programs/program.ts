import * as tf from '@tensorflow/tfjs-core';
import type * as layers from '@tensorflow/tfjs-layers';
import { Rng } from '../../ts/rng';

/** What a program leaves to be compared: numbers by name (losses, predictions, weights). */
export type Outcome = Record<string, ArrayLike<number>>;

/** Where a program gets its data from; a perturbed source moves every float by one ulp. */
export interface Source {
  floats(count: number, make: (i: number, rng: Rng) => number): Float32Array;
  integers(count: number, make: (i: number, rng: Rng) => number): Int32Array;
}

export function source(seed: number, perturbed: boolean): Source {
  const rng = new Rng(seed);
  const coin = new Rng(seed, 1);
  return {
    floats: (count, make) => Float32Array.from({ length: count }, (_, i) => {
      const value = make(i, rng);
      return perturbed ? value * (1 + (coin.uniform() < 0.5 ? 1 : -1) * 2 ** -23) : value;
    }),
    integers: (count, make) => Int32Array.from({ length: count }, (_, i) => Math.floor(make(i, rng))),
  };
}

/** Takes the weights that a model was made with from the source, so that they move with it. */
export function drawWeights(model: layers.LayersModel, data: Source): void {
  tf.tidy(() => model.setWeights(model.getWeights().map((weight) => {
    const values = weight.dataSync();
    return tf.tensor(data.floats(weight.size, (i) => values[i] as number), weight.shape);
  })));
}

/** A small program as published ones are: makes its data, trains or predicts with the active backend. */
export interface Program {
  name: string;
  run(data: Source): Promise<Outcome>;
}
