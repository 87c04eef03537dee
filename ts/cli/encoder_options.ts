import type { Command } from 'commander';
import { openEncoder, type EncoderSource } from '../probe';
import { wholeNumber, wholeOrZero } from './arguments';

/** Options of the commands that run a frozen encoder. */
export interface EncoderOptions {
  imageSize?: number;
  window?: number;
  heads?: number;
  random?: boolean;
  seed?: number;
}

export const ENCODER_HELP = 'ENCODER is a run, a checkpoint, anything that convert reads, or a preset (at its random start)';

/** Adds the options that say what an encoder's weights do not. */
export function addEncoderOptions(command: Command): Command {
  return command
    .option('--random', 'the same encoder at its random start')
    .option('--image-size <pixels>', "other than the weights' own; positions are resized", wholeNumber)
    .option('--window <tokens>', 'window size, where the weights do not tell', wholeNumber)
    .option('--heads <number>', "a ViT's heads, where the weights do not tell", wholeNumber)
    .option('--seed <n>', "seed of a random start (default: the run's) and of probes' training", wholeOrZero);
}

/** Opens the encoder that the options mean. */
export function encoderOf(source: string, options: EncoderOptions, random: boolean, note: (line: string) => void): EncoderSource {
  const { imageSize, window, heads, seed } = options;
  return openEncoder(source, {
    random, note, ...(imageSize === undefined ? {} : { imageSize }), ...(seed === undefined ? {} : { seed }),
    known: { ...(window === undefined ? {} : { windowSize: window }), ...(heads === undefined ? {} : { heads }) },
  });
}
