import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { SimmimError } from '../errors';
import { inferConfig, type KnownSizes } from '../models/model_config';
import type { Layout } from '../models/name_maps';
import { unknownName } from '../models/options';
import { readWeights, writeWeights } from '../models/weights';
import { checkpointsFolder, latestCheckpoint } from '../train/checkpoint';

/** Options of `simmim convert`, as given. */
export interface ConvertOptions {
  to: string;
  imageSize?: string;
  window?: string;
  heads?: string;
}

const LAYOUTS: Readonly<Record<string, Layout>> = { official: 'official', huggingface: 'huggingface', hf: 'huggingface', timm: 'timm' };

/** Adds `simmim convert` to the command line. */
export function registerConvert(cli: Command, print: (line: string) => void): Command {
  return cli
    .command('convert <source> <out>')
    .description('write weights in another layout: SOURCE is a .pth or .safetensors file, a run or one checkpoint of it, or a Hugging Face or timm folder; OUT is a folder')
    .requiredOption('--to <layout>', 'official, huggingface (hf) or timm')
    .option('--image-size <pixels>', 'image size, where the source does not tell')
    .option('--window <tokens>', 'window size, where the source does not tell')
    .option('--heads <number>', "a ViT's heads, where the source does not tell")
    .action((source: string, out: string, options: ConvertOptions) => convert(source, out, options, print));
}

/** `simmim convert SOURCE OUT --to LAYOUT`: converts and reports every entry that was left out. */
export function convert(source: string, out: string, options: ConvertOptions, print: (line: string) => void): void {
  const layout = LAYOUTS[options.to] ?? unknownName('convert', 'layout', options.to, Object.keys(LAYOUTS));
  const known: KnownSizes = {};
  if (options.imageSize !== undefined) known.imageSize = whole('--image-size', options.imageSize);
  if (options.window !== undefined) known.windowSize = whole('--window', options.window);
  if (options.heads !== undefined) known.heads = whole('--heads', options.heads);
  const weights = readWeights(checkpointIn(source, print), known);
  const config = weights.config ?? inferConfig(weights.state, known); // throws, naming what must be said
  const report = writeWeights(out, layout, weights.state, config, weights.statistics);
  const { imageSize } = config.encoder;
  print(`read ${weights.state.size} tensors of a ${weights.family} in ${weights.layout} layout, ${[imageSize].flat().join(' x ')} px${config.classes > 0 ? `, ${config.classes} classes` : ''}`);
  for (const { name, why } of [...weights.dropped, ...report.dropped]) print(`left out ${name}: ${why}`);
  for (const note of [...weights.notes, ...report.notes]) print(`note: ${note}`);
  print(`wrote ${report.written} tensors: ${report.files.join(', ')}`);
}

/** The newest complete checkpoint where `source` is the folder of a run; else `source` itself. */
function checkpointIn(source: string, print: (line: string) => void): string {
  if (!existsSync(checkpointsFolder(source))) return source;
  const latest = latestCheckpoint(checkpointsFolder(source), print);
  if (!latest) throw new SimmimError('not_found', 'convert', `the run '${source}' holds no complete checkpoint`);
  return latest.folder;
}

function whole(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new SimmimError('invalid_argument', 'convert', `${option} is '${text}', expected a whole number of at least 1`);
  return value;
}
