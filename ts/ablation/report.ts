import { join } from 'node:path';
import { csvTable, markdownTable, svgFigure, type Chart, type Point, type Series, type Table } from '../charts';
import { writeWhole } from '../formats/whole_file';
import { countParameters } from '../nn/module';
import { short } from '../train/metrics';
import { buildModel } from '../train/model_build';
import { imageSizeOf } from '../train/recipe';
import { GOOD_RANGE } from './avg_dist_table';
import type { Grid, GridCell } from './grid';
import { maskOf, type CellResult } from './run';

/** Results of a grid so far: cell -> result. */
export type Results = ReadonlyMap<string, CellResult>;

const COMPARABLE = 'Masked losses compare where cells hide and predict the same: "share of it" is the loss over that of the best constant, which compares a little further.';

/** Columns that hold measured numbers, in order of their first appearance. */
function measuredHeadings(results: Results): string[] {
  return [...new Set([...results.values()].flatMap((r) => Object.keys(r.measured)))];
}

const shown = (v: unknown): string => (typeof v === 'string' ? v : JSON.stringify(v));

/** Digits behind the point that all of these numbers need. */
const decimals = (values: readonly (number | undefined)[]): number => Math.max(0, ...values.map((v) => (String(v ?? '').split('.')[1] ?? '').length));

/** One row for each cell: what it varies, AvgDist, what was measured, what is published. Cells without a result have only the first and the last. */
export function resultTable(grid: Grid, results: Results): Table {
  const headings = measuredHeadings(results);
  const columns = Object.entries(grid.published?.columns ?? {}).map(([key, heading]) => ({ key, heading, digits: decimals(grid.cells.map((c) => c.published[key])) }));
  const counted = grid.keys.some((key) => key === 'head' || key.startsWith('model.'));
  const failed = [...results.values()].some((r) => r.failed !== null);
  return {
    headings: [...grid.keys, 'hidden', 'AvgDist (px)', ...(counted ? ['parameters (M)'] : []), ...headings, ...(failed ? ['failed'] : []), ...columns.map(({ heading }) => `published ${heading}`)],
    rows: grid.cells.map((cell) => {
      const result = results.get(cell.id);
      const { hidden, avgDist } = result ?? maskOf(cell.recipe);
      return [
        ...grid.keys.map((key) => (key in cell.settings ? shown(cell.settings[key]) : null)), hidden.toFixed(3), avgDist === null ? null : avgDist.toFixed(2),
        ...(counted ? [(countParameters(buildModel(cell.recipe).model) / 1e6).toFixed(2)] : []),
        ...headings.map((h) => (result?.measured[h] === undefined ? null : short(result.measured[h]))), ...(failed ? [result?.failed ?? null] : []), ...columns.map(({ key, digits }) => cell.published[key]?.toFixed(digits) ?? null),
      ];
    }),
  };
}

/** The notes below table and plots. */
export function resultNotes(grid: Grid, results: Results): string[] {
  const marked = grid.cells.filter((c) => c.publishedNote !== null).map((c) => `${c.id}: ${c.publishedNote ?? ''}`);
  return [
    'AvgDist on the grid of 4-pixel tokens, mean over 500 masks.', ...(results.size > 0 ? [COMPARABLE] : []),
    ...(grid.published ? [`Published: ${grid.published.source}.${marked.length > 0 ? ` (${marked.join('; ')}.)` : ''}`] : []),
  ];
}

/** Writes table.md, table.csv and, once there are numbers, plots.svg into the grid's folder; returns the files. */
export function writeReport(grid: Grid, results: Results, out: string): string[] {
  const table = resultTable(grid, results);
  const charts = resultCharts(grid, results);
  const notes = resultNotes(grid, results);
  const title = `# ${grid.name}: ${results.size} of ${grid.cells.length} cells on ${grid.base}`;
  const files: [string, string][] = [['table.md', [title, '', ...markdownTable(table), '', ...notes].join('\n') + '\n'], ['table.csv', csvTable(table)]];
  if (charts.length > 0) files.push(['plots.svg', svgFigure(charts)]);
  return files.map(([name, content]) => {
    writeWhole(join(out, name), 'ablate', content);
    return join(out, name);
  });
}

