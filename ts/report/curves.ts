/** Charts of what runs logged, and of their probes. */
import type { Chart, Point, Series, Table, TableValue } from '../charts';
import type { ProbeReport } from '../probe';
import { duration, isMasked, short, type ClassFigures, type UpdateRecord } from '../train/metrics';
import type { RunRecord } from './run_record';

/** A curve has at most so many points; each is the mean of its stretch. */
const MOST_POINTS = 300;

/** A log's curve, thinned: the mean over stretches of equal length at their last update. */
export function thinned(updates: readonly UpdateRecord[], value: (record: UpdateRecord) => number): Point[] {
  const length = Math.max(1, Math.ceil(updates.length / MOST_POINTS));
  const points: Point[] = [];
  for (let from = 0; from < updates.length; from += length) {
    const part = updates.slice(from, from + length);
    points.push({ x: part.at(-1)?.step ?? 0, y: part.reduce((sum, r) => sum + value(r), 0) / part.length });
  }
  return points;
}

const line = (runs: readonly RunRecord[], value: (record: UpdateRecord) => number): Series[] => runs.map(({ name, updates }, look): Series => ({ name, look, style: 'line', points: thinned(updates, value) }));
const X = { label: 'update' };

/** One chart for each thing that the log has. */
export function trainingCharts(runs: readonly RunRecord[]): Chart[] {
  const charts: Chart[] = [
    ...forTasks(runs, (chosen, what) => ({ title: `${what} in training`, x: X, y: { label: 'loss' }, series: line(chosen, (r) => r.loss) })),
    { title: 'Learning rate', x: X, y: { label: 'rate' }, series: line(runs, (r) => r.lr) },
    { title: 'Gradient norm before clipping', x: X, y: { label: 'L2 norm' }, series: line(runs, (r) => r.gradientNorm) },
    { title: 'Throughput', x: X, y: { label: 'images/s' }, series: line(runs, (r) => r.imagesPerSecond) },
    { title: 'Memory of the process', x: X, y: { label: 'GiB' }, series: line(runs, (r) => r.memory / 2 ** 30) },
    { title: 'Waiting for data', x: X, y: { label: '% of the time' }, series: runs.map((run, look): Series => ({ name: run.name, look, style: 'line', points: thinned(run.updates, (r) => (100 * r.dataSeconds * r.imagesPerSecond) / imagesOf(run)) })) },
  ];
  const validated = runs.filter((run) => run.validations.length > 0);
  charts.splice(1, 0, ...forTasks(validated, validationChart), ...scoreCharts(validated));
  return charts.filter((chart) => chart.series.some((s) => s.points.some((p) => Number.isFinite(p.y))));
}

/** A chart of the pre-training runs and one of the fine-tuning runs, as far as there are any: their losses are not comparable. */
function forTasks(runs: readonly RunRecord[], chart: (runs: readonly RunRecord[], loss: string) => Chart): Chart[] {
  const of = (task: string): RunRecord[] => runs.filter(({ recipe }) => recipe.task === task);
  return [[of('pretrain'), 'Masked loss'], [of('finetune'), 'Cross-entropy']].flatMap(([chosen, loss]) => (chosen && chosen.length > 0 ? [chart(chosen as RunRecord[], loss as string)] : []));
}

function validationChart(runs: readonly RunRecord[], loss: string): Chart {
  const series = runs.flatMap(({ name, validations }, look): Series[] => {
    const constants = validations.filter(isMasked).map((v) => ({ x: v.step, y: v.constantLoss }));
    return [
      { name, look, points: validations.map((v) => ({ x: v.step, y: v.loss })) },
      ...(constants.length > 0 ? [{ name: `${name}: best constant`, look, dashed: true, hollow: true, points: constants }] : []),
    ];
  });
  const constant = runs.some(({ validations }) => validations.some(isMasked));
  return { title: `${loss} on held-out pictures`, x: X, y: { label: 'loss' }, series, ...(constant ? { notes: ["The best constant predicts each image's mean over its visible pixels."] } : {}) };
}

/** Top-1 of fine-tuning runs, of the weights and of their moving average. */
function scoreCharts(runs: readonly RunRecord[]): Chart[] {
  const series = runs.flatMap(({ name, validations }, look): Series[] => {
    const figures = validations.flatMap((v) => (isMasked(v) ? [] : [v]));
    const averaged = figures.flatMap((v) => (v.ema ? [{ x: v.step, y: v.ema.top1 }] : []));
    if (figures.length === 0) return [];
    return [{ name, look, points: figures.map((v) => ({ x: v.step, y: v.top1 })) }, ...(averaged.length > 0 ? [{ name: `${name}: moving average`, look, dashed: true, hollow: true, points: averaged }] : [])];
  });
  return series.length === 0 ? [] : [{ title: 'Accuracy on held-out pictures', x: X, y: { label: 'top-1 %' }, series }];
}

/** Images of one update of a run. */
const imagesOf = ({ recipe: { train } }: RunRecord): number => train.batchSize * train.accumulation;

/** Seconds that updates waited for data over the seconds they took. */
export function waitShare(updates: readonly UpdateRecord[], images: number): number {
  const took = updates.reduce((sum, r) => sum + images / r.imagesPerSecond, 0);
  return updates.reduce((sum, r) => sum + r.dataSeconds, 0) / took;
}

