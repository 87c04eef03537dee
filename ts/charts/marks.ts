import { element, px } from './svg';

/** Colours that people with colour-blindness tell apart (Okabe & Ito), darkest first. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#8c564b'];

/** Marks are told apart by shape as well, for print in grey. */
const SHAPES = ['circle', 'square', 'triangle', 'diamond', 'cross', 'plus', 'turned'] as const;

/** Colour and shape of a series, by its number. */
export interface Look {
  colour: string;
  shape: (typeof SHAPES)[number];
}

export function lookOf(index: number): Look {
  return { colour: COLOURS[index % COLOURS.length] as string, shape: SHAPES[index % SHAPES.length] as Look['shape'] };
}

const OUTLINES: Readonly<Record<Exclude<Look['shape'], 'circle' | 'cross' | 'plus'>, readonly (readonly [number, number])[]>> = {
  square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  triangle: [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
  turned: [[0, 1.2], [1.1, -0.8], [-1.1, -0.8]],
  diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
};

/** A mark around a point; hollow ones have a white middle. */
export function mark(x: number, y: number, { colour, shape }: Look, hollow: boolean, content = ''): string {
  const r = 4;
  const paint = { fill: hollow ? '#fff' : colour, stroke: colour, 'stroke-width': '1.5' };
  if (shape === 'circle') return element('circle', { cx: x, cy: y, r, ...paint }, content);
  if (shape === 'cross' || shape === 'plus') {
    const strokes = shape === 'cross' ? [[-r, -r, r, r], [-r, r, r, -r]] : [[-r, 0, r, 0], [0, -r, 0, r]];
    const d = strokes.map(([x1 = 0, y1 = 0, x2 = 0, y2 = 0]) => `M${px(x + x1)} ${px(y + y1)}L${px(x + x2)} ${px(y + y2)}`).join('');
    return element('path', { d, fill: 'none', stroke: colour, 'stroke-width': hollow ? '1.2' : '2.2' }, content);
  }
  return element('polygon', { points: OUTLINES[shape].map(([dx, dy]) => `${px(x + dx * r)},${px(y + dy * r)}`).join(' '), ...paint }, content);
}
