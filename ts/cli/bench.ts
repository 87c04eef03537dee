import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { encoderConfig } from '../models';
import { loadAddon } from '../native';
import { parseRecipe } from '../train/recipe';
import { benchStep } from '../train/step_bench';
import { collect, wholeNumber } from './arguments';
import { useBackend } from './backend';
import { bytes, changedModel } from './info';

/** Options of `simmim bench`, as given. */
interface Options {
  imageSize?: number;
  precision: 'f32' | 'bf16';
  batch: number;
  threads?: number;
  rounds: number;
  checkpointing?: boolean;
  eager?: boolean;
  set: string[];
  json?: string;
  backend: string;
}

/** Adds `simmim bench` to the command line. */
export function registerBench(cli: Command, print: (line: string) => void): Command {
  return cli.command('bench <preset>')
    .description('how fast and in how much memory this machine trains a preset: the pre-training step on noise, nothing else needed')
    .option('--image-size <px>', 'other than the preset has', wholeNumber)
    .addOption(new Option('--precision <f32|bf16>', 'what to compute in').choices(['f32', 'bf16']).default('f32'))
    .option('--batch <n>', 'images of a step', wholeNumber, 8)
    .option('--threads <n>', 'threads to compute with (default: the machine\'s cores)', wholeNumber)
    .option('--rounds <n>', 'steps to measure', wholeNumber, 5)
    .option('--checkpointing', 'run blocks again in the backward pass instead of keeping their activations')
    .option('--eager', 'op by op, as it is done without a recorded step')
    .option('--set <key=value>', 'override, such as model.windowSize=12; may be repeated', collect, [])
    .option('--json <file>', 'write the figures there as well')
    .option('--backend <name>', 'tfjs backend: simmim-cpu', 'simmim-cpu')
    .action((preset: string, options: Options) => bench(preset, options, print));
}

/** `simmim bench PRESET`. */
async function bench(preset: string, options: Options, print: (line: string) => void): Promise<void> {
  const { imageSize, precision, batch, rounds, checkpointing = false, set, json } = options;
  const model = { ...changedModel(preset, [...set, ...(imageSize === undefined ? [] : [`model.imageSize=${imageSize}`])]), checkpointing };
  const size = (model as { imageSize?: number }).imageSize ?? (encoderConfig(preset).imageSize as number);
  const recipe = parseRecipe({ model: { ...model, imageSize: size }, train: { precision, recorded: !options.eager } });
  await useBackend(options.backend);
  const addon = loadAddon();
  if (options.threads !== undefined) addon.setThreads(options.threads);
  const { threads, isa } = addon.info();
  const figures = await benchStep(recipe, batch, rounds);
  const line = (key: string, value: string): void => print(`${key.padEnd(24)} ${value}`);
  print(`${model.encoder} at ${size} px, ${precision}, batch ${batch}${checkpointing ? ', checkpointed' : ''}${options.eager ? ', eager' : ''}: ${threads} threads, ${isa}, ${rounds} rounds`);
  line('images per second', `${figures.imagesPerSecond.toFixed(2)} (a step takes ${figures.seconds.toFixed(3)} s, at best ${figures.fastestSeconds.toFixed(3)} s)`);
  line('GFLOP/s', figures.gflops.toFixed(1));
  line('peak memory', bytes(figures.peakBytes));
  line('event-loop delay', `${figures.eventLoopDelayMs.toFixed(2)} ms (99th percentile)`);
  line('JavaScript per step', `${figures.hostMs.toFixed(2)} ms`);
  line('loss', figures.loss.toFixed(4));
  if (json === undefined) return;
  mkdirSync(dirname(resolve(json)), { recursive: true });
  writeFileSync(json, `${JSON.stringify({ model: recipe.model, precision, recorded: recipe.train.recorded, threads, isa, ...figures }, null, 1)}\n`);
}
