/** Datasets listed by a file: CIFAR's binary records, and a CSV of names and labels. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { SimmimError } from '../errors';
import { byCodeUnit, ImageDataset, type Sample } from './dataset';

const OP = 'dataset';
const CIFAR_PIXELS = 3072;

/** The bytes of a file, or not_found / io in one sentence. */
export function readWhole(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SimmimError(missing ? 'not_found' : 'io', OP, missing ? `'${file}' does not exist` : `cannot read '${file}': ${(error as Error).message}`);
  }
}

/** Class names beside a CIFAR file: one a line in classes.txt, batches.meta.txt or fine_label_names.txt; else null. */
function cifarClasses(file: string): string[] | null {
  const found = ['classes.txt', 'batches.meta.txt', 'fine_label_names.txt'].map((name) => join(dirname(file), name)).find((name) => existsSync(name));
  if (!found) return null;
  return readWhole(found).toString('utf8').split('\n').map((line) => line.trim()).filter((line) => line !== '');
}

/**
 * Files in the CIFAR-10 binary format: records of a label byte and 3 * 1,024 planar bytes (CIFAR-100: coarse
 * and fine label). Throws corrupt for a length that is no whole number of records or a label without a name.
 */
export function openCifar(files: string | readonly string[]): ImageDataset {
  const list = typeof files === 'string' ? [files] : files;
  const first = list[0];
  if (first === undefined) throw new SimmimError('invalid_argument', OP, 'no CIFAR file was given');
  const names = cifarClasses(first);
  const samples: Sample[] = [];
  for (const file of list) {
    const bytes = readWhole(file);
    const labelBytes = bytes.length % (CIFAR_PIXELS + 1) === 0 ? 1 : 2;
    const record = CIFAR_PIXELS + labelBytes;
    if (bytes.length === 0 || bytes.length % record !== 0) throw new SimmimError('corrupt', OP, `'${file}' has ${bytes.length} bytes, expected a multiple of 3,073 (CIFAR-10) or 3,074 (CIFAR-100)`);
    for (let i = 0; i < bytes.length / record; i++) {
      samples.push({ name: `${basename(file)}#${i}`, location: { file: resolve(file), offset: i * record + labelBytes, bytes: CIFAR_PIXELS, codec: 'cifar' }, label: bytes[i * record + labelBytes - 1] as number });
    }
  }
  const most = samples.reduce((m, s) => Math.max(m, s.label), 0);
  if (names && most >= names.length) throw new SimmimError('corrupt', OP, `'${first}' has label ${most}, but only ${names.length} class names lie beside it`);
  return new ImageDataset(list.join(', '), samples, names ?? Array.from({ length: most + 1 }, (_, i) => String(i)));
}

/** Rows of a CSV text: fields may be quoted, quotes inside are doubled; empty lines are left out. */
function parseCsv(text: string, file: string): { fields: string[]; line: number }[] {
  const rows: { fields: string[]; line: number }[] = [];
  for (const [i, line] of text.replace(/^\uFEFF/, '').split(/\r?\n/).entries()) {
    if (line.trim() === '') continue;
    const fields: string[] = [];
    const pattern = /\s*(?:"((?:[^"]|"")*)"|([^",]*))\s*(,|$)/y;
    for (let more = true; more; ) {
      const match = pattern.exec(line);
      if (!match) throw new SimmimError('corrupt', OP, `line ${i + 1} of '${file}' is no CSV: a quote is missing or misplaced`);
      fields.push(match[1] !== undefined ? match[1].replaceAll('""', '"') : (match[2] as string).trim());
      more = match[3] === ',';
    }
    rows.push({ fields, line: i + 1 });
  }
  return rows;
}

export interface CsvOptions {
  /** Folder that the names are relative to. Default: the CSV's own. */
  root?: string;
  /** Names and order of the classes; a label outside of them is an error. Default: those found, sorted. */
  classes?: readonly string[];
}

/**
 * A CSV whose header names a column `file` (or path, image, filename) and, for labels, `label` (or class).
 * Every listed file must exist and, where there is a label column, have a label.
 */
export function openCsv(file: string, options: CsvOptions = {}): ImageDataset {
  const rows = parseCsv(readWhole(file).toString('utf8'), file);
  const header = rows.shift()?.fields.map((name) => name.toLowerCase()) ?? [];
  const column = (names: string[]): number => header.findIndex((h) => names.includes(h));
  const fileColumn = column(['file', 'path', 'image', 'filename']);
  const labelColumn = column(['label', 'class']);
  if (fileColumn < 0) throw new SimmimError('invalid_argument', OP, `'${file}' has the columns ${header.join(', ') || '(none)'}, expected one called file and, for labels, one called label`);
  const root = options.root ?? dirname(file);
  const listed = rows.map(({ fields, line }) => {
    const name = fields[fileColumn] ?? '';
    const path = isAbsolute(name) ? name : resolve(root, name);
    if (name === '' || !existsSync(path)) throw new SimmimError('not_found', OP, `line ${line} of '${file}': image '${name}' does not exist below '${root}'`);
    const label = labelColumn < 0 ? null : (fields[labelColumn] ?? '');
    if (label === '') throw new SimmimError('invalid_argument', OP, `line ${line} of '${file}': image '${name}' has no label`);
    return { name, path, label, line };
  });
  const classes = labelColumn < 0 ? [] : (options.classes ?? [...new Set(listed.map((l) => l.label as string))].sort(byCodeUnit));
  const indexOf = new Map(classes.map((c, i) => [c, i]));
  const samples = listed.map(({ name, path, label, line }): Sample => {
    const index = label === null ? -1 : indexOf.get(label);
    if (index === undefined) throw new SimmimError('invalid_argument', OP, `line ${line} of '${file}': label '${label}' is not among the ${classes.length} classes ${classes.slice(0, 10).join(', ')}`);
    return { name, location: { file: path, offset: 0, bytes: -1, codec: 'image' }, label: index };
  });
  return new ImageDataset(file, samples, classes);
}
