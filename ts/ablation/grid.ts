import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { SimmimError } from '../errors';
import { applyOverrides, nearest, parseRecipe, type Recipe } from '../train/recipe';
import { loadRecipe } from '../train/recipe_files';

/** A value of a recipe, as YAML gives it. */
type Value = string | number | boolean | null | readonly unknown[];

/** Largest number of cells: a grid beyond it is a slip, not an experiment. */
const MAX_CELLS = 10_000;

const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, { error: "expected letters, digits, '.', '_' and '-'" });
const value = z.unknown();
const settings = z.record(z.string(), value, { error: 'expected recipe keys and values, such as {masking.patchSize: [16, 32]}' });
const list = <T extends z.ZodType>(entry: T) => z.array(entry, { error: 'expected a list' });

const published = z.strictObject({
  /** Where the numbers come from and how exact they are. */
  source: z.string(),
  /** Column of `rows` -> its heading, such as {top1: 'top-1 (%)'}. */
  columns: z.record(z.string(), z.string()),
  /** Values of the cells whose recipe has all of `when`. */
  rows: list(z.strictObject({ when: settings, values: z.record(z.string(), z.number()), note: z.string().optional() })),
});

const gridFile = z.strictObject({
  name: name,
  /** Recipe of the package, or a .yaml file beside the grid (or by its path). */
  base: z.string(),
  /** Dotted keys that differ from `base` in every cell. */
  set: settings.default({}),
  /** Each entry is the product of its lists: `{masking.patchSize: [4, 8], masking.ratio: 0.6}` is two cells. */
  cells: list(settings).min(1, { error: 'expected at least one entry' }),
  published: published.optional(),
});

/** One run of a grid. */
export interface GridCell {
  /** Folder name, from the values of the keys that vary: `patchSize=4,ratio=0.6`. */
  id: string;
  /** The varied keys of this cell with their values. */
  settings: Readonly<Record<string, Value>>;
  recipe: Recipe;
  /** Published values of this cell by column. */
  published: Readonly<Record<string, number>>;
  /** What is said about them. */
  publishedNote: string | null;
}

/** A grid, read and checked. */
export interface Grid {
  name: string;
  base: string;
  /** Dotted keys that differ between cells, in the file's order. */
  keys: readonly string[];
  cells: readonly GridCell[];
  published: { source: string; columns: Readonly<Record<string, string>> } | null;
}

const FOLDER = join(__dirname, '..', 'recipes', 'ablations');

/** Names of the grids in the package: `ablations/masking`, ... */
export function gridNames(): string[] {
  return readdirSync(FOLDER).filter((f) => f.endsWith('.yaml')).map((f) => `ablations/${f.slice(0, -'.yaml'.length)}`).sort();
}

/** The file of a grid: one of the package by name (with or without `ablations/`), or any YAML file by path. Throws `not_found`. */
export function gridPath(nameOrFile: string): string {
  const names = gridNames();
  const known = names.find((n) => n === nameOrFile || n === `ablations/${nameOrFile}`);
  if (known) return join(FOLDER, `${known.slice('ablations/'.length)}.yaml`);
  if (existsSync(nameOrFile) && statSync(nameOrFile).isFile()) return nameOrFile;
  const guess = nearest(nameOrFile, [...names, ...names.map((n) => n.slice('ablations/'.length))]);
  throw new SimmimError('not_found', 'ablate', `no grid '${nameOrFile}'${guess ? `, did you mean '${guess}'?` : ''} (there are ${names.join(', ')}; or give the path of a .yaml file)`);
}

/**
 * Reads a grid and makes the recipe of every cell; `overrides` (`key=value`) hold for all cells. Throws one sentence
 * that names the file, the key or the cell for whatever is wrong, two equal cells included.
 */
export function loadGrid(nameOrFile: string, overrides: readonly string[] = []): Grid {
  return gridFromYaml(gridText(nameOrFile), nameOrFile, { folder: dirname(gridPath(nameOrFile)), overrides });
}

/** The text of a grid, comments included. */
export function gridText(nameOrFile: string): string {
  const file = gridPath(nameOrFile);
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new SimmimError('io', 'ablate', `cannot read '${file}': ${(error as Error).message}`);
  }
}

/** Parses the text of a grid file; `origin` names it in errors, `folder` is where it lies. */
export function gridFromYaml(text: string, origin: string, { folder = '.', overrides = [] }: { folder?: string; overrides?: readonly string[] } = {}): Grid {
  const file = parseFile(text, origin);
  const beside = join(folder, file.base);
  const base = loadRecipe(/\.ya?ml$/.test(file.base) && existsSync(beside) ? beside : file.base);
  const combinations = file.cells.flatMap((entry) => product(entry, origin));
  if (combinations.length > MAX_CELLS) throw new SimmimError('invalid_argument', origin, `has ${combinations.length} cells, expected at most ${MAX_CELLS}`);
  const keys = varyingKeys(combinations);
  const columns = file.published?.columns ?? {};
  const rows = file.published?.rows ?? [];
  const common = [...assignments(file.set), ...overrides];
  const used = new Set<number>();
  const cells = combinations.map((settings): GridCell => {
    const varied = Object.fromEntries(keys.filter((key) => key in settings).map((key) => [key, settings[key] as Value]));
    const id = cellId(varied, keys);
    const recipe = cellRecipe(base, [...common, ...assignments(settings)], `${origin}, cell ${id}`, `${file.name}/${id}`);
    const matching = rows.flatMap((row, i) => (matches(row.when, recipe) ? [i] : []));
    matching.forEach((i) => used.add(i));
    const found = matching.map((i) => rows[i] as (typeof rows)[number]);
    return { id, settings: varied, recipe, published: Object.assign({}, ...found.map((row) => row.values)) as Record<string, number>, publishedNote: found.map((row) => row.note).filter((n) => n !== undefined).join('; ') || null };
  });
  checkCells(cells, rows, used, columns, origin, overrides.length > 0);
  return { name: file.name, base: file.base, keys, cells, published: file.published ? { source: file.published.source, columns } : null };
}

