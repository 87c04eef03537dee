import { type Chart, type Point, svgFigure } from '../ts/charts';
import { type Limits, peak, streamBandwidth } from './limits';

/** Something timed: an op's case or a kernel of a step. */
export interface Measured {
  name: string;
  flops: number;
  bytes: number;
  seconds: number;
}

/**
 * Operations a second over operations a byte (Williams et al. 2009), on logarithmic axes: a point below the
 * slope could use more of the bandwidth, one below the level more of the arithmetic. What counts no operations is left out.
 */
export function roofline(title: string, limits: Limits, precision: string, measured: readonly Measured[]): string {
  const shown = measured.filter(({ flops, bytes, seconds }) => flops > 0 && bytes > 0 && seconds > 0);
  const point = ({ name, flops, bytes, seconds }: Measured): Point => {
    const [x, y] = [flops / bytes, flops / seconds / 1e9];
    return { x, y, title: `${name}: ${y.toFixed(0)} GFLOP/s at ${x.toFixed(1)} FLOP a byte` };
  };
  const groups = new Map<string, Point[]>();
  for (const m of shown) {
    const kernel = m.name.split(' ')[0] as string;
    groups.set(kernel, [...(groups.get(kernel) ?? []), point(m)]);
  }
  const [level, slope] = [peak(limits, precision), streamBandwidth(limits)];
  const xs = [...groups.values()].flat().map((p) => p.x);
  const [low, high] = [Math.min(0.25, ...xs) / 1.5, Math.max(400, ...xs) * 1.5];
  const roof: Point[] = [low, level / slope, high].map((x) => ({ x, y: Math.min(level, slope * x) }));
  const chart: Chart = {
    title,
    x: { label: 'FLOP for each byte that must cross memory', scale: 'log', range: [low, high] },
    y: { label: 'GFLOP/s', scale: 'log' },
    series: [{ name: 'ceiling', points: roof, style: 'line' }, ...[...groups].map(([name, points]) => ({ name, points, style: 'marks' as const }))],
    notes: [`Ceilings of this machine, ${limits.threads} threads: ${level.toFixed(0)} GFLOP/s (${precision}), ${slope.toFixed(1)} GB/s. Operands that fit the caches may lie above the slope.`],
  };
  return svgFigure([chart], { width: 760, height: 460 });
}
