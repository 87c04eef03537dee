import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { openLabelledSplits, type LabelledSplits } from '../data';
import { SimmimError } from '../errors';
import { unknownName } from '../models/options';
import { mcnemar, PROBE_METHODS, runProbe, type Pooling, type ProbeMethod, type ProbeReport, type ProbeReporter, type ProbeResult } from '../probe';
import { checkpointsFolder } from '../train/checkpoint';
import { collect, positiveNumber, wholeNumber, wholeOrZero } from './arguments';
import { useBackend } from './backend';
import { addEncoderOptions, encoderOf, ENCODER_HELP, type EncoderOptions } from './encoder_options';
import { writeWhole } from '../formats/whole_file';
import { counter, type Output } from './progress';

/** Options of `simmim probe`. */
interface Options extends EncoderOptions {
  data: string;
  validation?: string;
  out?: string;
  method: string[];
  layers: string;
  pooling: string;
  baseline?: boolean;
  epochs?: number;
  warmupEpochs?: number;
  batchSize?: number;
  linearLr?: number;
  attentiveLr?: number;
  augment: boolean;
  k: number;
  temperature: number;
  l2: number;
  gradientNorm: number;
  resizeRatio?: number;
  workers?: number;
  keepFeatures?: boolean;
  backend: string;
}

/** Adds `simmim probe` to the command line. */
export function registerProbe(cli: Command, print: (line: string) => void): Command {
  const command = cli
    .command('probe <encoder>')
    .description(`what a frozen encoder's features tell of classes: k-NN, logistic regression, MAE's linear probe, attentive probe, for every layer; ${ENCODER_HELP}`)
    .requiredOption('--data <data>', 'labelled pictures: a folder with CLASS/ (or train/CLASS/ and val/CLASS/), shards, .csv, CIFAR')
    .option('--validation <data>', 'labelled pictures to judge on (default: val/ and the like, else a fifth of each class)')
    .option('--method <name>', `${PROBE_METHODS.join(', ')} or all; may be repeated (default: knn and logistic)`, collect, [])
    .option('--layers <list>', 'all, last, or block numbers from 1 and names with commas, such as 8,norm', 'all')
    .option('--pooling <kind>', "mean of the patch tokens, or cls: a ViT's class token", 'mean')
    .option('--baseline', 'probe the random start of the same encoder as well, and compare picture by picture (McNemar)')
    .option('--epochs <n>', 'linear, attentive: epochs (default: 90)', wholeNumber)
    .option('--warmup-epochs <n>', 'linear, attentive: epochs of warm-up (default: 10)', positiveNumber)
    .option('--batch-size <n>', 'linear, attentive: images of one update (default: by the size of the set)', wholeNumber)
    .option('--linear-lr <rate>', "linear: peak rate of LARS (default: MAE's 6.4; with --batch-size n: 0.1 n / 256)", positiveNumber)
    .option('--attentive-lr <rate>', 'attentive: peak rate of AdamW (default: 0.001 n / 256 for batches of n)', positiveNumber)
    .option('--no-augment', 'linear: train on the pictures as they are, encoded once')
    .option('--k <n>', 'knn: neighbours', wholeNumber, 20)
    .option('--temperature <t>', 'knn: of the weighted votes', positiveNumber, 0.07)
    .option('--l2 <weight>', 'logistic: of the penalty', positiveNumber, 1e-4)
    .option('--gradient-norm <g>', 'logistic: L-BFGS ends at this norm', positiveNumber, 1e-5)
    .option('--resize-ratio <r>', 'evaluation: resize to r times the image size before the central crop (default: 256/224; up to 32 px: 1)', positiveNumber)
    .option('--workers <n>', 'loader threads', wholeOrZero)
    .option('--keep-features', 'keep the extracted features in OUT/features')
    .option('--out <folder>', 'probe.json and working files (default: probe in the run, else runs/probe)')
    .option('--backend <name>', "tfjs backend: simmim-cpu, or tfjs's own slow 'cpu' for comparison", 'simmim-cpu');
  return addEncoderOptions(command).action((encoder: string, options: Options) => probe(encoder, options, print));
}

/** `simmim probe ENCODER --data DATA`. */
async function probe(encoder: string, options: Options, print: (line: string) => void): Promise<void> {
  const methods = methodsOf(options.method);
  if (options.pooling !== 'mean' && options.pooling !== 'cls') unknownName('probe', 'pooling', options.pooling, ['mean', 'cls']);
  if (options.random && options.baseline) throw new SimmimError('invalid_argument', 'probe', '--baseline compares with the random start, which --random probes already');
  const splits = openLabelledSplits(options.data, { ...(options.validation === undefined ? {} : { validation: options.validation }), seed: options.seed ?? 0 });
  for (const warning of splits.warnings) print(`warning: ${warning}`);
  await useBackend(options.backend);
  const out = options.out ?? (existsSync(checkpointsFolder(encoder)) ? join(encoder, 'probe') : join('runs', 'probe'));
  const report = await probeOnce(encoder, options.random ?? false, methods, splits, options, out, print);
  const baseline = options.baseline ? await probeOnce(encoder, true, methods, splits, options, join(out, 'baseline'), print) : null;
  for (const line of table(report, baseline)) print(line);
  writeWhole(join(out, 'probe.json'), 'probe', `${JSON.stringify({ ...report, baseline }, null, 1)}\n`);
  print(`wrote ${join(out, 'probe.json')}`);
}

