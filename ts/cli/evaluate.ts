import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { markdownTable, type Table } from '../charts';
import { findSplits, openLabelledSet, type ImageDataset, type Normalisation } from '../data';
import { SimmimError } from '../errors';
import { writeWhole } from '../formats/whole_file';
import { encoderFromConfig, loadPretrained } from '../models';
import { IMAGENET } from '../image_statistics';
import { disposeModel, namedParameters } from '../nn/module';
import { Classifier } from '../simmim';
import { demoSplits } from '../train/demo_set';
import { evaluateClassifier, type ClassifierEvaluation } from '../train/evaluate_classifier';
import { openEvaluation } from '../train/finetune_data';
import { checkClasses, withSource } from '../train/finetune_run';
import { checkpointsFolder } from '../train/checkpoint';
import type { RunEvaluation } from '../train/metrics';
import { findWeights, type FoundWeights } from '../train/weights_source';
import { positiveNumber, wholeNumber, wholeOrZero } from './arguments';
import { useBackend } from './backend';
import { classFigures } from './progress';

/** Options of `simmim evaluate`. */
interface Options {
  data: string;
  out?: string;
  ema?: boolean;
  resizeRatio?: number;
  batchSize?: number;
  workers?: number;
  window?: number;
  heads?: number;
  backend: string;
}

/** Confusion matrices are printed up to so many classes. */
const SHOWN_CLASSES = 12;

/** Adds `simmim evaluate` to the command line. */
export function registerEvaluate(cli: Command, print: (line: string) => void): Command {
  return cli.command('evaluate <classifier>')
    .description("top-1, top-5 and the confusion matrix of a classifier on labelled pictures; CLASSIFIER is a run of 'simmim finetune', one of its checkpoints, or any classifier that convert reads")
    .requiredOption('--data <data>', "labelled pictures: a folder with CLASS/ folders (or val/ and the like with them), shards, .csv, CIFAR; 'demo': the tiles that the demo is judged on")
    .option('--ema', "the moving average of the run's weights")
    .option('--resize-ratio <r>', 'resize to r times the image size before the central crop (default: 256/224; up to 32 px: 1)', positiveNumber)
    .option('--batch-size <n>', 'pictures at a time', wholeNumber, 64)
    .option('--workers <n>', 'loader threads', wholeOrZero)
    .option('--window <tokens>', 'window size, where the weights do not tell', wholeNumber)
    .option('--heads <number>', "a ViT's heads, where the weights do not tell", wholeNumber)
    .option('--out <file>', 'figures, confusion matrix and every picture\'s result as JSON (default: evaluation.json in the run, else none)')
    .option('--backend <name>', "tfjs backend: simmim-cpu, or tfjs's own slow 'cpu' for comparison", 'simmim-cpu')
    .action((classifier: string, options: Options) => evaluate(classifier, options, print));
}

/** `simmim evaluate CLASSIFIER --data DATA`. */
async function evaluate(source: string, options: Options, print: (line: string) => void): Promise<void> {
  const { window, heads } = options;
  const weights = findWeights(source, { ema: options.ema ?? false, note: print, known: { ...(window === undefined ? {} : { windowSize: window }), ...(heads === undefined ? {} : { heads }) } });
  if (weights.config.classes === 0) throw new SimmimError('invalid_argument', 'evaluate', `'${source}' has no classification head: fine-tune it first (simmim finetune --init ${source}), or probe its features (simmim probe)`);
  const names = weights.checkpoint?.state.classifier?.names ?? null;
  const set = openSet(options.data, names);
  if (!names && set.classes.length !== weights.config.classes) throw new SimmimError('invalid_argument', 'evaluate', `'${source}' tells ${weights.config.classes} classes apart, '${options.data}' has ${set.classes.length}`);
  await useBackend(options.backend);
  const result = await judge(weights, set, options);
  const what = weights.checkpoint ? `${weights.path}${options.ema ? ', moving average' : ''}` : source;
  print(`${what}: ${classFigures(result)}`);
  if (set.classes.length <= SHOWN_CLASSES) for (const line of markdownTable(confusionTable(set.classes, result))) print(line);
  const file = options.out ?? (existsSync(checkpointsFolder(source)) ? join(source, 'evaluation.json') : null);
  if (file === null) return;
  const { right, ...figures } = result;
  const report: RunEvaluation = { weights: what, classes: [...set.classes], ...figures, right: right.map(Number).join('') };
  writeWhole(file, 'evaluate', `${JSON.stringify(report)}\n`);
  print(`wrote ${file}`);
}

function openSet(data: string, names: readonly string[] | null): ImageDataset {
  const set = data === 'demo' ? demoSplits().validation : openLabelledSet(findSplits(data).val ?? data, names);
  if (names) checkClasses(names, set.classes, 'the classifier');
  return set;
}

async function judge({ config, state, statistics, path }: FoundWeights, set: ImageDataset, options: Options): Promise<ClassifierEvaluation> {
  const model = new Classifier(encoderFromConfig(config), { classes: config.classes });
  const { missing } = loadPretrained(namedParameters(model), state);
  if (missing.length > 0) throw new SimmimError('corrupt', 'evaluate', `'${path}' lacks ${missing.length} parts of a classifier: ${missing.slice(0, 5).join(', ')}`);
  const { size, ...rest } = { size: model.encoder.imageSize, normalisation: (statistics as Normalisation | null) ?? IMAGENET };
  const held = openEvaluation(set, { size, ...rest, resizeRatio: options.resizeRatio ?? null, batchSize: options.batchSize ?? null, workers: options.workers ?? null, maxBrokenShare: 0 });
  try {
    return await withSource(held, (open) => evaluateClassifier(model, open));
  } finally {
    disposeModel(model);
  }
}

/** A row for each class: what its pictures were taken for, and how many percent were right. */
function confusionTable(classes: readonly string[], { confusion }: ClassifierEvaluation): Table {
  return {
    headings: ['class, taken for', ...classes, 'right %'],
    rows: confusion.map((row, i) => [classes[i] ?? '', ...row, ((100 * (row[i] ?? 0)) / row.reduce((a, b) => a + b, 0)).toFixed(1)]),
  };
}
