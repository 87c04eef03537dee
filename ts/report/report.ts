/** One page about one or several runs: `simmim report`. */
import { svgFigure, type Chart, type Table } from '../charts';
import { differenceTable, probeCharts, summaryTable, trainingCharts } from './curves';
import { escapeHtml, figureHtml, htmlPage, htmlTable, inlineSvg, type Section } from './page';
import type { Figure } from './pictures';
import type { RunRecord } from './run_record';

/** What a page has besides the runs. */
export interface PageParts {
  title?: string;
  figures?: readonly Figure[];
  /** Sentences below the key figures. */
  notes?: readonly string[];
  /** Tables in front of everything else, under one heading. */
  results?: { title: string; tables: readonly Table[] };
}

/** The page: results, key figures, what differs, curves, probes, reconstructions. Everything is inside. */
export async function reportPage(runs: readonly RunRecord[], { title, figures = [], notes = [], results }: PageParts = {}): Promise<string> {
  const differences = differenceTable(runs);
  const pictures: string[] = [];
  for (const figure of figures) pictures.push(await figureHtml(figure));
  const probes = probeCharts(runs);
  const sections: Section[] = [
    ...(results ? [{ title: results.title, content: results.tables.map(htmlTable).join('\n<p></p>\n') }] : []),
    { title: 'Runs', content: `${htmlTable(summaryTable(runs))}${notes.map((n) => `\n<p class="note">${escapeHtml(n)}</p>`).join('')}` },
    ...(runs.length > 1 ? [{ title: 'What differs', content: differences.rows.length > 0 ? htmlTable(differences) : '<p>The recipes agree in every value.</p>' }] : []),
    { title: 'Training', content: chartRow(trainingCharts(runs)) },
    ...(probes.length > 0 ? [{ title: 'Frozen features', content: `${chartRow(probes)}\n${htmlTable(probeTable(runs))}` }] : []),
    ...evaluationSections(runs),
    ...(pictures.length > 0 ? [{ title: 'Reconstructions', content: pictures.join('\n') }] : []),
  ];
  return htmlPage(title ?? (runs.length === 1 ? `Run ${runs[0]?.name ?? ''}` : `${runs.length} runs side by side`), sections);
}

/** Confusion matrices are shown up to so many classes. */
const MOST_CLASSES = 30;

/** What `simmim evaluate` found: scores of each run, and which classes were taken for which. */
function evaluationSections(runs: readonly RunRecord[]): Section[] {
  const evaluated = runs.flatMap(({ name, evaluation }) => (evaluation ? [{ name, ...evaluation }] : []));
  if (evaluated.length === 0) return [];
  const scores: Table = { headings: ['run', 'weights', 'pictures', 'top-1 %', 'top-5 %', 'cross-entropy'], rows: evaluated.map((e) => [e.name, e.weights, e.images, e.top1.toFixed(2), e.top5?.toFixed(2) ?? null, e.loss.toFixed(4)]) };
  const matrices = evaluated.filter((e) => e.classes.length <= MOST_CLASSES).map((e): Table => ({ headings: [`${e.name}: class, and what it was taken for`, ...e.classes], rows: e.confusion.map((row, i) => [e.classes[i] ?? '', ...row]) }));
  return [{ title: 'Classification', content: [scores, ...matrices].map(htmlTable).join('\n<p></p>\n') }];
}

function chartRow(charts: readonly Chart[]): string {
  return `<div class="charts">\n${charts.map((chart) => inlineSvg(svgFigure([chart], { width: 465, height: 300 }))).join('\n')}\n</div>`;
}

/** The best layer of each protocol. */
function probeTable(runs: readonly RunRecord[]): Table {
  const rows = runs.flatMap(({ name, probe }) => {
    const methods = [...new Set(probe?.results.map((r) => r.method) ?? [])];
    return methods.map((method) => {
      const best = probe?.results.filter((r) => r.method === method).reduce((a, b) => (b.top1 > a.top1 ? b : a));
      const start = probe?.baseline?.results.find((r) => r.method === method && r.layer.name === best?.layer.name);
      return [name, method, best?.layer.label ?? '', best?.top1.toFixed(2) ?? '', best?.top5?.toFixed(2) ?? null, start?.top1.toFixed(2) ?? null];
    });
  });
  return { headings: ['run', 'protocol', 'best layer', 'top-1 %', 'top-5 %', 'random start there, top-1 %'], rows };
}
