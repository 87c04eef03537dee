/**
 * What there is to learn from: a fixed, ordered list of samples, each a byte range of some file, with a
 * name and perhaps a label. Folders, and other containers (see their files), all become this one list.
 */
import { existsSync, readdirSync, realpathSync, statSync, type Dirent } from 'node:fs';
import { extname, join, relative, resolve, sep } from 'node:path';
import { SimmimError } from '../errors';
import { Rng } from '../rng';
import { SITE, shuffleInPlace } from './sampler';

/** How the bytes of a sample hold its picture: an image file, a deflated one (zip), or a CIFAR record (planar RGB). */
export type Codec = 'image' | 'deflate' | 'cifar';

/** Part of a picture in fractions of its sides, [0, 1]; used to hold out regions of few photographs. */
export interface Region {
  top: number;
  left: number;
  bottom: number;
  right: number;
}

/** Where a sample's bytes lie. `bytes` -1 means to the end of the file. */
export interface SampleLocation {
  file: string;
  offset: number;
  bytes: number;
  codec: Codec;
  region?: Region;
}

/** One sample of a dataset. `label` is an index into the dataset's classes, or -1. */
export interface Sample {
  /** Name for people and logs: the path below the dataset's root, with forward slashes. */
  name: string;
  location: SampleLocation;
  label: number;
}

const OP = 'dataset';

/** An ordered list of samples. Immutable; `subset` and the like make new ones that share the samples. */
export class ImageDataset {
  /** Throws invalid_argument without samples or with a label outside the classes. */
  constructor(
    /** Where it came from, for messages. */
    readonly source: string,
    readonly samples: readonly Sample[],
    /** Class names in label order; empty without labels. */
    readonly classes: readonly string[] = [],
  ) {
    if (samples.length === 0) throw new SimmimError('invalid_argument', OP, `'${source}' holds no samples`);
    const wrong = samples.find((s) => (classes.length === 0 ? s.label !== -1 : !(s.label >= 0 && s.label < classes.length)));
    if (wrong) throw new SimmimError('invalid_argument', OP, `'${wrong.name}' of '${source}' has label ${wrong.label}, but there are ${classes.length} classes`);
  }

  get length(): number {
    return this.samples.length;
  }

  sample(index: number): Sample {
    const found = this.samples[index];
    if (!found) throw new SimmimError('invalid_argument', OP, `index ${index} is outside '${this.source}' with ${this.length} samples`);
    return found;
  }

  /** The samples at the given indices, in that order. */
  subset(indices: ArrayLike<number>): ImageDataset {
    return new ImageDataset(this.source, Array.from(indices, (i) => this.sample(i)), this.classes);
  }

  /** The same pictures, each seen only inside `region` (for example to validate on the part never trained on). */
  withRegion(region: Region): ImageDataset {
    const { top, left, bottom, right } = region;
    if (!(top >= 0 && left >= 0 && bottom <= 1 && right <= 1 && top < bottom && left < right)) {
      throw new SimmimError('invalid_argument', OP, `region is top ${top}, left ${left}, bottom ${bottom}, right ${right}, expected fractions with 0 <= top < bottom <= 1 and 0 <= left < right <= 1`);
    }
    return new ImageDataset(this.source, this.samples.map((s) => ({ ...s, location: { ...s.location, region } })), this.classes);
  }

  /** Splits into [kept, held out], at random but fixed by the seed; both keep the dataset's order and hold at least one sample. */
  holdOut(share: number, seed = 0): [ImageDataset, ImageDataset] {
    if (!(share > 0 && share < 1)) throw new SimmimError('invalid_argument', OP, `held-out share is ${share}, expected between 0 and 1, both excluded`);
    if (this.length < 2) throw new SimmimError('invalid_argument', OP, `'${this.source}' has one picture: nothing can be held out`);
    const order = Uint32Array.from({ length: this.length }, (_, i) => i);
    shuffleInPlace(order, new Rng(seed, SITE.holdout));
    const count = Math.min(this.length - 1, Math.max(1, Math.round(share * this.length)));
    return [this.subset(order.slice(count).sort()), this.subset(order.slice(0, count).sort())];
  }

  /** How many samples each class has, in label order. */
  classCounts(): number[] {
    const counts = new Array<number>(this.classes.length).fill(0);
    for (const s of this.samples) if (s.label >= 0) counts[s.label] = (counts[s.label] as number) + 1;
    return counts;
  }
}

export interface FolderOptions {
  /**
   * `auto`: the first-level folders are classes when every picture lies in one of at least two of them;
   * `folders`: they must be; `none`: no labels. Default `auto`. A list fixes names and order (a validation
   * set takes the training set's); a folder outside it is an error.
   */
  classes?: 'auto' | 'folders' | 'none' | readonly string[];
}

/** Endings that are taken for pictures, in any case. */
export const IMAGE_EXTENSIONS: ReadonlySet<string> = new Set(['.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.avif', '.tif', '.tiff', '.gif', '.ppm']);

