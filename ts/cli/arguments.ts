import { InvalidArgumentError } from 'commander';

/** Gathers an option that may be repeated. */
export const collect = (value: string, before: string[]): string[] => [...before, value];

/** A whole number of at least 1. */
export function wholeNumber(text: string): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1) throw new InvalidArgumentError('expected a positive whole number.');
  return n;
}

/** Numbers with commas between. */
export function numberList(text: string): number[] {
  const values = text.split(',').map((part) => (part.trim() === '' ? NaN : Number(part)));
  if (values.some((v) => !Number.isFinite(v))) throw new InvalidArgumentError('expected numbers with commas between.');
  return values;
}
