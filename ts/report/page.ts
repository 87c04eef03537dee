/** HTML pages that hold all they show: no script, no style sheet, no picture from elsewhere. */
import type { Table } from '../charts';
import { enlargement, png, type Figure } from './pictures';

/** A part of a page under its own heading. */
export interface Section {
  title: string;
  /** HTML. */
  content: string;
}

export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '');

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;padding:0 1.5rem;max-width:90rem;color:#222;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem;border-bottom:1px solid #ddd}h3{font-size:1rem;margin:1.5rem 0 .3rem}
nav a{margin-right:1rem}a{color:#0072b2}figure{margin:1rem 0;overflow-x:auto}figcaption,p.note{color:#555;max-width:60rem}
table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top;font-weight:400}thead th{font-weight:600}td.n,td+td.n{text-align:right;font-variant-numeric:tabular-nums}
table.pictures td,table.pictures th{padding:2px 4px;font-size:13px}table.pictures td:nth-child(3n+2){padding-left:10px}img{display:block;image-rendering:pixelated}
div.charts{display:flex;flex-wrap:wrap;gap:.5rem;align-items:flex-start}div.charts svg{max-width:100%;height:auto}dt{float:left;clear:left;width:16rem;color:#666}dd{margin-left:16rem}`;

/** The whole page; sections are listed on top where there are several. */
export function htmlPage(title: string, sections: readonly Section[]): string {
  const id = (i: number): string => `s${i + 1}`;
  const contents = sections.length < 3 ? '' : `<nav>${sections.map((s, i) => `<a href="#${id(i)}">${escapeHtml(s.title)}</a>`).join('')}</nav>\n`;
  const body = sections.map((s, i) => `<section id="${id(i)}">\n${s.title ? `<h2>${escapeHtml(s.title)}</h2>\n` : ''}${s.content}\n</section>`).join('\n');
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><title>${escapeHtml(title)}</title><style>${STYLE}</style></head>
<body>
<h1>${escapeHtml(title)}</h1>
${contents}${body}
</body>
</html>
`;
}

/** Facts as a list of definitions. */
export function factList(facts: Readonly<Record<string, string>>): string {
  return `<dl>${Object.entries(facts).map(([key, value]) => `<dt>${escapeHtml(key)}</dt><dd>${escapeHtml(value)}</dd>`).join('')}</dl>`;
}

/** A table; cells that begin with a number are set flush right. */
export function htmlTable({ headings, rows }: Table): string {
  const numeric = (v: string): boolean => /^[-+]?\d/.test(v);
  const cell = (value: string | number | null): string => {
    const text = value === null ? '' : String(value);
    return `<td${numeric(text) ? ' class="n"' : ''}>${escapeHtml(text)}</td>`;
  };
  return `<table><thead><tr>${headings.map((h) => `<th>${escapeHtml(h)}</th>`).join('')}</tr></thead><tbody>\n${rows.map((row) => `<tr>${row.map(cell).join('')}</tr>`).join('\n')}\n</tbody></table>`;
}

/** An SVG document as part of a page. */
export const inlineSvg = (svg: string): string => svg.slice(svg.indexOf('<svg'));

/** A figure of pictures with its caption. */
export async function figureHtml(figure: Figure): Promise<string> {
  const { title, caption, headings, rows, size } = figure;
  const scale = enlargement(figure);
  const picture = async (rgb: Uint8Array, alt: string): Promise<string> => `<td><img src="data:image/png;base64,${(await png(rgb, size)).toString('base64')}" width="${size[1] * scale}" height="${size[0] * scale}" alt="${escapeHtml(alt)}"></td>`;
  const lines = await Promise.all(rows.map(async ({ name, cells }) => `<tr><th>${escapeHtml(name)}</th>${(await Promise.all(cells.map((rgb, i) => picture(rgb, `${name}, ${headings[i] ?? ''}`)))).join('')}</tr>`));
  const heading = title ? `<h3>${escapeHtml(title)}</h3>\n` : '';
  const columns = headings.map((h) => `<th>${escapeHtml(h)}</th>`).join('');
  return `<figure>\n${heading}<table class="pictures"><thead><tr><th></th>${columns}</tr></thead><tbody>\n${lines.join('\n')}\n</tbody></table>\n<figcaption>${escapeHtml(caption)}</figcaption>\n</figure>`;
}
