import type { Command } from 'commander';
import { checkLabelledSplits, damagedShards, datasetStats, findSplits, openDataset, type DatasetStats, type ImageDataset } from '../data';
import { isFolder } from '../data/dataset';
import { SimmimError } from '../errors';
import { writeWhole } from '../formats/whole_file';
import { counter } from './progress';

/** Options of `simmim stats`, as given. */
interface StatsOptions {
  validation?: string;
  json?: string;
}

/** At most this many names of a list are printed; --json has all. */
const SHOWN = 20;

/** Adds `simmim stats` to the command line. */
export function registerStats(cli: Command, print: (line: string) => void): Command {
  return cli
    .command('stats <data>')
    .description('measure a dataset: channel means, sizes, broken and double pictures, classes; DATA is a folder, .tar, .zip, .csv or CIFAR .bin')
    .option('--validation <data>', 'validation pictures (default: val/ and the like beside train/)')
    .option('--json <file>', 'write everything measured')
    .action((data: string, options: StatsOptions) => stats(data, options, print));
}

/** `simmim stats DATA`: reads every picture of a dataset and of its validation part once. */
async function stats(data: string, options: StatsOptions, print: (line: string) => void): Promise<void> {
  const splits = findSplits(data);
  const held = options.validation ?? splits.val;
  const train = openDataset(splits.train);
  const validation = held === null ? null : openDataset(held, train.classes.length > 0 ? { classes: train.classes } : {});
  const parts: Record<string, DatasetStats> = {};
  for (const [name, path, set] of [['train', splits.train, train], ['validation', held, validation]] as const) {
    if (set === null || path === null) continue;
    await checkShards(path, print);
    parts[name] = await measure(held === null ? 'pictures' : name, set, print);
  }
  for (const warning of warnings(train, validation, parts)) print(`warning: ${warning}`);
  const { mean, std } = parts.train as DatasetStats;
  print(`for a recipe: --set 'data.statistics={mean: ${list(mean)}, std: ${list(std)}}'`);
  if (options.json !== undefined) writeWhole(options.json, 'stats', `${JSON.stringify(Object.fromEntries(Object.entries(parts).map(([name, { contents: _, ...rest }]) => [name, rest])), null, 1)}\n`);
}

/** Shards are compared with their checksums first: damaged ones would show as many broken pictures. */
async function checkShards(path: string, print: (line: string) => void): Promise<void> {
  const damaged = isFolder(path) ? await damagedShards(path) : null;
  if (damaged === null) return;
  if (damaged.length > 0) throw new SimmimError('corrupt', 'stats', `${damaged.length} shards of '${path}' do not match their checksums, the first being '${damaged[0] ?? ''}': pack them again`);
  print(`shards of '${path}' match their checksums`);
}

const list = (values: readonly number[]): string => `[${values.map((v) => v.toFixed(4)).join(', ')}]`;

async function measure(title: string, set: ImageDataset, print: (line: string) => void): Promise<DatasetStats> {
  const count = counter(`${title}: read`, set.length, process.stderr);
  const found = await datasetStats(set, count.at);
  count.end();
  const line = (key: string, value: string): void => print(`  ${key.padEnd(12)} ${value}`);
  const spread = (r: DatasetStats['width']): string => `${r.least} / ${r.median} / ${r.most}`;
  const names = (all: readonly string[]): string => `${all.length}${all.length > 0 ? `: ${all.slice(0, SHOWN).join('; ')}` : ''}${all.length > SHOWN ? `; ... (${all.length - SHOWN} more)` : ''}`;
  print(`${title}: ${found.pictures} of '${set.source}'`);
  line('mean (R G B)', list(found.mean));
  line('std', list(found.std));
  line('width', `${spread(found.width)} (least, median, most)`);
  line('height', spread(found.height));
  line('broken', names(found.broken.map((b) => `${b.name} (${b.reason})`)));
  line('double', names(found.duplicates.map((d) => `${d.name} = ${d.of}`)));
  line('classes', found.classes.length === 0 ? 'none' : names(found.classes.map((c) => `${c.name} ${c.pictures}`)));
  return found;
}

function warnings(train: ImageDataset, validation: ImageDataset | null, parts: Record<string, DatasetStats>): string[] {
  if (!validation) return [];
  const seen = parts.train?.contents ?? new Map<string, string>();
  const both = [...(parts.validation?.contents ?? [])].filter(([digest]) => seen.has(digest));
  const shared = both.length === 0 ? [] : [`${both.length} of the ${validation.length} validation pictures have the same bytes as a training picture, such as ${both[0]?.[1] ?? ''} and ${seen.get(both[0]?.[0] ?? '') ?? ''}`];
  if (train.classes.length === 0) return shared;
  const labelled = checkLabelledSplits(train, validation).filter((w) => shared.length === 0 || !/validation pictures/.test(w));
  return [...shared, ...labelled];
}
