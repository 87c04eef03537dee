import * as tf from '@tensorflow/tfjs-core';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { CPU_BACKEND, type NativeBackend } from '../backend';
import { SimmimError } from '../errors';
import { loadAddon } from '../native';
import { disposeModel } from '../nn/module';
import type { FlatBuffers } from './flat_buffers';
import { MaskedTask } from './masked_task';
import { type BuiltModel, buildBuffers, buildModel } from './model_build';
import { planModel } from './plan';
import { imageSizeOf, type Recipe } from './recipe';
import { type HostBatch, TrainingStep } from './step';
import { StepState } from './step_state';

/** The pre-training step of a recipe's model on one batch of noise: forward, backward, clip and AdamW, as between two batches of a run. */
export class NoiseStep {
  private readonly built: BuiltModel;
  private readonly buffers: FlatBuffers;
  private readonly state = new StepState(0);
  private readonly step: TrainingStep;
  private readonly images: HostBatch;
  private update = 0;

  constructor(recipe: Recipe, batch: number) {
    const { precision, recorded } = recipe.train;
    this.built = buildModel(recipe);
    this.buffers = buildBuffers(this.built, recipe);
    this.step = new TrainingStep(new MaskedTask(this.built.model, this.built.masking, 0), this.buffers, this.state, { accumulation: 1, clip: 5, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.05, precision, recorded });
    const [height, width] = imageSizeOf(recipe);
    const noise = tf.randomNormal([batch, 3, height, width], 0, 1, 'float32', 1);
    const values = new Float32Array(new SharedArrayBuffer(4 * noise.size)); // as the loader's: read where they are
    values.set(noise.dataSync<'float32'>());
    this.images = { images: { shape: noise.shape, dtype: 'float32', values } };
    noise.dispose();
  }

  /** One update; resolves to its loss when all of it is done. */
  async run(): Promise<number> {
    this.state.writeClock(this.update, 0);
    const { done } = this.step.micro(this.images);
    const [{ loss }] = await Promise.all([this.step.apply(1e-4, ++this.update), done]);
    return loss;
  }

  dispose(): void {
    this.step.dispose();
    this.buffers.dispose();
    this.state.dispose();
    disposeModel(this.built.model);
  }
}

/** What `benchStep` measured; medians over the rounds. */
export interface StepFigures {
  batch: number;
  rounds: number;
  seconds: number;
  fastestSeconds: number;
  imagesPerSecond: number;
  /** Of the operations that the model needs, 2 for each multiply-add; what checkpointing does twice counts once. */
  gflops: number;
  /** The most that this process held in memory, or that was taken of the GPU's. */
  peakBytes: number;
  /** How long a timer waits beyond its time during training, at the 99th percentile. */
  eventLoopDelayMs: number;
  /** Time that JavaScript takes of each step. */
  hostMs: number;
  /** After all updates. */
  loss: number;
}

/** How often the delay of the event loop is looked at. */
const RESOLUTION_MS = 10;

/** Seconds of each of so many updates, and the loss after the last. */
async function timeRounds(step: NoiseStep, rounds: number): Promise<{ seconds: number[]; loss: number }> {
  const seconds: number[] = [];
  let loss = NaN;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    loss = await step.run();
    seconds.push((performance.now() - start) / 1e3);
  }
  return { seconds, loss };
}

/**
 * Runs the step `rounds` times after the two that record it, and as often again to watch the event loop, whose timers would
 * count as time of JavaScript. Throws `unsupported` on a backend other than ours.
 */
export async function benchStep(recipe: Recipe, batch: number, rounds: number): Promise<StepFigures> {
  const backend = tf.backend() as Partial<NativeBackend>;
  if (backend.device === undefined) throw new SimmimError('unsupported', 'bench', `the step is recorded on our own backends only, such as ${CPU_BACKEND}`);
  const step = new NoiseStep(recipe, batch);
  await timeRounds(step, 2);
  const before = performance.eventLoopUtilization();
  const { seconds } = await timeRounds(step, rounds);
  const { active } = performance.eventLoopUtilization(before);
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  const { loss } = await timeRounds(step, rounds);
  delay.disable();
  step.dispose();
  seconds.sort((a, b) => a - b);
  const median = ((seconds[(rounds - 1) >> 1] as number) + (seconds[rounds >> 1] as number)) / 2;
  return {
    batch, rounds, seconds: median, fastestSeconds: seconds[0] as number, imagesPerSecond: batch / median,
    gflops: (batch * planModel(recipe.model).trainingFlops) / median / 1e9,
    peakBytes: backend.device === 0 ? process.resourceUsage().maxRSS * 1024 : loadAddon().stats(backend.device).peak,
    eventLoopDelayMs: Math.max(0, delay.percentile(99) / 1e6 - RESOLUTION_MS),
    hostMs: active / rounds, loss,
  };
}
