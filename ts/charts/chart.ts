import { SimmimError } from '../errors';
import { lookOf, mark, type Look } from './marks';
import { makeScale, type Axis, type Scale } from './scale';
import { element, escapeText, px, svgDocument, text, textWidth, wrap } from './svg';

/** One value of a series. */
export interface Point {
  x: number;
  y: number;
  /** Half length of a vertical error bar, in units of y. */
  error?: number;
  /** Shown beside the mark. */
  label?: string;
  /** Shown when a browser's pointer rests on the mark. */
  title?: string;
}

/** Values that belong together. */
export interface Series {
  /** Shown in the legend; empty = not in it. */
  name: string;
  /** In the order in which a line visits them. A point that is not finite leaves a gap. */
  points: readonly Point[];
  /** Default `line and marks`. */
  style?: 'line' | 'marks' | 'line and marks';
  dashed?: boolean;
  /** Marks with a white middle: quoted values beside our own. */
  hollow?: boolean;
  /** Number of the look (colour and shape) to use; default: the series' own position. Two series may share one. */
  look?: number;
}

/** A shaded range of x. */
export interface Band {
  from: number;
  to: number;
  label: string;
}

/** One chart. */
export interface Chart {
  title: string;
  x: Axis;
  y: Axis;
  series: readonly Series[];
  bands?: readonly Band[];
  /** Sentences below: source, units, what is measured. */
  notes?: readonly string[];
}

/** Size of one chart in pixels, without its legend and notes. */
export interface ChartSize {
  width?: number;
  height?: number;
}

