import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { loadGrid, type Grid } from '../ablation/grid';
import { resultNotes, resultTable, writeReport } from '../ablation/report';
import { cellFolder, forgetCells, maskedLoss, runGrid, speed, type AfterCell, type CellResult } from '../ablation/run';
import { markdownTable } from '../charts';
import { collect } from './arguments';
import { useBackend } from './backend';
import { ConsoleReporter } from './progress';
import { withSignals } from './signals';
import { writePictures } from './visualize';

/** Options of `simmim ablate`, as given. */
export interface AblateOptions {
  data?: string;
  out?: string;
  set: string[];
  list?: boolean;
  overwrite?: boolean;
  backend: string;
}

/** Adds `simmim ablate` to the command line. */
export function registerAblate(cli: Command, print: (line: string) => void): Command {
  return cli.command('ablate <grid>')
    .description("train every cell of a grid of recipes (see 'simmim recipes': ablations/*, or a .yaml file) and compare them; the same command continues a grid that was stopped")
    .option('--data <folder>', 'folder of pictures (train/ and val/ inside it are used as such)')
    .option('--out <folder>', 'folder of the grid: cells/, table.md, table.csv, plots.svg (default: runs/ablate-NAME)')
    .option('--set <key=value>', 'override a value of every cell, such as train.epochs=3; may be repeated', collect, [])
    .option('--list', 'print the cells, their AvgDist and the published values, and end')
    .option('--overwrite', 'forget the results in --out')
    .option('--backend <name>', 'tfjs backend', 'simmim-cpu')
    .action((name: string, options: AblateOptions) => ablate(name, options, print));
}

/** `simmim ablate GRID`. */
export async function ablate(name: string, options: AblateOptions, print: (line: string) => void): Promise<void> {
  const data = options.data === undefined ? [] : ['data.source=folder', `data.folder=${JSON.stringify(resolve(options.data))}`];
  const grid = loadGrid(name, [...data, ...options.set]);
  if (options.list) {
    printTable(grid, new Map(), print);
    return;
  }
  const out = options.out ?? join('runs', `ablate-${grid.name.replaceAll('/', '-')}`);
  await useBackend(options.backend);
  if (options.overwrite) forgetCells(grid, out);
  let stop = (): void => undefined;
  let note = (sentence: string): void => print(sentence);
  const { results, complete } = await withSignals(() => stop(), (sentence) => note(sentence), () => runGrid(grid, {
    out, after: [maskedLoss, speed, pictures],
    reporter: (cell) => {
      const reporter = new ConsoleReporter(cell.recipe.train.epochs, process.stderr);
      note = (sentence) => reporter.note(sentence);
      return reporter;
    },
    onCell: (cell, finished, total) => print(`cell ${finished + 1} of ${total}: ${cell.id} (run folder '${cellFolder(out, cell.id)}')`),
    onResult: (sofar) => void writeReport(grid, sofar, out),
    onStart: (ending) => (stop = ending),
  }));
  printTable(grid, results, print);
  print(`wrote ${writeReport(grid, results, out).join(', ')}`);
  if (!complete) print(`stopped with ${results.size} of ${grid.cells.length} cells finished: the same command continues`);
}

/** What the run of a cell would have written by itself. */
const pictures: AfterCell = async ({ built, data }, recipe, folder) => {
  if (data.validation) await writePictures(built, recipe, join(folder, 'reconstruction'), { count: 8 }, {});
  return {};
};

function printTable(grid: Grid, results: ReadonlyMap<string, CellResult>, print: (line: string) => void): void {
  markdownTable(resultTable(grid, results)).forEach(print);
  print('');
  resultNotes(grid, results).forEach(print);
}
