import { join } from 'node:path';
import type { Command } from 'commander';
import { findSplits, openDataset, PACK_FORMATS, packDataset, type PackOptions } from '../data';
import { SimmimError } from '../errors';
import { unknownName } from '../models/options';
import { positiveNumber, wholeNumber } from './arguments';

/** Options of `simmim pack`, as given. */
interface Options {
  format: string;
  maxSide?: number;
  quality?: number;
  shardSize: number;
  overwrite?: boolean;
}

/** Adds `simmim pack` to the command line. */
export function registerPack(cli: Command, print: (line: string) => void): Command {
  return cli
    .command('pack <data> <out>')
    .description('pack a dataset into tar shards, which every command reads: few large files instead of many small ones; train and val parts go to OUT/train and OUT/val')
    .option('--format <format>', 'copy (bytes as they are), jpeg, png, or ppm (decoded pixels)', 'copy')
    .option('--max-side <pixels>', 'reduce larger pictures to this longer side', wholeNumber)
    .option('--quality <n>', 'JPEG quality from 1 to 100 (default: 90)', wholeNumber)
    .option('--shard-size <MiB>', 'size at which the next shard begins', positiveNumber, 256)
    .option('--overwrite', 'replace shards in OUT')
    .action((data: string, out: string, options: Options) => pack(data, out, options, print));
}

/** `simmim pack DATA OUT`. */
async function pack(data: string, out: string, options: Options, print: (line: string) => void): Promise<void> {
  const format = PACK_FORMATS.find((f) => f === options.format) ?? unknownName('pack', 'format', options.format, PACK_FORMATS);
  if (format === 'copy' && (options.maxSide !== undefined || options.quality !== undefined)) throw new SimmimError('invalid_argument', 'pack', '--max-side and --quality change pictures, which --format copy does not: give --format jpeg, png or ppm');
  const broken: string[] = [];
  const settings: PackOptions = {
    format, shardBytes: options.shardSize * 2 ** 20, overwrite: options.overwrite ?? false, onBroken: (_, reason) => void broken.push(reason),
    ...(options.maxSide === undefined ? {} : { maxSide: options.maxSide }), ...(options.quality === undefined ? {} : { quality: options.quality }),
  };
  const splits = findSplits(data);
  const parts = splits.val === null ? [[splits.train, out] as const] : [[splits.train, join(out, 'train')] as const, [splits.val, join(out, 'val')] as const];
  for (const [from, to] of parts) {
    const { shards, pictures, sha256 } = await packDataset(openDataset(from), to, settings);
    print(`packed ${pictures} pictures of '${from}' into ${shards.length} shards in '${to}' (sha256 ${sha256.slice(0, 16)})`);
  }
  for (const reason of broken) print(`left out: ${reason}`);
}