interface Frame {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

interface Panel {
  content: string;
  height: number;
}

const LINE = 18;
const TICK_SIZE = 11;

/**
 * One or several charts side by side as an SVG file.
 *
 * ```ts
 * svgFigure([{ title: 'loss', x: { label: 'step' }, y: { label: 'loss', scale: 'log' }, series: [{ name: 'run', points: [{ x: 1, y: 0.5 }, { x: 2, y: 0.3 }] }] }]);
 * ```
 * Throws `invalid_argument` when there is nothing to show, a range is empty, or a logarithmic axis has values not above 0.
 */
export function svgFigure(charts: readonly Chart[], size: ChartSize = {}): string {
  const { width = 560, height = 360 } = size;
  if (charts.length === 0) throw new SimmimError('invalid_argument', 'chart', 'a figure needs at least one chart');
  const panels = charts.map((chart) => drawPanel(chart, width, height));
  const content = panels.map((panel, i) => element('g', { transform: `translate(${px(i * width)} 0)` }, `\n${panel.content}\n`)).join('\n');
  return svgDocument(charts.length * width, Math.max(...panels.map((p) => p.height)), content);
}

function drawPanel(chart: Chart, width: number, height: number): Panel {
  const shown = chart.series.flatMap((s) => s.points).filter(isFinitePoint);
  const ys = shown.flatMap(({ y, error = 0 }) => [y - error, y + error]);
  const labelWidth = Math.max(...makeScale(chart.y, ys, 0, 1, 6).ticks.map((t) => textWidth(t.label, TICK_SIZE)));
  const turned = crowded(chart.x.categories, width);
  const frame: Frame = { left: labelWidth + 44, top: 36, right: width - 18, bottom: height - 48 - (turned ? 60 : 0) };
  const x = makeScale(chart.x, shown.map((p) => p.x), frame.left, frame.right, Math.max(2, (frame.right - frame.left) / 70));
  const y = makeScale(chart.y, ys, frame.bottom, frame.top, Math.max(2, (frame.bottom - frame.top) / 50));
  const series = chart.series.map((s, i) => drawSeries(s, lookOf(s.look ?? i), x, y));
  const legend = drawLegend(chart.series, frame, height + 4);
  const notes = drawNotes(chart.notes ?? [], frame, legend.height);
  const content = [text(frame.left, 20, chart.title, { size: 14, weight: '600' }), ...bands(chart.bands ?? [], x, frame), axes(chart, x, y, frame, height, turned), ...series, legend.content, notes.content];
  return { content: content.filter((part) => part !== '').join('\n'), height: notes.height + 8 };
}

const isFinitePoint = ({ x, y }: Point): boolean => Number.isFinite(x) && Number.isFinite(y);

/** Whether the names of categories would run into each other. */
function crowded(categories: readonly string[] | undefined, width: number): boolean {
  return categories !== undefined && Math.max(...categories.map((c) => textWidth(c, TICK_SIZE))) > (width - 90) / categories.length;
}

function axes(chart: Chart, x: Scale, y: Scale, frame: Frame, height: number, turned: boolean): string {
  const rule = (x1: number, y1: number, x2: number, y2: number, colour: string): string => element('line', { x1, y1, x2, y2, stroke: colour });
  const parts = [
    ...y.ticks.flatMap(({ value, label }) => [rule(frame.left, y.at(value), frame.right, y.at(value), '#e3e3e3'), text(frame.left - 7, y.at(value) + 4, label, { size: TICK_SIZE, anchor: 'end' })]),
    ...x.ticks.flatMap(({ value, label }) => [
      rule(x.at(value), frame.bottom, x.at(value), frame.bottom + 5, '#555'),
      turned ? text(x.at(value) + 4, frame.bottom + 16, label, { size: TICK_SIZE, anchor: 'end', turn: -35 }) : text(x.at(value), frame.bottom + 18, label, { size: TICK_SIZE, anchor: 'middle' }),
    ]),
    rule(frame.left, frame.bottom, frame.right, frame.bottom, '#555'),
    rule(frame.left, frame.top, frame.left, frame.bottom, '#555'),
    text((frame.left + frame.right) / 2, height - 8, chart.x.label, { anchor: 'middle' }),
    text(16, (frame.top + frame.bottom) / 2, chart.y.label, { anchor: 'middle', turn: -90 }),
  ];
  return parts.join('\n');
}

function bands(all: readonly Band[], x: Scale, frame: Frame): string[] {
  return all.flatMap(({ from, to, label }) => {
    const [left, right] = [Math.max(frame.left, x.at(from)), Math.min(frame.right, x.at(to))];
    if (right <= left) return [];
    return [element('rect', { x: left, y: frame.top, width: right - left, height: frame.bottom - frame.top, fill: '#f2f2f2' }), text((left + right) / 2, frame.bottom - 8, label, { size: TICK_SIZE, anchor: 'middle', colour: '#666' })];
  });
}

function drawSeries(series: Series, look: Look, x: Scale, y: Scale): string {
  const style = series.style ?? 'line and marks';
  const parts: string[] = [];
  if (style !== 'marks') {
    for (const run of unbroken(series.points)) {
      if (run.length < 2 && style === 'line and marks') continue;
      const d = run.map((p, i) => `${i === 0 ? 'M' : 'L'}${px(x.at(p.x))} ${px(y.at(p.y))}`).join('');
      parts.push(element('path', { d, fill: 'none', stroke: look.colour, 'stroke-width': '1.6', 'stroke-linejoin': 'round', ...(series.dashed ? { 'stroke-dasharray': '5 4' } : {}) }));
    }
  }
  for (const point of series.points.filter(isFinitePoint)) {
    const [px0, py0] = [x.at(point.x), y.at(point.y)];
    if (point.error) parts.push(element('line', { x1: px0, x2: px0, y1: y.at(point.y - point.error), y2: y.at(point.y + point.error), stroke: look.colour }));
    if (style !== 'line') parts.push(mark(px0, py0, look, series.hollow === true, point.title ? element('title', {}, escapeText(point.title)) : ''));
    if (point.label) parts.push(text(px0 + 7, py0 - 6, point.label, { size: 10, colour: look.colour }));
  }
  return parts.join('\n');
}

/** The stretches of finite points. */
function unbroken(points: readonly Point[]): Point[][] {
  const runs: Point[][] = [[]];
  for (const point of points) {
    if (isFinitePoint(point)) (runs[runs.length - 1] as Point[]).push(point);
    else runs.push([]);
  }
  return runs.filter((run) => run.length > 0);
}

/** Names of the series in rows below the chart, starting at `top`. */
function drawLegend(series: readonly Series[], frame: Frame, top: number): Panel {
  const named = series.flatMap((s, i) => (s.name === '' ? [] : [{ s, look: lookOf(s.look ?? i) }]));
  if (named.length === 0) return { content: '', height: top };
  const parts: string[] = [];
  let [left, line] = [frame.left, top + 12];
  for (const { s, look } of named) {
    const width = 32 + textWidth(s.name);
    if (left + width > frame.right && left > frame.left) [left, line] = [frame.left, line + LINE];
    if (s.style !== 'marks') parts.push(element('line', { x1: left, x2: left + 22, y1: line - 4, y2: line - 4, stroke: look.colour, 'stroke-width': '1.6', ...(s.dashed ? { 'stroke-dasharray': '5 4' } : {}) }));
    if (s.style !== 'line') parts.push(mark(left + 11, line - 4, look, s.hollow === true));
    parts.push(text(left + 28, line, s.name));
    left += width + 12;
  }
  return { content: parts.join('\n'), height: line + 8 };
}

function drawNotes(notes: readonly string[], frame: Frame, top: number): Panel {
  const lines = notes.flatMap((note) => wrap(note, frame.right - frame.left, TICK_SIZE));
  const content = lines.map((line, i) => text(frame.left, top + 14 + i * 15, line, { size: TICK_SIZE, colour: '#555' })).join('\n');
  return { content, height: top + (lines.length > 0 ? 6 + lines.length * 15 : 0) };
}
