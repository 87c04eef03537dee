import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { markdownTable, type Table } from '../charts';
import { findSplits, openLabelledSplits } from '../data';
import { SimmimError } from '../errors';
import { demoSplits } from '../train/demo_set';
import { runExperiment, type ExperimentResults } from '../experiment/run';
import { loadExperiment, type Experiment } from '../experiment/spec';
import { checks, checkTable, tables } from '../experiment/verdict';
import { reportPage } from '../report/report';
import { readRuns } from '../report/run_record';
import { collect, numberList } from './arguments';
import { useBackend } from './backend';
import { writeWhole } from '../formats/whole_file';
import { ProbeProgress } from './probe';
import { ConsoleReporter } from './progress';
import { withSignals } from './signals';

/** Options of `simmim experiment`. */
interface Options {
  data?: string;
  out?: string;
  seeds?: number[];
  arm: string[];
  set: string[];
  backend: string;
}

/** Adds `simmim experiment` to the command line. */
export function registerExperiment(cli: Command, print: (line: string) => void): Command {
  return cli.command('experiment <name>')
    .description("run an experiment (see 'simmim recipes': experiments/*, or a .yaml file): pre-train with several seeds, probe and fine-tune against the random start, and hold the figures to what is expected; the same command continues one that was stopped")
    .option('--data <data>', 'labelled pictures: a folder with train and val parts, such as CIFAR-10 in its binary format')
    .option('--out <folder>', 'folder of the experiment: ARM/seed-N/, table.md, results.json, report.html (default: runs/NAME)')
    .option('--seeds <list>', "seeds instead of the file's, with commas", numberList)
    .option('--arm <name>', 'only this arm; may be repeated', collect, [])
    .option('--set <key=value>', 'override a value of every pre-training recipe, such as train.epochs=1; may be repeated', collect, [])
    .option('--backend <name>', 'tfjs backend', 'simmim-cpu')
    .action((name: string, options: Options) => experiment(name, options, print));
}

/** `simmim experiment NAME`. Rejects when an expectation is not met. */
async function experiment(name: string, options: Options, print: (line: string) => void): Promise<void> {
  const plan = loadExperiment(name, { set: options.set, ...(options.seeds ? { seeds: options.seeds } : {}), ...(options.arm.length > 0 ? { arms: options.arm } : {}) });
  const parts = dataOf(plan, options.data, print);
  const out = options.out ?? join('runs', plan.name.replace(/^experiments\//, ''));
  await useBackend(options.backend);
  let stop = (): void => undefined;
  const { results, complete } = await withSignals(() => stop(), print, () => runExperiment(plan, {
    ...parts, out, reporter: (epochs) => new ConsoleReporter(epochs, process.stderr), probeReporter: new ProbeProgress(process.stderr),
    onStep: print, onStart: (ending) => (stop = ending), onResult: (sofar) => void writeResults(plan, sofar, out),
  }));
  if (!complete) {
    print(`stopped: the same command continues`);
    return;
  }
  writeResults(plan, results, out).forEach(print);
  const runs = readRuns([...results].flatMap(([arm, seeds]) => seeds.flatMap(({ seed, finetune }) => ['pretrain', ...(finetune ? ['finetune', 'scratch'] : [])].map((part) => join(out, arm, `seed-${seed}`, part)))));
  writeWhole(join(out, 'report.html'), 'experiment', await reportPage(runs, { title: plan.name, results: { title: 'Results', tables: allTables(plan, results) } }));
  print(`wrote ${['table.md', 'results.json', 'report.html'].map((name) => join(out, name)).join(', ')}`);
  const failed = checks(plan, results).filter((c) => !c.passed);
  if (failed.length > 0) throw new SimmimError('invalid_argument', plan.name, `${failed.length} expectations were not met, the first being ${failed[0]?.what ?? ''}: ${failed[0]?.got.toFixed(4) ?? ''}, expected ${failed[0]?.expected ?? ''}`);
}

function dataOf(plan: Experiment, data: string | undefined, print: (line: string) => void): Pick<Parameters<typeof runExperiment>[1], 'data' | 'pretrainData' | 'labelledData'> {
  if (plan.data === 'demo') {
    if (data !== undefined) throw new SimmimError('invalid_argument', plan.name, "runs on the package's photographs and takes no --data");
    return { data: demoSplits(), pretrainData: { source: 'demo', folder: null }, labelledData: { source: 'demo', folder: null } };
  }
  if (data === undefined) throw new SimmimError('invalid_argument', plan.name, 'needs labelled pictures: give their folder with --data');
  const splits = openLabelledSplits(data);
  for (const warning of splits.warnings) print(`warning: ${warning}`);
  return { data: splits, pretrainData: { source: 'folder', folder: resolve(findSplits(data).train) }, labelledData: { source: 'folder', folder: resolve(data) } };
}

/** The tables of results, then that of the expectations. */
function allTables(plan: Experiment, results: ExperimentResults): Table[] {
  const found = checks(plan, results);
  return [...tables(plan, results), ...(found.length > 0 ? [checkTable(found)] : [])];
}

/** Writes table.md and results.json of what is there so far; returns the lines of the first. */
function writeResults(plan: Experiment, results: ExperimentResults, out: string): string[] {
  const found = checks(plan, results);
  const lines = allTables(plan, results).flatMap((table) => [...markdownTable(table), '']);
  const bits = (right: boolean[]): string => right.map(Number).join('');
  writeWhole(join(out, 'table.md'), 'experiment', `# ${plan.name}\n\n${lines.join('\n')}`);
  writeWhole(join(out, 'results.json'), 'experiment', `${JSON.stringify({ name: plan.name, results: Object.fromEntries(results), checks: found }, (key, value: unknown) => (key === 'right' ? bits(value as boolean[]) : value), 1)}\n`);
  return lines;
}