function parseFile(text: string, origin: string): z.output<typeof gridFile> {
  let tree: unknown;
  try {
    tree = parseYaml(text);
  } catch (error) {
    throw new SimmimError('invalid_argument', origin, `is not YAML: ${(error as Error).message.split('\n')[0] ?? ''}`);
  }
  const result = gridFile.safeParse(tree ?? {});
  if (result.success) return result.data;
  const issue = result.error.issues.find((i) => i.code === 'unrecognized_keys') ?? result.error.issues[0]; // a slip in a key explains the key that is missing
  if (issue?.code === 'unrecognized_keys') {
    const known = Object.keys(issue.path.length === 0 ? gridFile.shape : issue.path.length === 1 ? published.shape : { when: 0, values: 0, note: 0 });
    const key = issue.keys[0] ?? '';
    const guess = nearest(key, known);
    throw new SimmimError('invalid_argument', origin, `unknown key '${[...issue.path, key].join('.')}'${guess ? `, did you mean '${guess}'?` : `; there are ${known.join(', ')}`}`);
  }
  throw new SimmimError('invalid_argument', origin, `${issue?.path.join('.') || 'the grid'} is wrong: ${(issue?.message ?? 'refused').replace(/^Invalid input: /, '')}`);
}

/** All combinations of an entry's lists; a value that is a list itself stands in a list of its own. */
function product(entry: Readonly<Record<string, unknown>>, origin: string): Record<string, Value>[] {
  return Object.entries(entry).reduce<Record<string, Value>[]>((cells, [key, given]) => {
    const choices = Array.isArray(given) ? (given as Value[]) : [given as Value];
    if (choices.length === 0) throw new SimmimError('invalid_argument', origin, `cells: '${key}' has an empty list of values`);
    if (cells.length * choices.length > MAX_CELLS) throw new SimmimError('invalid_argument', origin, `has more than ${MAX_CELLS} cells`);
    return cells.flatMap((cell) => choices.map((choice) => ({ ...cell, [key]: choice })));
  }, [{}]);
}

/** Keys that not all cells give the same value. */
function varyingKeys(cells: readonly Record<string, Value>[]): string[] {
  const all = [...new Set(cells.flatMap((cell) => Object.keys(cell)))];
  return cells.length === 1 ? all : all.filter((key) => new Set(cells.map((cell) => JSON.stringify(cell[key]))).size > 1);
}

const assignments = (settings: Readonly<Record<string, unknown>>): string[] => Object.entries(settings).map(([key, v]) => `${key}=${JSON.stringify(v) ?? 'null'}`);

/** A folder name of the varied values; keys by their last part, or whole where two end alike. */
function cellId(settings: Readonly<Record<string, Value>>, keys: readonly string[]): string {
  const last = (key: string): string => key.slice(key.lastIndexOf('.') + 1);
  const short = (key: string): string => (keys.filter((k) => last(k) === last(key)).length > 1 ? key : last(key));
  const plain = (v: Value): string => (typeof v === 'string' ? v : JSON.stringify(v)).replace(/[^A-Za-z0-9.]+/g, '_').replace(/^_+|_+$/g, '');
  return Object.entries(settings).map(([key, v]) => `${short(key)}=${plain(v)}`).join(',').slice(0, 200) || 'all';
}

function cellRecipe(base: Recipe, overrides: readonly string[], origin: string, title: string): Recipe {
  try {
    return { ...parseRecipe(applyOverrides(base, overrides), origin), name: title };
  } catch (error) {
    if (error instanceof SimmimError && error.op === '--set') throw new SimmimError(error.code, origin, error.message.slice('--set: '.length));
    throw error;
  }
}

function at(recipe: Recipe, key: string): unknown {
  return key.split('.').reduce<unknown>((node, part) => (typeof node === 'object' && node !== null && Object.hasOwn(node, part) ? (node as Record<string, unknown>)[part] : undefined), recipe);
}

function matches(when: Readonly<Record<string, unknown>>, recipe: Recipe): boolean {
  return Object.entries(when).every(([key, wanted]) => JSON.stringify(at(recipe, key)) === JSON.stringify(wanted));
}

/** Refuses equal cells, and published rows that name no column or (unless the base was changed by hand) no cell. */
function checkCells(cells: readonly GridCell[], rows: readonly { when: object; values: object }[], used: ReadonlySet<number>, columns: object, origin: string, changed: boolean): void {
  const seen = new Map<string, string>();
  const ids = new Set<string>();
  for (const { id, recipe } of cells) {
    const key = JSON.stringify({ ...recipe, name: '' });
    if (seen.has(key) || ids.has(id)) throw new SimmimError('invalid_argument', origin, `cell ${id} is there twice`);
    seen.set(key, id);
    ids.add(id);
  }
  rows.forEach((row, i) => {
    const unknown = Object.keys(row.values).find((c) => !(c in columns));
    if (unknown) throw new SimmimError('invalid_argument', origin, `published.rows.${i} has the column '${unknown}', which published.columns does not name`);
    if (!changed && !used.has(i)) throw new SimmimError('invalid_argument', origin, `published.rows.${i} (${JSON.stringify(row.when)}) belongs to no cell`);
  });
}
