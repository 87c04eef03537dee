import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { SimmimError } from '../errors';
import { applyOverrides, parseRecipe, type Recipe } from '../train/recipe';
import { loadRecipe } from '../train/recipe_files';

/** Gathers an option that may be repeated. */
export const collect = (value: string, before: string[]): string[] => [...before, value];

/** A whole number of at least 1. */
export function wholeNumber(text: string): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1) throw new InvalidArgumentError('expected a positive whole number.');
  return n;
}

/** A number above 0. */
export function positiveNumber(text: string): number {
  const n = text.trim() === '' ? NaN : Number(text);
  if (!(n > 0 && n < Infinity)) throw new InvalidArgumentError('expected a number above 0.');
  return n;
}

/** A whole number of at least 0, such as a seed. */
export function wholeOrZero(text: string): number {
  const n = text.trim() === '' ? NaN : Number(text);
  if (!Number.isInteger(n) || n < 0) throw new InvalidArgumentError('expected a whole number of at least 0.');
  return n;
}

/** Numbers with commas between. */
export function numberList(text: string): number[] {
  const values = text.split(',').map((part) => (part.trim() === '' ? NaN : Number(part)));
  if (values.some((v) => !Number.isFinite(v))) throw new InvalidArgumentError('expected numbers with commas between.');
  return values;
}

/** Where a command finds its pictures. */
export interface DataOptions {
  data?: string;
  recipe?: string;
  set: string[];
  imageSize?: number;
}

/**
 * The recipe whose data a command uses: `--recipe`, or the defaults, with `--data`, `--image-size` and `--set` applied. Mask cells are
 * left aside, so that any image size will do.
 */
export function dataRecipe(command: string, { data, recipe, set, imageSize }: DataOptions): Recipe {
  if (data === undefined && recipe === undefined) throw new SimmimError('invalid_argument', command, "give the folder of your pictures with --data FOLDER, or --recipe NAME (see 'simmim recipes')");
  const folder = data === undefined ? [] : ['data.source=folder', `data.folder=${JSON.stringify(resolve(data))}`];
  const size = imageSize === undefined ? [] : [`model.imageSize=${imageSize}`];
  const base = recipe === undefined ? parseRecipe({}) : loadRecipe(recipe);
  return parseRecipe(applyOverrides({ ...base, masking: { ...base.masking, strategy: 'random', patchSize: 1 } }, [...folder, ...size, ...set]), '--set');
}
