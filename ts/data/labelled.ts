/** Labelled training and validation sets: what fine-tuning and probes learn from and are judged on. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { Rng } from '../rng';
import { findSplits, isFolder, type ImageDataset, type Sample } from './dataset';
import { openDataset } from './open';
import { readSample } from './sample';
import { shuffleInPlace, SITE } from './sampler';

export interface LabelledOptions {
  /** Where the validation pictures are. Default: the split beside `train`, see `findSplits`. */
  validation?: string | null;
  /** Share of each class held out for validation when there is no such split. Default 0.2. */
  validationShare?: number;
  /** Chooses what is held out. Default 0. */
  seed?: number;
}

export interface LabelledSplits {
  train: ImageDataset;
  validation: ImageDataset;
  /** What the user should know, a sentence each. */
  warnings: string[];
}

const OP = 'dataset';
const bad = (message: string): SimmimError => new SimmimError('invalid_argument', OP, message);

/**
 * Opens a labelled dataset with its validation part; both have the training set's classes. Throws in one sentence for
 * pictures without a label, labels without pictures, a single class, and classes that differ between the parts;
 * warns when pictures are in both.
 */
export function openLabelledSplits(path: string, options: LabelledOptions = {}): LabelledSplits {
  const splits = findSplits(path);
  const train = openLabelledSet(splits.train);
  const held = options.validation ?? splits.val;
  if (held === null) {
    const share = options.validationShare ?? 0.2;
    const [kept, validation] = holdOutOfEachClass(train, share, options.seed ?? 0);
    return { train: kept, validation, warnings: [`'${path}' has no validation part: ${validation.length} of its ${train.length} pictures (${share} of each class) are held out`, ...checkLabelledSplits(kept, validation)] };
  }
  const validation = openLabelledSet(held, train.classes);
  return { train, validation, warnings: checkLabelledSplits(train, validation) };
}

/** A labelled dataset on its own, with the given classes or its own. Throws as {@link openLabelledSplits}. */
export function openLabelledSet(path: string, classes: readonly string[] | null = null): ImageDataset {
  const set = openDataset(path, { classes: classes ?? 'folders' });
  if (set.classes.length === 0) throw bad(`'${path}' has no labels: expected ${path}/CLASS/IMAGE, or a CSV with a label column`);
  if (set.classes.length === 1) throw bad(`'${path}' has one class, '${set.classes[0] ?? ''}': nothing can be told apart`);
  const empty = isFolder(path) && set.sample(0).location.bytes < 0 ? emptyClassFolders(path, set) : []; // bytes < 0: a file of its own, not a shard's
  if (empty.length > 0) throw bad(`class folder '${empty[0] ?? ''}' of '${path}' holds no image${empty.length > 1 ? ` (and ${empty.length - 1} more like it)` : ''}: a label without pictures; add some or remove the folder`);
  return set;
}

/** First-level folders without a single picture. */
function emptyClassFolders(path: string, set: ImageDataset): string[] {
  const used = new Set(set.samples.map(({ name }) => name.slice(0, name.indexOf('/'))));
  return readdirSync(path).filter((name) => !name.startsWith('.') && name !== '__MACOSX' && !used.has(name) && isFolder(join(path, name))).sort();
}

function holdOutOfEachClass(set: ImageDataset, share: number, seed: number): [ImageDataset, ImageDataset] {
  if (!(share > 0 && share < 1)) throw bad(`the share held out for validation is ${share}, expected between 0 and 1, both excluded`);
  const order = Uint32Array.from({ length: set.length }, (_, i) => i);
  shuffleInPlace(order, new Rng(seed, SITE.holdout));
  const wanted = set.classCounts().map((count) => Math.min(count - 1, Math.max(1, Math.round(share * count))));
  const lone = wanted.findIndex((count) => count < 1);
  if (lone >= 0) throw bad(`class '${set.classes[lone] ?? ''}' of '${set.source}' has one picture: none can be held out for validation`);
  const taken = wanted.map(() => 0);
  const [kept, held]: [number[], number[]] = [[], []];
  for (const index of order) {
    const { label } = set.sample(index);
    const hold = (taken[label] as number) < (wanted[label] as number);
    if (hold) taken[label] = (taken[label] as number) + 1;
    (hold ? held : kept).push(index);
  }
  return [set.subset(kept.sort((a, b) => a - b)), set.subset(held.sort((a, b) => a - b))];
}

