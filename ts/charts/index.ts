/** Charts as SVG files: axes (linear, logarithmic, categories), lines, marks, error bars, bands, legend, notes. */
export { svgFigure, type Band, type Chart, type ChartSize, type Point, type Series } from './chart';
export { canDrawText, pngOfSvg } from './png';
export type { Axis } from './scale';
