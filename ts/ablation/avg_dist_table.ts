import type { Chart, Series, Table } from '../charts';
import { averageDistance, smallestBlock, type DistanceUnit, type MaskStrategy, type MeanDistance } from '../simmim';
import { maskStrategy } from '../train/task';
import { loadGrid } from './grid';

/** AvgDist of one strategy, beside what the paper's Fig. 3 says of it. */
export interface DistanceRow {
  strategy: MaskStrategy;
  distance: MeanDistance;
  published: { avgDist: number; top1: number; note: string | null } | null;
}

const RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/** Squares of 2, 3, 4 and 5 of the 6 x 6 cells of 32 px; the first three are the paper's. */
const SQUARE_RATIOS = [0.11, 0.25, 0.44, 0.69];

/** AvgDist range in which the paper finds the best fine-tuning. */
export const GOOD_RANGE = { from: 10, to: 20 } as const;

/** Every strategy and mask patch of the paper's Fig. 3 at every ratio. Blocks have at least 4 (16 px) or 1 (32 px) units, see the grid `masking`. */
export function paperStrategies(): MaskStrategy[] {
  return [
    ...[4, 8, 16, 32, 64].flatMap((patch) => RATIOS.map((ratio): MaskStrategy => ({ kind: 'random', patch, ratio }))),
    ...([[16, 4], [32, 1]] as const).flatMap(([patch, minCells]) => RATIOS.map((ratio): MaskStrategy => ({ kind: 'block', patch, ratio, minCells }))),
    ...SQUARE_RATIOS.map((ratio): MaskStrategy => ({ kind: 'square', patch: 32, ratio })),
  ];
}

/** Measures every strategy; at 192 x 192 px with the published values where there are any. */
export function measureDistances(strategies: readonly MaskStrategy[], size: readonly [number, number], unit: DistanceUnit, options: { draws: number; seed: number }): DistanceRow[] {
  const published = size.join() === '192,192' ? loadGrid('ablations/masking').cells.map((cell) => ({ ...cell, key: keyOf(maskStrategy(cell.recipe)) })) : [];
  return strategies.map((strategy) => {
    const found = published.find(({ key }) => key === keyOf(strategy));
    const { avgDist, top1 } = found?.published ?? {};
    return {
      strategy, distance: averageDistance(strategy, size, unit, options),
      published: avgDist === undefined || top1 === undefined ? null : { avgDist, top1, note: found?.publishedNote ?? null },
    };
  });
}

/** Strategies are told apart by kind, cells and ratio: a block's further settings are our own choice. */
const keyOf = (s: MaskStrategy): string => (s.kind === 'explicit' ? 'explicit' : `${s.kind} ${s.patch} ${s.ratio}`);

/** `random 32 px`. */
const seriesName = (s: MaskStrategy): string => (s.kind === 'explicit' ? 'explicit' : `${s.kind} ${s.patch} px`);

/** `block (>= 4 cells)`: a block's smallest size is no part of the paper's definition, so it is always said. */
function strategyName(s: MaskStrategy): string {
  return s.kind === 'block' ? `block (>= ${smallestBlock(s)} ${smallestBlock(s) === 1 ? 'cell' : 'cells'})` : s.kind;
}

const rounded = (x: number | null, digits: number): string | null => (x === null ? null : x.toFixed(digits));

/** The rows as a table; every heading carries its unit. */
export function distanceTable(rows: readonly DistanceRow[], unit: DistanceUnit): Table {
  return {
    headings: ['strategy', 'patch (px)', 'ratio', 'hidden', `AvgDist (px, ${unit})`, 'standard error', 'paper AvgDist (px)', 'paper top-1 (%)'],
    rows: rows.map(({ strategy, distance, published }) => [
      strategyName(strategy), strategy.kind === 'explicit' ? null : strategy.patch, strategy.kind === 'explicit' ? null : strategy.ratio,
      distance.hidden.toFixed(3), rounded(distance.mean, 2), rounded(distance.stderr, 3), rounded(published?.avgDist ?? null, 1), rounded(published?.top1 ?? null, 1),
    ]),
  };
}

/** What the quoted columns are. */
export function quotation(): string {
  return `quoted from ${loadGrid('ablations/masking').published?.source ?? ''}.`;
}

/** How the measured column is defined. */
export function definition(unit: DistanceUnit, draws: number): string {
  const measured = unit === 'token' ? 'between centres of 4-pixel tokens, which is what the paper\'s values agree with' : "between pixels, as the paper's caption says; its printed values agree with the unit 'token' instead";
  return `AvgDist: mean distance of hidden to the nearest visible ones, ${measured}; mean over ${draws} masks.`;
}

/** Fig. 3 of the paper: AvgDist by ratio (a) and, where an accuracy is published, top-1 by AvgDist (b). */
export function distanceCharts(rows: readonly DistanceRow[], unit: DistanceUnit, draws: number): Chart[] {
  const names = [...new Set(rows.map((row) => seriesName(row.strategy)))];
  const of = (name: string): DistanceRow[] => rows.filter((row) => seriesName(row.strategy) === name && row.distance.mean !== null);
  const measured = names.map((name, look): Series => ({ name, look, points: of(name).map(({ distance }) => ({ x: distance.hidden, y: distance.mean as number, error: distance.stderr ?? 0, title: `${name}, hidden ${distance.hidden.toFixed(3)}: ${(distance.mean as number).toFixed(2)} px` })) }));
  const quoted = names.flatMap((name, look): Series[] => {
    const points = of(name).flatMap(({ distance, published }) => (published ? [{ x: distance.hidden, y: published.avgDist, title: `paper: ${published.avgDist} px${published.note ? ` (${published.note})` : ''}` }] : []));
    return points.length > 0 ? [{ name: '', look, style: 'marks', hollow: true, points }] : [];
  });
  const first: Chart = {
    title: 'AvgDist of masking strategies', x: { label: 'hidden share of the image', range: [0, 1] }, y: { label: `AvgDist (px, ${unit} unit)` },
    series: [...measured, ...quoted], notes: [definition(unit, draws), ...(quoted.length > 0 ? [`Hollow marks: ${quotation()}`] : [])],
  };
  return quoted.length > 0 ? [first, accuracyChart(names, of, unit)] : [first];
}

function accuracyChart(names: readonly string[], of: (name: string) => DistanceRow[], unit: DistanceUnit): Chart {
  const series = names.flatMap((name, look): Series[] => {
    const points = of(name).flatMap(({ strategy, distance, published }) => (published ? [{ x: distance.mean as number, y: published.top1, title: `${name}, ratio ${strategy.kind === 'explicit' ? '' : strategy.ratio}: ${published.top1} %` }] : []));
    return points.length > 0 ? [{ name, look, points }] : [];
  });
  return {
    title: 'Fine-tuned accuracy by AvgDist', x: { label: `AvgDist (px, ${unit} unit), measured here`, scale: 'log' }, y: { label: 'ImageNet-1K top-1 (%), quoted' },
    series, bands: [{ ...GOOD_RANGE, label: '10 to 20 px' }], notes: [`Accuracy: ${quotation()}`, 'The paper finds the best accuracy at AvgDist between 10 and 20 px.'],
  };
}