/** Code-unit order: the same on every machine and in every locale. */
export const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Every picture below `folder`, in code-unit order of its relative path. Hidden files and folders are left
 * out; links are followed. Errors: not_found (no such folder), invalid_argument (a file; no picture in it;
 * classes that do not fit), io (a folder that cannot be listed).
 */
export function openImageFolder(folder: string, options: FolderOptions = {}): ImageDataset {
  const root = resolve(folder);
  let folderThere: boolean;
  try {
    folderThere = statSync(root).isDirectory();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') throw new SimmimError('not_found', OP, `folder '${folder}' does not exist`);
    throw new SimmimError('io', OP, `cannot look at '${folder}': ${(error as Error).message}`);
  }
  if (!folderThere) throw new SimmimError('invalid_argument', OP, `'${folder}' is a file, expected a folder of images`);
  const files = walk(root).sort(byCodeUnit);
  if (files.length === 0) throw new SimmimError('invalid_argument', OP, `folder '${folder}' holds no image (looked for ${[...IMAGE_EXTENSIONS].join(' ')} in it and its subfolders)`);
  return datasetOfNames(folder, files.map((name) => ({ name, location: { file: join(root, ...name.split('/')), offset: 0, bytes: -1, codec: 'image' } })), options);
}

/** A dataset of named places, in the given order; the first part of each name is its class, as in a folder. */
export function datasetOfNames(source: string, places: readonly Omit<Sample, 'label'>[], options: FolderOptions = {}): ImageDataset {
  const { classes, labelOf } = classesOf(source, places.map((p) => p.name), options.classes ?? 'auto');
  return new ImageDataset(source, places.map((p) => ({ ...p, label: labelOf(p.name) })), classes);
}

function walk(root: string): string[] {
  const found: string[] = [];
  const visited = new Set<string>();
  const visit = (folder: string): void => {
    const real = realpathSync(folder);
    if (visited.has(real)) return; // a link back up would never end
    visited.add(real);
    for (const entry of list(folder)) {
      if (entry.name.startsWith('.') || entry.name === '__MACOSX') continue;
      const path = join(folder, entry.name);
      if (isDirectory(entry, path)) visit(path);
      else if (IMAGE_EXTENSIONS.has(extname(entry.name).toLowerCase())) found.push(relative(root, path).split(sep).join('/'));
    }
  };
  visit(root);
  return found;
}

function list(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => byCodeUnit(a.name, b.name));
  } catch (error) {
    throw new SimmimError('io', OP, `cannot list folder '${folder}': ${(error as Error).message}`);
  }
}

function isDirectory(entry: Dirent, path: string): boolean {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  return isFolder(path); // a dangling link stays in the list as a file and is reported when it is read
}

function classesOf(folder: string, files: string[], wanted: NonNullable<FolderOptions['classes']>): { classes: readonly string[]; labelOf: (name: string) => number } {
  const none = { classes: [], labelOf: () => -1 };
  if (wanted === 'none') return none;
  const first = (name: string): string => (name.includes('/') ? name.slice(0, name.indexOf('/')) : '');
  const found = [...new Set(files.map(first))].sort(byCodeUnit);
  const loose = files.find((name) => first(name) === '');
  if (wanted === 'auto' && (loose !== undefined || found.length < 2)) return none;
  if (loose !== undefined) throw new SimmimError('invalid_argument', OP, `'${loose}' lies directly in '${folder}' and has no class: expected ${folder}/CLASS/IMAGE`);
  const classes = typeof wanted === 'string' ? found : wanted;
  const unknown = found.find((c) => !classes.includes(c));
  if (unknown !== undefined) throw new SimmimError('invalid_argument', OP, `folder '${folder}' has class '${unknown}', which is not among the ${classes.length} classes ${classes.slice(0, 10).join(', ')}${classes.length > 10 ? ', ...' : ''}`);
  const index = new Map(classes.map((c, i) => [c, i]));
  return { classes, labelOf: (name) => index.get(first(name)) ?? -1 };
}

/** Whether there is a folder of this name; false for whatever cannot be looked at. */
export function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** Endings of the files that hold a whole split. */
const SPLIT_FILES = ['.tar', '.zip', '.csv', '.bin'];

/**
 * The training and validation parts of a folder: `train/` (or train.tar, .zip, .csv, .bin) beside `val`, `valid`,
 * `validation` or `test` of the same kind (first that exists); `test_batch.bin` beside CIFAR-10's data_batch_*.bin;
 * else the folder itself and no validation part.
 */
export function findSplits(folder: string): { train: string; val: string | null } {
  const there = (name: string): boolean => existsSync(join(folder, name));
  const ending = isFolder(join(folder, 'train')) ? '' : SPLIT_FILES.find((e) => there(`train${e}`));
  if (ending === undefined) return { train: folder, val: there('data_batch_1.bin') && there('test_batch.bin') ? join(folder, 'test_batch.bin') : null };
  const val = ['val', 'valid', 'validation', 'test'].map((name) => name + ending).find((name) => (ending === '' ? isFolder(join(folder, name)) : there(name)));
  return { train: join(folder, `train${ending}`), val: val === undefined ? null : join(folder, val) };
}
