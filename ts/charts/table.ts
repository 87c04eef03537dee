import { SimmimError } from '../errors';

/** A cell of a table: text, a number as it is, or nothing. */
export type TableValue = string | number | null;

/** Columns of one heading each, and rows as long as the headings. */
export interface Table {
  headings: readonly string[];
  rows: readonly (readonly TableValue[])[];
}

/** Columns that hold only numbers and nothing are set flush right. */
function isNumeric(table: Table, column: number): boolean {
  return table.rows.every((row) => row[column] === null || typeof row[column] === 'number' || /^[-+]?[\d.]+(e[-+]?\d+)?( ± [\d.]+)?$/.test(String(row[column])));
}

function checkShape({ headings, rows }: Table): void {
  const odd = rows.findIndex((row) => row.length !== headings.length);
  if (odd >= 0) throw new SimmimError('invalid_argument', 'table', `row ${odd} has ${rows[odd]?.length} values, expected ${headings.length}`);
}

/** As Markdown, aligned so that it reads well as text too. */
export function markdownTable(table: Table): string[] {
  checkShape(table);
  const shown = [table.headings, ...table.rows].map((row) => row.map((v) => (v === null ? '' : String(v)).replaceAll('|', '\\|').replace(/\s+/g, ' ')));
  const widths = table.headings.map((_, c) => Math.max(3, ...shown.map((row) => (row[c] as string).length)));
  const right = table.headings.map((_, c) => isNumeric(table, c));
  const line = (row: readonly string[]): string => `| ${row.map((v, c) => (right[c] ? v.padStart(widths[c] as number) : v.padEnd(widths[c] as number))).join(' | ')} |`;
  const rule = `|${widths.map((w, c) => (right[c] ? `${'-'.repeat(w + 1)}:` : '-'.repeat(w + 2))).join('|')}|`;
  return [line(shown[0] as string[]), rule, ...shown.slice(1).map(line)];
}

/** As CSV (RFC 4180). Text that a spreadsheet would take for a formula is given as text. */
export function csvTable(table: Table): string {
  checkShape(table);
  const field = (v: TableValue): string => {
    if (v === null) return '';
    const text = typeof v === 'string' && /^[=+@]|^-(?![\d.])/.test(v) ? `'${v}` : String(v);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [table.headings, ...table.rows].map((row) => `${row.map(field).join(',')}\r\n`).join('');
}
