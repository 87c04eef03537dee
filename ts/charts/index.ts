/** Charts as SVG files (axes linear, logarithmic or of categories; lines, marks, error bars, bands, legend, notes) and tables as Markdown and CSV. */
export { svgFigure, type Band, type Chart, type ChartSize, type Point, type Series } from './chart';
export { canDrawText, pngOfSvg } from './png';
export type { Axis } from './scale';
export { csvTable, markdownTable, type Table, type TableValue } from './table';
