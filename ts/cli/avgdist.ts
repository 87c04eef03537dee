import type { Command } from 'commander';
import { definition, distanceCharts, distanceTable, measureDistances, paperStrategies, quotation } from '../ablation/avg_dist_table';
import { canDrawText, csvTable, markdownTable, pngOfSvg, svgFigure } from '../charts';
import { SimmimError } from '../errors';
import { distanceUnits, type DistanceUnit, type MaskStrategy } from '../simmim';
import { imageSizeOf } from '../train/recipe';
import { loadRecipe } from '../train/recipe_files';
import { maskStrategy, withMaskGrid } from '../train/task';
import { collect, numberList, wholeNumber } from './arguments';
import { writeWhole } from '../formats/whole_file';

/** Options of `simmim avgdist`, as given. */
export interface AvgDistOptions {
  strategy?: string;
  patch?: number[];
  ratio?: number[];
  minCells?: number;
  recipe?: string;
  set: string[];
  imageSize?: number[];
  unit: string;
  draws: number;
  seed: number;
  out?: string;
}

/** Adds `simmim avgdist` to the command line. */
export function registerAvgDist(cli: Command, print: (line: string) => void): Command {
  return cli.command('avgdist')
    .description("measure AvgDist, the mean distance of hidden to visible parts, and draw the paper's Fig. 3; without options: all of its strategies and ratios")
    .option('--strategy <kind>', 'random, square or block')
    .option('--patch <px,...>', 'sides of mask cells', numberList)
    .option('--ratio <share,...>', 'shares to hide', numberList)
    .option('--min-cells <n>', 'block: fewest cells of one block (default: as many as make 64 x 64 pixels)', wholeNumber)
    .option('--recipe <name>', 'measure what a recipe hides')
    .option('--set <key=value>', "override a value of the recipe, such as masking.ratio=0.5; may be repeated", collect, [])
    .option('--image-size <px>', 'one number, or HEIGHT,WIDTH (default: 192)', numberList)
    .option('--unit <unit>', "token (distances on the grid of 4-px tokens, as the paper's values) or pixel", 'token')
    .option('--draws <n>', 'masks to average over', wholeNumber, 500)
    .option('--seed <n>', 'seed of the masks', wholeNumber, 1)
    .option('--out <path>', 'write PATH.svg, PATH.png and PATH.csv')
    .action((options: AvgDistOptions) => avgdist(options, print));
}

/** `simmim avgdist`: the table, and with `--out` the figure. */
export async function avgdist(options: AvgDistOptions, print: (line: string) => void): Promise<void> {
  const unit = options.unit as DistanceUnit;
  if (!distanceUnits.includes(unit)) throw new SimmimError('invalid_argument', 'avgdist', `--unit is '${options.unit}', expected ${distanceUnits.join(' or ')}`);
  const { strategies, size } = await chooseMasks(options);
  const { draws, seed } = options;
  const rows = measureDistances(strategies, size, unit, { draws, seed });
  const table = distanceTable(rows, unit);
  markdownTable(table).forEach(print);
  print('');
  print(definition(unit, draws));
  if (rows.some((row) => row.published)) print(`The paper's columns: ${quotation()}`);
  if (options.out === undefined) return;
  const stem = options.out.replace(/\.(svg|png|csv)$/, '');
  const svg = svgFigure(distanceCharts(rows, unit, draws));
  writeWhole(`${stem}.svg`, 'avgdist', svg);
  writeWhole(`${stem}.png`, 'avgdist', await pngOfSvg(svg));
  writeWhole(`${stem}.csv`, 'avgdist', csvTable(table));
  print(`wrote ${stem}.svg, ${stem}.png, ${stem}.csv`);
  if (!(await canDrawText())) print('note: this machine has no font, so the PNG has no text; the SVG has');
}

async function chooseMasks(options: AvgDistOptions): Promise<{ strategies: MaskStrategy[]; size: [number, number] }> {
  const refuse = (message: string): never => {
    throw new SimmimError('invalid_argument', 'avgdist', message);
  };
  const [height = 192, width = height, extra] = options.imageSize ?? [];
  if (extra !== undefined || [height, width].some((n) => !Number.isInteger(n) || n < 1)) refuse(`--image-size is ${(options.imageSize ?? []).join(',')}, expected one or two whole numbers of pixels`);
  const { strategy, patch, ratio, minCells } = options;
  if (options.recipe !== undefined) {
    if (strategy !== undefined || patch || ratio || minCells || options.imageSize) refuse('--recipe says what is hidden and of what size: change it with --set');
    const recipe = await withMaskGrid(loadRecipe(options.recipe, options.set));
    return { strategies: [maskStrategy(recipe)], size: imageSizeOf(recipe) };
  }
  if (options.set.length > 0) refuse('--set overrides a recipe: name it with --recipe');
  if (strategy === undefined && !patch && !ratio && !minCells) return { strategies: paperStrategies(), size: [height, width] };
  const kind = strategy ?? 'random';
  if (kind !== 'random' && kind !== 'square' && kind !== 'block') return refuse(`--strategy is '${kind}', expected random, square or block (explicit masks: --recipe)`);
  if (minCells && kind !== 'block') refuse(`--min-cells is given, but --strategy is ${kind}: only blocks have a smallest size`);
  return { strategies: (patch ?? [32]).flatMap((p) => (ratio ?? [0.6]).map((r): MaskStrategy => ({ kind, patch: p, ratio: r, ...(minCells ? { minCells } : {}) }))), size: [height, width] };
}
