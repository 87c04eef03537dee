import { join } from 'node:path';
import type { Command } from 'commander';
import { writeWhole } from '../formats/whole_file';
import { reconstructionFigures } from '../report/reconstructions';
import { reportPage } from '../report/report';
import { readRuns } from '../report/run_record';
import { writeEventFiles } from '../report/tensorboard';
import { wholeNumber } from './arguments';
import { useBackend } from './backend';

/** Options of `simmim report`. */
interface Options {
  out?: string;
  images?: string;
  count: number;
  pictures: boolean;
  tensorboard?: string;
  backend: string;
}

/** Adds `simmim report` to the command line. */
export function registerReport(cli: Command, print: (line: string) => void): Command {
  return cli.command('report <runs...>')
    .description('one HTML page about one or several runs side by side: key figures, curves, probes, reconstructions; it needs nothing but itself')
    .option('--out <file>', 'the page (default: report.html in the first run)')
    .option('--images <data>', "pictures to reconstruct (default: each run's validation pictures)")
    .option('--count <n>', 'pictures in each figure', wholeNumber, 6)
    .option('--no-pictures', 'leave the reconstructions out: no model is loaded')
    .option('--tensorboard <folder>', "write the runs' curves as TensorBoard event files instead")
    .option('--backend <name>', 'tfjs backend', 'simmim-cpu')
    .action((runs: string[], options: Options) => report(runs, options, print));
}

/** `simmim report RUN...`. */
async function report(folders: readonly string[], options: Options, print: (line: string) => void): Promise<void> {
  const runs = readRuns(folders);
  if (options.tensorboard !== undefined) {
    for (const folder of writeEventFiles(runs, options.tensorboard)) print(`wrote an event file in '${folder}'`);
    print(`to see them: tensorboard --logdir ${options.tensorboard}`);
    return;
  }
  const notes: string[] = [];
  const note = (sentence: string): void => {
    notes.push(sentence);
    print(`note: ${sentence}`);
  };
  if (options.pictures) await useBackend(options.backend);
  const figures = options.pictures ? await reconstructionFigures(runs, { note, count: options.count, ...(options.images === undefined ? {} : { images: options.images }) }) : [];
  const file = options.out ?? join(folders[0] ?? '.', 'report.html');
  writeWhole(file, 'report', await reportPage(runs, { figures, notes }));
  print(`wrote ${file}`);
}