/** Key figures of each run, a column for each. */
export function summaryTable(runs: readonly RunRecord[]): Table {
  const rows: [string, (run: RunRecord) => TableValue][] = [
    ['recipe', ({ recipe }) => recipe.name],
    ['encoder', ({ recipe: { model } }) => [model.encoder ?? 'that of its weights', ...(model.imageSize === null ? [] : [`${[model.imageSize].flat().join(' x ')} px`])].join(', ')],
    ['weights at the start', ({ recipe }) => (recipe.task === 'finetune' ? (recipe.init ?? 'random') : null)],
    ['updates', ({ updates }) => updates.at(-1)?.step ?? 0],
    ['epochs', ({ updates, recipe }) => `${(updates.at(-1)?.epoch ?? -1) + 1} of ${recipe.train.epochs}`],
    ['images of an update', imagesOf],
    ['training loss, mean of the last epoch', ({ updates }) => mean(updates.filter((r) => r.epoch === updates.at(-1)?.epoch).map((r) => r.loss))],
    ['validation loss, last', ({ validations }) => (validations.length > 0 ? short(validations.at(-1)?.loss ?? NaN) : null)],
    ['best constant there', ({ validations }) => lastOf(validations.filter(isMasked), (v) => short(v.constantLoss))],
    ['top-1 %, last', (run) => lastOf(classified(run), (v) => v.top1.toFixed(2))],
    ['top-1 %, best of all validations', (run) => (classified(run).length > 0 ? Math.max(...classified(run).map((v) => v.top1)).toFixed(2) : null)],
    ['top-1 % of the moving average, last', (run) => lastOf(classified(run), (v) => v.ema?.top1.toFixed(2) ?? null)],
    ['images/s, median', ({ updates }) => short(updates.map((r) => r.imagesPerSecond).sort((a, b) => a - b)[updates.length >> 1] ?? NaN)],
    ['training time', (run) => duration(run.updates.reduce((sum, r) => sum + imagesOf(run) / r.imagesPerSecond, 0))],
    ['waited for data', (run) => `${(100 * waitShare(run.updates, imagesOf(run))).toFixed(2)} %`],
    ['most memory', ({ updates }) => `${(updates.reduce((most, r) => Math.max(most, r.memory), 0) / 2 ** 30).toFixed(2)} GiB`],
    ['skipped updates', ({ updates }) => updates.filter((r) => r.skipped).length],
  ];
  const cells = rows.map(([title, of]): TableValue[] => [title, ...runs.map(of)]);
  return { headings: ['', ...runs.map((r) => r.name)], rows: cells.filter((row) => row.slice(1).some((v) => v !== null && v !== '')) };
}

const lastOf = <T>(list: readonly T[], show: (value: T) => string | null): string | null => (list.length > 0 ? show(list[list.length - 1] as T) : null);
const classified = ({ validations }: RunRecord): (ClassFigures & { step: number })[] => validations.flatMap((v) => (isMasked(v) ? [] : [v]));

const mean = (values: readonly number[]): string => (values.length === 0 ? '' : short(values.reduce((a, b) => a + b, 0) / values.length));

/** Keys in which the recipes differ, a row for each; no rows when they agree. */
export function differenceTable(runs: readonly RunRecord[]): Table {
  const flat = runs.map(({ recipe }) => flatten(recipe));
  const keys = [...new Set(flat.flatMap((values) => [...values.keys()]))].filter((key) => key !== 'name' && new Set(flat.map((values) => values.get(key))).size > 1);
  return { headings: ['key', ...runs.map((r) => r.name)], rows: keys.map((key) => [key, ...flat.map((values) => values.get(key) ?? '')]) };
}

/** Dotted keys and their values as text. */
export function flatten(value: unknown, path = ''): Map<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return new Map([[path, JSON.stringify(value)]]);
  return new Map(Object.entries(value).flatMap(([key, v]) => [...flatten(v, path ? `${path}.${key}` : key)]));
}

const METHODS: Readonly<Record<string, string>> = { knn: 'k-NN, weighted votes', knn_plain: 'k-NN', logistic: 'Logistic regression', linear: "Linear probe (MAE's)", attentive: 'Attentive probe' };

/** For each protocol, top-1 over layers (the random start dashed), and over epochs where it was trained in epochs. */
export function probeCharts(runs: readonly RunRecord[]): Chart[] {
  const probed = runs.filter((run) => run.probe !== null);
  const methods = [...new Set(probed.flatMap((run) => run.probe?.results.map((r) => r.method) ?? []))];
  return methods.flatMap((method) => {
    const layers = [...new Set(probed.flatMap((run) => run.probe?.results.filter((r) => r.method === method).map((r) => r.layer.label) ?? []))];
    const points = (report: ProbeReport): Point[] => report.results.flatMap((r) => (r.method === method ? [{ x: layers.indexOf(r.layer.label), y: r.top1, title: `${r.layer.label}: ${r.top1.toFixed(2)} %` }] : []));
    const series = runs.flatMap(({ name, probe }, look): Series[] => !probe ? [] : [
      { name, look, points: points(probe) },
      ...(probe.baseline ? [{ name: `${name}: random start`, look, dashed: true, hollow: true, points: points(probe.baseline) }] : []),
    ]);
    const overLayers: Chart = { title: METHODS[method] ?? method, x: { label: 'layer', categories: layers }, y: { label: 'top-1 %' }, series };
    const curves = runs.flatMap((run, look) => epochCurves(run, method, look));
    return curves.length === 0 ? [overLayers] : [overLayers, { title: `${METHODS[method] ?? method}: epochs`, x: { label: 'epoch' }, y: { label: 'top-1 %' }, series: curves }];
  });
}

/** Top-1 after each epoch of the heads of one protocol, where it was measured more than once. */
function epochCurves({ name, probe }: RunRecord, method: string, look: number): Series[] {
  const trained = (probe?.results ?? []).filter((r) => r.method === method && (r.curve?.filter((v) => v !== null).length ?? 0) > 1);
  return trained.map((r, i) => ({ name: `${name}, ${r.layer.label}`, look: look + i, style: 'line', points: (r.curve ?? []).map((y, x) => ({ x: x + 1, y: y ?? NaN })) }));
}