function methodsOf(given: readonly string[]): ProbeMethod[] {
  if (given.length === 0) return ['knn', 'logistic'];
  const names = given.flatMap((text) => text.split(','));
  if (names.includes('all')) return [...PROBE_METHODS];
  return names.map((name) => PROBE_METHODS.find((m) => m === name) ?? unknownName('probe', 'method', name, [...PROBE_METHODS, 'all']));
}

async function probeOnce(source: string, random: boolean, methods: readonly ProbeMethod[], splits: LabelledSplits, options: Options, folder: string, print: (line: string) => void): Promise<ProbeReport> {
  const encoder = encoderOf(source, options, random, print);
  print(`${encoder.description}: ${splits.train.length} training and ${splits.validation.length} validation pictures, ${splits.train.classes.length} classes`);
  const { epochs, warmupEpochs, batchSize, linearLr, attentiveLr, augment } = options;
  const given = <T extends object>(values: T): { [K in keyof T]: NonNullable<T[K]> } => Object.fromEntries(Object.entries(values).filter(([, v]) => v !== undefined)) as { [K in keyof T]: NonNullable<T[K]> };
  return runProbe(encoder, splits.train, splits.validation, {
    methods, layers: options.layers, pooling: options.pooling as Pooling, folder, keepFeatures: options.keepFeatures ?? false, reporter: new ProbeProgress(process.stderr),
    ...given({ resizeRatio: options.resizeRatio, workers: options.workers, seed: options.seed }),
    knn: { k: options.k, temperature: options.temperature }, logistic: { l2: options.l2, gradientNorm: options.gradientNorm }, trained: { augment, ...given({ epochs, warmupEpochs, batchSize, linearLr, attentiveLr }) },
  });
}

/** Lines on a terminal's stderr while a probe runs. */
export class ProbeProgress implements ProbeReporter {
  private line: { what: string; count: ReturnType<typeof counter> } | null = null;

  constructor(private readonly output: Output) {}

  extracting(what: string, done: number, total: number): void {
    if (this.line?.what !== what) this.line = { what, count: counter(`features of the ${what} pictures`, total, this.output) };
    this.line.count.at(done);
    if (done >= total) this.end();
  }

  epoch(...[record, epochs, heads]: Parameters<ProbeReporter['epoch']>): void {
    const best = record.top1.reduce<number>((most, v) => Math.max(most, v ?? 0), 0);
    this.output.write(`epoch ${record.epoch + 1}/${epochs}  loss ${record.loss.map((l) => l.toFixed(3)).join(' ')}${best > 0 ? `  best of ${heads.length} heads ${best.toFixed(2)} %` : ''}\n`);
  }

  result(): void {
    this.end();
  }

  private end(): void {
    this.line?.count.end();
    this.line = null;
  }
}

/** A row for each layer, a column for each method; with a baseline also its figures, the gain and p. */
export function table(report: ProbeReport, baseline: ProbeReport | null): string[] {
  const methods = [...new Set(report.results.map((r) => r.method))];
  const layers = [...new Set(report.results.map((r) => r.layer.label))];
  const find = (from: ProbeReport, method: string, label: string): ProbeResult | undefined => from.results.find((r) => r.method === method && r.layer.label === label);
  const cell = (method: string, label: string): string => {
    const own = find(report, method, label);
    const other = baseline && find(baseline, method, label);
    if (!own) return '';
    if (!other) return own.top1.toFixed(2);
    const bits = (r: ProbeResult): boolean[] => [...r.right].map((d) => d === '1');
    return `${own.top1.toFixed(2)} (random ${other.top1.toFixed(2)}, ${own.top1 >= other.top1 ? '+' : ''}${(own.top1 - other.top1).toFixed(2)}, p ${mcnemar(bits(own), bits(other)).p.toPrecision(1)})`;
  };
  const rows = [['top-1 %', ...methods], ...layers.map((label) => [label, ...methods.map((m) => cell(m, label))])];
  const widths = rows[0]?.map((_, c) => Math.max(...rows.map((row) => row[c]?.length ?? 0))) ?? [];
  const unfinished = report.results.filter((r) => r.fit && !r.fit.converged).map((r) => `note: logistic regression on ${r.layer.label} ended at gradient norm ${r.fit?.gradientNorm.toExponential(1) ?? ''} after ${r.fit?.iterations ?? 0} iterations, above the one asked for`);
  return [...rows.map((row) => row.map((text, c) => text.padEnd(widths[c] ?? 0)).join('  ').trimEnd()), ...unfinished];
}
