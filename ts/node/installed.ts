import type * as tf from '@tensorflow/tfjs-core';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** Logs of a batch or an epoch: losses and metrics by name. */
export type Logs = Record<string, number | tf.Scalar> | undefined;

/** A callback of `model.fit`. */
export interface FitCallback {
  onBatchEnd(batch: number, logs?: Logs): Promise<void>;
  onEpochEnd(epoch: number, logs?: Logs): Promise<void>;
  onTrainEnd(): Promise<void>;
}

/** What is needed of tfjs-layers, which is optional. */
export interface LayersModule {
  CustomCallback: new (args: object, yieldEvery?: string) => FitCallback;
  registerCallbackConstructor(verbosity: number, constructor: unknown): void;
}

/** A package next to this one, or else next to the program (a linked checkout finds the program's packages this way); undefined where there is none. */
export function installed(name: string): object | undefined {
  for (const from of [__filename, join(process.cwd(), 'index.js')]) {
    let file: string;
    try {
      file = createRequire(from).resolve(name);
    } catch {
      continue;
    }
    return createRequire(from)(file) as object;
  }
  return undefined;
}

/** tfjs-layers, alone or in the union package. */
export function findLayers(): LayersModule | undefined {
  const found = installed('@tensorflow/tfjs') ?? installed('@tensorflow/tfjs-layers');
  return found && 'registerCallbackConstructor' in found ? (found as LayersModule) : undefined;
}