/** Where a cell stands on the x axis of the plots. */
interface Placing {
  x: Chart['x'];
  at: (cell: GridCell, result: CellResult | undefined) => number;
  /** Cells of one name are joined by a line. */
  group: (cell: GridCell) => string;
  bands?: Chart['bands'];
}

/** One plot for the masked loss and each further measure (not for speed), and one for the first published column. */
export function resultCharts(grid: Grid, results: Results): Chart[] {
  const placing = placingOf(grid);
  const measures = measuredHeadings(results).filter((h) => h !== 'masked loss' && h !== 'best constant' && h !== 'images/s');
  const chart = (title: string, label: string, valueOf: (cell: GridCell) => number | undefined, notes: string[]): Chart[] => {
    const series = seriesOf(grid, results, placing, valueOf);
    return series.length === 0 ? [] : [{ title, x: placing.x, y: { label }, series, notes, ...(placing.bands ? { bands: placing.bands } : {}) }];
  };
  const [published] = Object.entries(grid.published?.columns ?? {});
  return [
    ...measures.flatMap((h) => chart(h === 'share of it' ? 'Masked loss over that of the best constant' : h, h === 'share of it' ? 'masked loss / best constant' : h, (cell) => results.get(cell.id)?.measured[h], h === 'share of it' ? [COMPARABLE] : [])),
    ...(published ? chart(`Published ${published[1]}`, published[1], (cell) => cell.published[published[0]], [grid.published?.source ?? '']) : []),
  ];
}

function seriesOf(grid: Grid, results: Results, placing: Placing, valueOf: (cell: GridCell) => number | undefined): Series[] {
  const groups = new Map<string, Point[]>();
  for (const cell of grid.cells) {
    const y = valueOf(cell);
    const x = placing.at(cell, results.get(cell.id));
    if (y === undefined || !Number.isFinite(y) || !Number.isFinite(x)) continue;
    const name = placing.group(cell);
    groups.set(name, [...(groups.get(name) ?? []), { x, y, title: `${cell.id}: ${short(y)}` }]);
  }
  const names = [...new Set(grid.cells.map(placing.group))]; // the same look in every plot
  return [...groups].map(([name, points]): Series => ({ name, look: names.indexOf(name), points, ...(placing.x.categories ? { style: 'marks' } : {}) }));
}

/** By AvgDist where masks vary, by the number where a single key with numbers does, else cell by cell. */
function placingOf(grid: Grid): Placing {
  const masks = grid.keys.filter((key) => key.startsWith('masking.'));
  if (masks.length > 0) {
    const distances = new Map(grid.cells.map((cell) => [cell.id, maskOf(cell.recipe).avgDist ?? NaN]));
    const rest = grid.keys.filter((key) => key !== 'masking.ratio' && key !== 'masking.minCells');
    return {
      x: { label: 'AvgDist (px)', scale: 'log' }, bands: grid.cells.every((cell) => imageSizeOf(cell.recipe).join() === '192,192') ? [{ ...GOOD_RANGE, label: '10 to 20 px' }] : [],
      at: (cell, result) => result?.avgDist ?? distances.get(cell.id) ?? NaN, group: (cell) => rest.filter((key) => key in cell.settings).map((key) => shown(cell.settings[key])).join(' ') || grid.name,
    };
  }
  const [key = ''] = grid.keys;
  const values = grid.cells.map((cell) => cell.settings[key]);
  if (grid.keys.length === 1 && values.every((v): v is number => typeof v === 'number' && v > 0)) {
    return { x: { label: key, scale: Math.max(...values) > 10 * Math.min(...values) ? 'log' : 'linear' }, at: (cell) => cell.settings[key] as number, group: () => '' };
  }
  return { x: { label: '', categories: grid.cells.map((cell) => Object.values(cell.settings).map(shown).join(' ')) }, at: (cell) => grid.cells.indexOf(cell), group: () => '' };
}
