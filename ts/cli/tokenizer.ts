import type { Command } from 'commander';
import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { encodeSafetensors } from '../formats/safetensors';
import { writeWhole } from '../formats/whole_file';
import { figurePng, toRgb, type Pictures, type Rgb } from '../report/pictures';
import { inChunks, shownPictures } from '../report/shown_pictures';
import type { Dvae } from '../simmim';
import { duration, short } from '../train/metrics';
import { imageSizeOf, statisticsOf, type Recipe } from '../train/recipe';
import { openRunData } from '../train/run_data';
import { evaluateTokenizer, trainTokenizer, type TokenizerFigures, type TokenizerOptions } from '../train/tokenizer';
import { collect, dataRecipe, positiveNumber, wholeNumber, wholeOrZero, type DataOptions } from './arguments';
import { useBackend } from './backend';
import { withSignals } from './signals';

/** Options of `simmim tokenizer`, as given. */
interface Options extends DataOptions, TokenizerOptions {
  out: string;
  backend: string;
}

/** Pictures in the figure. */
const SHOWN = 8;
/** Lines of progress where there is no terminal. */
const LINES = 20;

/** Adds `simmim tokenizer` to the command line. */
export function registerTokenizer(cli: Command, print: (line: string) => void): Command {
  return cli.command('tokenizer')
    .description('train a small dVAE on pictures: the visual tokens of target.kind tokens (target.tokenizer=FILE)')
    .requiredOption('--out <file>', 'the .safetensors to write; held-out pictures beside what their tokens make of them go to a .png of the same name')
    .option('--data <folder>', 'folder of pictures (train/ and val/ inside it are used as such)')
    .option('--recipe <name>', 'take data, image size and crops of a recipe')
    .option('--set <key=value>', 'override one value of the recipe, such as data.cropScale=[0.2,1]; may be repeated', collect, [])
    .option('--image-size <px>', 'size of the crops, a multiple of 8 (default: the recipe\'s, or 192)', wholeNumber)
    .option('--vocabulary <n>', 'number of tokens', wholeNumber, 1024)
    .option('--hidden <n>', 'channels at full resolution, a multiple of 4; doubled at each of three halvings (DALL-E: 256)', wholeNumber, 32)
    .option('--blocks <n>', 'residual blocks at each resolution (DALL-E: 2)', wholeNumber, 1)
    .option('--code <n>', 'length of a code vector (DALL-E: 128)', wholeNumber, 64)
    .option('--updates <n>', 'length of the training', wholeNumber, 5000)
    .option('--batch <n>', 'images of one update', wholeNumber, 16)
    .option('--lr <rate>', 'highest learning rate', positiveNumber, 2e-3)
    .option('--kl <weight>', "weight of the tokens' divergence from equal frequency (DALL-E: up to 6.6)", positiveNumber, 0)
    .option('--seed <n>', 'seed of weights, crops and samples', wholeOrZero, 1)
    .option('--backend <name>', 'tfjs backend', 'simmim-cpu')
    .action((options: Options) => tokenizer(options, print));
}

/** `simmim tokenizer`: trains, writes, measures, shows. Ctrl-C ends the training early; what is there is written. */
async function tokenizer(options: Options, print: (line: string) => void): Promise<void> {
  const { out, updates } = options;
  if (!out.endsWith('.safetensors')) throw new SimmimError('invalid_argument', 'tokenizer', `--out is '${out}', expected a name that ends in .safetensors`);
  const recipe = dataRecipe('tokenizer', options);
  await useBackend(options.backend);
  let stopped = false;
  const trained = await withSignals(() => { stopped = true; }, print, () => trainTokenizer(recipe, options, progress(updates), () => stopped));
  const { dvae, state } = trained;
  writeWhole(out, 'tokenizer', Buffer.concat(encodeSafetensors(state, { format: 'pt' })));
  print(`${stopped ? `stopped after ${trained.updates} updates` : `${updates} updates`}, loss ${short(trained.loss)} nats per value; wrote ${out}: ${dvae.size} tokens, ${(weights(state) / 1e6).toFixed(2)} M weights`);
  const held = openRunData(recipe).openValidation();
  if (held) {
    try {
      report(await evaluateTokenizer(dvae, held, statisticsOf(recipe)), dvae.size, print);
    } finally {
      await held.close();
    }
    const png = out.replace(/\.safetensors$/, '.png');
    writeWhole(png, 'tokenizer', await figure(dvae, recipe));
    print(`wrote ${png}; use it with: --set target.kind=tokens --set loss.kind=cross_entropy --set target.tokenizer=${out}`);
  }
  trained.dispose();
}

const weights = (state: ReadonlyMap<string, { shape: readonly number[] }>): number => [...state.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

/** Prints a line now and then. */
function progress(updates: number): (update: number, loss: number, lr: number) => void {
  const begin = performance.now();
  const every = Math.max(1, Math.floor(updates / LINES));
  return (update, loss, lr) => {
    if (update % every !== 0 && update !== 1) return;
    const seconds = (performance.now() - begin) / 1000;
    process.stderr.write(`update ${update}/${updates}  loss ${short(loss)}  lr ${short(lr)}  ETA ${duration((seconds / update) * (updates - update))}\n`);
  };
}

function report({ images, error, constantError, used, perplexity }: TokenizerFigures, size: number, print: (line: string) => void): void {
  const decibel = (e: number): string => `${(-10 * Math.log10(e)).toFixed(1)} dB PSNR`;
  print(`${images} held-out images from their tokens: error ${short(error)} (${decibel(error)}), their mean colour alone has ${short(constantError)} (${decibel(constantError)}); ${used} of ${size} tokens occur, perplexity ${short(perplexity)}`);
}

/** Held-out pictures, and what their tokens make of them. */
async function figure(dvae: Dvae, recipe: Recipe): Promise<Buffer> {
  const size = imageSizeOf(recipe);
  const statistics = statisticsOf(recipe);
  const rows = inChunks(await shownPictures(recipe, undefined, SHOWN), ({ images, files }: Pictures) => {
    const made = tf.tidy(() => dvae.picture(dvae.tokens(tf.tensor(images, [files.length, 3, ...size], 'float32'))).dataSync<'float32'>());
    const values = images.length / files.length;
    const part = (all: Float32Array, b: number): Rgb => toRgb(all.subarray(b * values, (b + 1) * values), statistics);
    return files.map((name, b) => ({ name, cells: [part(images, b), part(made, b)] }));
  });
  return figurePng({ title: '', caption: '', size, headings: ['original', 'from its tokens'], rows });
}
