import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { EventReporter } from '../report/tensorboard';
import { recipeOf, type Checkpoint } from '../train/checkpoint';
import { parseFinetune, type FinetuneRecipe } from '../train/finetune_recipe';
import { openFinetune, type OpenFinetune } from '../train/finetune_run';
import { isMasked } from '../train/metrics';
import { applyOverrides, recipeToYaml } from '../train/recipe';
import { loadFinetune } from '../train/recipe_files';
import type { RunSummary } from '../train/trainer';
import { collect } from './arguments';
import { useBackend } from './backend';
import { classFigures, ConsoleReporter } from './progress';
import { checkResumable, precisionOverride, prepareFolder, resumedCheckpoint, runFolder, type TrainOptions } from './run_folder';
import { withSignals } from './signals';

/** Options of `simmim finetune`. */
interface Options extends TrainOptions {
  init?: string;
  fromScratch?: boolean;
  validation?: string;
}

/** Adds `simmim finetune` to the command line. */
export function registerFinetune(cli: Command, print: (line: string) => void): Command {
  return cli.command('finetune')
    .description('train a classifier on labelled pictures, from pre-trained weights or from scratch')
    .option('--recipe <name>', "recipe of the package (see 'simmim recipes': finetune/*, */finetune_*) or a .yaml file")
    .option('--init <weights>', "where the encoder's weights come from: a run, a checkpoint, or anything that convert reads (default: the recipe's init, else a random start)")
    .option('--from-scratch', 'only the architecture of these weights, at its random start: what pre-training is compared with')
    .option('--data <data>', 'labelled pictures: a folder with CLASS/ (or train/CLASS/ and val/CLASS/), shards, .csv, CIFAR')
    .option('--validation <data>', 'labelled pictures to judge on (default: val/ and the like, else a fifth of each class)')
    .option('--out <folder>', 'folder of the run: log, checkpoints (default: runs/RECIPE)')
    .option('--precision <f32|bf16>', 'what to train in (train.precision of the recipe): bf16 is faster and takes less memory')
    .option('--set <key=value>', 'override one value of the recipe, such as optimizer.layerDecay=0.65; may be repeated', collect, [])
    .option('--print-config', 'print the whole recipe and end')
    .option('--resume', 'continue the run in --out from its newest complete checkpoint')
    .option('--overwrite', 'replace the run in --out')
    .option('--tensorboard', 'write TensorBoard event files to tensorboard/ of the run')
    .option('--backend <name>', "tfjs backend: simmim-cpu, or tfjs's own slow 'cpu' for comparison", 'simmim-cpu')
    .action((options: Options) => finetune(options, print));
}

/** `simmim finetune`: trains, saves, validates. */
async function finetune(options: Options, print: (line: string) => void): Promise<void> {
  const out = runFolder('finetune', options);
  const checkpoint = resumedCheckpoint('finetune', out, options, print);
  const recipe = chooseRecipe(options, checkpoint);
  if (options.printConfig) {
    print(recipeToYaml(recipe).trimEnd());
    return;
  }
  prepareFolder('finetune', out, options);
  await useBackend(options.backend);
  const reporter = new ConsoleReporter(recipe.train.epochs, process.stderr);
  const events = options.tensorboard ? new EventReporter(reporter, join(out, 'tensorboard'), checkpoint?.state.position.update ?? 0) : null;
  const run = openFinetune(recipe, out, events ?? reporter, checkpoint);
  try {
    writeFileSync(join(out, 'recipe.yaml'), recipeToYaml(recipe));
    announce(run, recipe, out, checkpoint, print);
    const summary = await withSignals(() => run.trainer.requestStop(), (sentence) => reporter.note(sentence), () => run.trainer.run());
    conclude(run, out, summary, print);
  } finally {
    await run.close();
    events?.close();
  }
}

/** The recipe: from the file, or on resume from the checkpoint, with which a given one must agree. */
function chooseRecipe(options: Options, checkpoint: Checkpoint | null): FinetuneRecipe {
  const path = (key: string, value: string | undefined): string[] => (value === undefined ? [] : [`${key}=${JSON.stringify(resolve(value))}`]);
  const source = options.data === undefined ? [] : ['data.source=folder'];
  const overrides = [...source, ...path('data.folder', options.data), ...path('data.validationFolder', options.validation), ...path('init', options.init), ...(options.fromScratch ? ['fromScratch=true'] : []), ...options.set, ...precisionOverride(options)];
  if (!checkpoint) return loadFinetune(options.recipe ?? '', overrides);
  const stored = recipeOf(checkpoint, 'finetune');
  const wanted = options.recipe ? loadFinetune(options.recipe, overrides) : overrides.length > 0 ? parseFinetune(applyOverrides(stored, overrides), '--set') : stored;
  return checkResumable('finetune', checkpoint, stored, wanted);
}

function announce({ built, buffers, data, trainer }: OpenFinetune, recipe: FinetuneRecipe, out: string, checkpoint: Checkpoint | null, print: (line: string) => void): void {
  const { model: { encoder }, load, notes } = built;
  print(`${recipe.name}: ${encoder.name} at ${encoder.imageSize.join(' x ')} px, ${(buffers.size / 1e6).toFixed(2)} M parameters, ${new Set(buffers.lrScales).size} layers of learning rates`);
  print(`data: ${data.description}`);
  for (const warning of data.warnings) print(`warning: ${warning}`);
  if (checkpoint) print(`continuing from '${checkpoint.folder}' after update ${checkpoint.state.position.update}`);
  else print(load ? `weights: ${load.loaded.length + load.resized.length} parameters from '${recipe.init ?? ''}', ${load.missing.length + load.mismatched.length} at their random start` : 'weights: a random start');
  for (const note of notes) print(`note: ${note}`);
  print(`${trainer.updates} updates of ${recipe.train.batchSize * recipe.train.accumulation} images; log, recipe and checkpoints go to '${out}'`);
}

function conclude(run: OpenFinetune, out: string, summary: RunSummary, print: (line: string) => void): void {
  const broken = run.broken();
  if (broken.length > 0) print(`${broken.length} broken pictures were left out, the first being '${broken[0] ?? ''}'`);
  if (summary.skipped > 0) print(`${summary.skipped} updates were skipped because a loss or gradient was not finite`);
  if (summary.end === 'stopped') {
    print(`stopped after update ${summary.update}, saved in '${summary.checkpoint}'; continue with: simmim finetune --resume --out ${out}`);
    return;
  }
  if (summary.validation && !isMasked(summary.validation)) print(`validation: ${classFigures(summary.validation)}; always guessing the commonest class gets ${commonest(run).toFixed(2)} %`);
  print(`checkpoint: ${summary.checkpoint}`);
}

/** Percent of the validation pictures that are of the class most frequent in training. */
function commonest({ data: { train, validation } }: OpenFinetune): number {
  const counts = train.classCounts();
  return (100 * (validation.classCounts()[counts.indexOf(Math.max(...counts))] ?? 0)) / validation.length;
}
