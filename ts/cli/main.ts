#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { gridNames, gridText } from '../ablation/grid';
import { SimmimError } from '../errors';
import { experimentNames, experimentText } from '../experiment/spec';
import { nearest } from '../train/recipe';
import { recipeNames, recipeText } from '../train/recipe_files';
import { versions } from '../train/run';
import { collect, wholeNumber } from './arguments';
import { registerAblate } from './ablate';
import { registerAvgDist } from './avgdist';
import { addDeviceOption } from './backend';
import { registerBench } from './bench';
import { registerCluster } from './cluster';
import { registerConvert } from './convert';
import { doctor } from './doctor';
import { info, type InfoOptions } from './info';
import { registerEvaluate } from './evaluate';
import { registerExperiment } from './experiment';
import { registerFeatures } from './features';
import { registerFinetune } from './finetune';
import { registerPack } from './pack';
import { pretrain } from './pretrain';
import { registerPlan } from './plan';
import { registerPreview } from './preview';
import { registerProbe } from './probe';
import { registerReport } from './report';
import type { TrainOptions } from './run_folder';
import { registerStats } from './stats';
import { registerTokenizer } from './tokenizer';
import { visualize, type VisualizeOptions } from './visualize';

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** The text of a recipe, grid or experiment of the package, or of a recipe's file. */
function textOf(name: string): string {
  if (gridNames().includes(name)) return gridText(name);
  return name.startsWith('experiments/') ? experimentText(name) : recipeText(name);
}

/** The command line. The addon is loaded by the commands that compute, not by the others. */
export function program(): Command {
  const cli = new Command('simmim').description('Masked image modelling (SimMIM) on a native tfjs backend').version(versions().simmim ?? '', '--version');
  const backend = ['--backend <name>', "tfjs backend: simmim-cpu, or tfjs's own slow 'cpu' for comparison", 'simmim-cpu'] as const;
  cli.command('pretrain').description('pre-train a model on a folder of pictures')
    .option('--recipe <name>', "recipe of the package (see 'simmim recipes') or a .yaml file")
    .option('--data <folder>', 'folder of pictures (train/ and val/ inside it are used as such)')
    .option('--out <folder>', 'folder of the run: log, checkpoints, pictures (default: runs/RECIPE)')
    .option('--precision <f32|bf16>', 'what to compute in (train.precision of the recipe): bf16 is faster and takes less memory')
    .option('--set <key=value>', 'override one value of the recipe, such as train.batchSize=64; may be repeated', collect, [])
    .option('--print-config', 'print the whole recipe and end')
    .option('--resume', 'continue the run in --out from its newest complete checkpoint')
    .option('--overwrite', 'replace the run in --out')
    .option('--tensorboard', 'write TensorBoard event files to tensorboard/ of the run')
    .option(...backend)
    .action((options: TrainOptions) => pretrain(options, print));
  cli.command('visualize <run>').description('write reconstructions of a checkpoint as PNG and HTML; RUN is the folder of a run or of one checkpoint')
    .option('--images <folder>', "pictures to reconstruct (default: the run's validation pictures)")
    .option('--out <path>', 'PATH.png and PATH.html are written (default: reconstruction in the checkpoint)')
    .option('--count <n>', 'number of pictures', wholeNumber, 8)
    .option('--seed <n>', 'seed of the masks', wholeNumber)
    .option(...backend)
    .action((run: string, options: VisualizeOptions) => visualize(run, options, print));
  cli.command('info [presets...]').description('parameters, operations and memory of models')
    .option('--recipe <name>', "a recipe's model instead of a preset")
    .option('--image-size <pixels>', 'other than the preset or recipe has')
    .option('--set <key=value>', 'override, such as model.windowSize=12; may be repeated', collect, [])
    .option('--classes <n>', "of a fine-tuning recipe's head", wholeNumber, 1000)
    .action((presets: string[], options: InfoOptions) => info(presets, options, print));
  cli.command('recipes [name]').description('list recipes, grids of recipes (ablations/*) and experiments (experiments/*), or print one with its comments')
    .action((name?: string) => (name === undefined ? [...recipeNames(), ...gridNames(), ...experimentNames().map((n) => `experiments/${n}`)] : [textOf(name)]).forEach((text) => print(text.trimEnd())));
  registerFinetune(cli, print);
  registerEvaluate(cli, print);
  registerConvert(cli, print);
  registerAblate(cli, print);
  registerAvgDist(cli, print);
  registerExperiment(cli, print);
  registerProbe(cli, print);
  registerReport(cli, print);
  registerPreview(cli, print);
  registerFeatures(cli, print);
  registerStats(cli, print);
  registerTokenizer(cli, print);
  registerPlan(cli, print);
  registerBench(cli, print);
  registerPack(cli, print);
  registerCluster(cli, print);
  cli.command('doctor').description('check this installation').action(() => doctor(print));
  addDeviceOption(cli);
  for (const command of [cli, ...cli.commands]) command.exitOverride().configureOutput({ writeErr: () => undefined }).allowExcessArguments(false).showSuggestionAfterError(false);
  return cli;
}

/** Runs the command line; returns the exit code, after one sentence on stderr for whatever went wrong. */
export async function main(args: readonly string[], complain: (line: string) => void = (line) => void process.stderr.write(`${line}\n`)): Promise<number> {
  const cli = program();
  try {
    if (args.length === 0) {
      print(cli.helpInformation().trimEnd());
      return 0;
    }
    await cli.parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help, --version
    complain(`simmim: ${explain(error, cli, args)}`);
    return 1;
  }
}

function explain(error: unknown, cli: Command, args: readonly string[]): string {
  if (error instanceof SimmimError) return error.message;
  if (!(error instanceof CommanderError)) return `internal error, please report: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  const command = cli.commands.find((c) => c.name() === args[0]) ?? cli;
  const wanted = /'([^']+)'/.exec(error.message)?.[1] ?? '';
  const candidates = error.code === 'commander.unknownCommand' ? cli.commands.map((c) => c.name())
    : error.code === 'commander.unknownOption' ? [...command.options, ...cli.options].map((o) => o.long ?? '').concat('--help') : [];
  const guess = nearest(wanted, candidates);
  const known = candidates.length > 0 && !guess ? ` (there are ${candidates.join(', ')})` : '';
  return `${error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ')}${guess ? `, did you mean '${guess}'?` : known}`;
}

if (require.main === module) {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1)); // as in `simmim info | head`
  void main(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
  });
}
