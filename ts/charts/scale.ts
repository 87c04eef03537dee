import { SimmimError } from '../errors';

/** How an axis of a chart is laid out. */
export interface Axis {
  label: string;
  /** Default linear. */
  scale?: 'linear' | 'log';
  /** Ends of the axis; default: the data's, widened to whole ticks (linear) or by a little (log). */
  range?: readonly [number, number];
  /** Names in place of numbers: value i of the data stands at name i. */
  categories?: readonly string[];
}

/** Values to positions along one axis, in pixels, and where its ticks are. */
export interface Scale {
  at(value: number): number;
  ticks: readonly { value: number; label: string }[];
}

/** Steps between ticks are 1, 2 or 5 times a power of ten. */
const STEPS = [1, 2, 5, 10];

function refuse(message: string): never {
  throw new SimmimError('invalid_argument', 'chart', message);
}

/** Ticks of a round step that cover [low, high], about `wanted` of them. */
export function linearTicks(low: number, high: number, wanted: number): number[] {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * (STEPS.find((s) => s * power >= rough * (1 - 1e-9)) ?? 10);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

/** Powers of ten inside [low, high] and, where those are few, their multiples by 2 and 5 or by every digit. */
export function logTicks(low: number, high: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const choices = [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]].map((factors) =>
    Array.from({ length: last - first + 1 }, (_, i) => factors.map((f) => f * 10 ** (first + i))).flat().filter((t) => t >= low * (1 - 1e-9) && t <= high * (1 + 1e-9)));
  return choices.find((ticks) => ticks.length >= 4) ?? (choices[2] as number[]);
}

/** A number as short as its neighbours allow. */
function numberLabel(value: number, step: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-4) return value.toExponential().replace('e+', 'e');
  return value.toFixed(Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9))));
}

function span(axis: Axis, values: readonly number[]): [number, number] {
  const [low, high] = axis.range ?? [Math.min(...values), Math.max(...values)];
  if (!Number.isFinite(low) || !Number.isFinite(high)) refuse(`axis '${axis.label}' has no finite value to show and no range`);
  if (axis.range && !(low < high)) refuse(`range of axis '${axis.label}' is [${low}, ${high}], expected ascending order`);
  return [low, high];
}

/** The scale of an axis between two pixel positions (`to` may lie before `from`, as it does for y). */
export function makeScale(axis: Axis, values: readonly number[], from: number, to: number, wanted: number): Scale {
  if (axis.categories) return categoryScale(axis.categories, from, to);
  return axis.scale === 'log' ? logScale(axis, values, from, to) : linearScale(axis, values, from, to, wanted);
}

function categoryScale(names: readonly string[], from: number, to: number): Scale {
  const cell = (to - from) / names.length;
  return { at: (value) => from + (value + 0.5) * cell, ticks: names.map((label, value) => ({ value, label })) };
}

function linearScale(axis: Axis, values: readonly number[], from: number, to: number, wanted: number): Scale {
  let [low, high] = span(axis, values);
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
  const ticks = linearTicks(low, high, wanted);
  if (!axis.range) [low, high] = [ticks[0] as number, ticks[ticks.length - 1] as number];
  const shown = ticks.filter((t) => t >= low - 1e-9 * (high - low) && t <= high + 1e-9 * (high - low));
  const step = (ticks[1] as number) - (ticks[0] as number);
  return { at: (value) => from + ((value - low) / (high - low)) * (to - from), ticks: shown.map((value) => ({ value, label: numberLabel(value, step) })) };
}

function logScale(axis: Axis, values: readonly number[], from: number, to: number): Scale {
  let [low, high] = span(axis, values);
  if (low <= 0) refuse(`axis '${axis.label}' is logarithmic and shows ${low}, expected values above 0`);
  if (!axis.range) [low, high] = [low / 1.1, high * 1.1];
  const length = Math.log(high / low);
  return { at: (value) => from + (Math.log(value / low) / length) * (to - from), ticks: logTicks(low, high).map((value) => ({ value, label: numberLabel(value, value) })) };
}
