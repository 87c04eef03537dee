import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { pngOfSvg, svgFigure, type Chart } from '../../ts/charts';
import { linearTicks, logTicks, makeScale } from '../../ts/charts/scale';

const simple: Chart = { title: 'loss', x: { label: 'update' }, y: { label: 'loss' }, series: [{ name: 'run', points: [{ x: 0, y: 1 }, { x: 10, y: 0.5 }, { x: 20, y: 0.25 }] }] };
const withSeries = (points: { x: number; y: number }[], extra: Partial<Chart> = {}): Chart => ({ ...simple, series: [{ name: 'a', points }], ...extra });

/** Positions of the circles of a figure. */
const circles = (svg: string): [number, number][] => [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);

describe('ticks', () => {
  test('are round and cover the range', () => {
    expect(linearTicks(0, 10, 5)).toEqual([0, 2, 4, 6, 8, 10]);
    expect(linearTicks(81.9, 83, 6).map((t) => t.toFixed(1))).toEqual(['81.8', '82.0', '82.2', '82.4', '82.6', '82.8', '83.0']);
    expect(linearTicks(-3e-7, 2e-7, 4).length).toBeGreaterThan(2);
    expect(logTicks(0.9, 120)).toEqual([1, 2, 5, 10, 20, 50, 100]);
    expect(logTicks(3.5, 11)).toEqual([4, 5, 6, 7, 8, 9, 10]);
    expect(logTicks(1e-6, 1)).toHaveLength(7);
  });

  test.each([[0, 1], [0.1, 0.30000001], [1e9, 1.00001e9], [-5, -4.99], [3, 3], [0, 0]])('labels of [%f, %f] tell ticks apart', (low, high) => {
    const { ticks } = makeScale({ label: 'x' }, [low, high], 0, 100, 5);
    expect(new Set(ticks.map((t) => t.label)).size).toBe(ticks.length);
    expect(ticks.length).toBeGreaterThan(1);
  });
});

describe('figures', () => {
  test('marks stand where their values say', () => {
    const [first, second, third] = circles(svgFigure([simple])) as [[number, number], [number, number], [number, number]];
    expect(second[0] - first[0]).toBeCloseTo(third[0] - second[0], 1);
    expect(first[1]).toBeLessThan(second[1]); // larger values are higher up
    expect(second[1] - first[1]).toBeCloseTo(2 * (third[1] - second[1]), 0);
    const onLog = circles(svgFigure([{ ...simple, y: { label: 'loss', scale: 'log' } }])) as [[number, number], [number, number], [number, number]];
    expect(onLog[1][1] - onLog[0][1]).toBeCloseTo(onLog[2][1] - onLog[1][1], 0);
  });

  test('a value that is not finite leaves a gap in the line', () => {
    const lines = (points: { x: number; y: number }[]): number => svgFigure([withSeries(points)]).match(/<path d="M[^"]*L/g)?.length ?? 0;
    expect(lines([{ x: 0, y: 1 }, { x: 1, y: 2 }, { x: 2, y: 3 }, { x: 3, y: 4 }])).toBe(1);
    expect(lines([{ x: 0, y: 1 }, { x: 1, y: 2 }, { x: 2, y: NaN }, { x: 3, y: 4 }, { x: 4, y: 4 }])).toBe(2);
  });

  test('text is escaped, control characters do not reach the file', () => {
    const svg = svgFigure([{ ...simple, title: 'a<b> & "c"\u0000', notes: ['<script>alert(1)</script>'] }]);
    expect(svg).toContain('a&lt;b&gt; &amp; &quot;c&quot;<');
    expect(svg).not.toContain('<script');
    expect(svg).not.toContain('\u0000');
  });

  test('panels stand side by side, and the picture has their size', async () => {
    const svg = svgFigure([simple, { ...simple, x: { label: 'head', categories: ['linear', 'mlp', 'inverse_swin_base'] }, series: [{ name: 'a', style: 'marks', points: [0, 1, 2].map((x) => ({ x, y: x, error: 0.1 })) }] }]);
    const { width = 0, height = 0 } = await sharp(await pngOfSvg(svg)).metadata();
    expect(width).toBe(2 * 2 * 560);
    expect(height).toBeGreaterThan(2 * 360);
    const { channels } = await sharp(await pngOfSvg(svg)).stats();
    expect(channels[0]?.min).toBeLessThan(100); // something is drawn
  });

  test.each<[string, Chart[], string]>([
    ['no charts', [], 'at least one chart'],
    ['nothing finite', [withSeries([{ x: NaN, y: 1 }])], 'no finite value to show'],
    ['a log axis with 0', [withSeries([{ x: 0, y: 1 }], { x: { label: 'lr', scale: 'log' } })], "axis 'lr' is logarithmic and shows 0"],
    ['an empty range', [withSeries([{ x: 0, y: 1 }], { y: { label: 'y', range: [2, 2] } })], 'expected ascending order'],
  ])('%s is refused', (_, charts, sentence) => expect(() => svgFigure(charts)).toThrow(sentence));
});