/** The first `count` pictures of each class, in the set's order. Throws `invalid_argument` for a class that has fewer. */
export function firstOfEachClass(set: ImageDataset, count: number): ImageDataset {
  const short = set.classCounts().findIndex((has) => has < count);
  if (short >= 0) throw bad(`class '${set.classes[short] ?? ''}' of '${set.source}' has ${set.classCounts()[short] ?? 0} pictures, ${count} of each class are asked for`);
  const taken = set.classes.map(() => 0);
  return set.subset(set.samples.flatMap(({ label }, index) => ((taken[label] = (taken[label] as number) + 1) <= count ? [index] : [])));
}

/**
 * What is wrong with a pair of training and validation sets, as warnings. Throws invalid_argument for what
 * cannot work: no labels, other classes, a class without training pictures.
 */
export function checkLabelledSplits(train: ImageDataset, validation: ImageDataset): string[] {
  for (const set of [train, validation]) if (set.classes.length === 0) throw bad(`'${set.source}' has no labels: expected ${set.source}/CLASS/IMAGE, or a CSV with a label column`);
  if (train.classes.length !== validation.classes.length || train.classes.some((c, i) => c !== validation.classes[i])) {
    const only = (a: ImageDataset, b: ImageDataset): string => a.classes.filter((c) => !b.classes.includes(c)).slice(0, 5).join(', ') || 'none';
    throw bad(`'${train.source}' has ${train.classes.length} classes and '${validation.source}' ${validation.classes.length}: only in training ${only(train, validation)}; only in validation ${only(validation, train)}`);
  }
  const empty = train.classes.filter((_, i) => train.classCounts()[i] === 0);
  if (empty.length > 0) throw bad(`'${train.source}' has no picture of class ${empty.slice(0, 5).join(', ')}: remove the class or add pictures`);
  const warnings = sharedPictures(train, validation);
  const unseen = validation.classes.filter((_, i) => validation.classCounts()[i] === 0);
  if (unseen.length > 0) warnings.push(`'${validation.source}' has no picture of class ${unseen.slice(0, 5).join(', ')}`);
  return warnings;
}

/** Pairs of equal name that are compared byte by byte. */
const COMPARED = 32;

/** Pictures in both sets: the same place on disk, or (a copied folder) the same name and bytes. */
export function sharedPictures(train: ImageDataset, validation: ImageDataset): string[] {
  const place = ({ location }: Sample): string => `${location.file}@${location.offset}`;
  const trained = new Set(train.samples.map(place));
  const shared = validation.samples.filter((s) => trained.has(place(s))).length;
  if (shared > 0) return [`${shared} of the ${validation.length} validation pictures are training pictures too: the validation figures mean little`];
  const named = new Map(train.samples.map((s) => [s.name, s]));
  const pairs = validation.samples.flatMap((s) => (named.has(s.name) ? [[s, named.get(s.name) as Sample] as const] : []));
  const compared = pairs.filter((_, i) => i % Math.ceil(pairs.length / COMPARED) === 0);
  const copies = compared.filter(([a, b]) => bytesOf(a)?.equals(bytesOf(b) ?? Buffer.alloc(0))).length;
  return copies === 0 ? [] : [`${copies} of ${compared.length} validation pictures compared with the training picture of the same name are copies of it: is '${validation.source}' a copy of the training set?`];
}

/** Null for what cannot be read: training reports it by name when it comes to it. */
function bytesOf({ location, name }: Sample): Buffer | null {
  try {
    return readSample(location, name);
  } catch (error) {
    if (error instanceof SimmimError && error.code === 'io') return null;
    throw error;
  }
}
