import { closest } from 'fastest-levenshtein';
import { SimmimError } from '../errors';

/** Throws `invalid_argument` for a name that is not among `known`, naming the nearest that is. */
export function unknownName(op: string, what: string, got: string, known: readonly string[]): never {
  throw new SimmimError('invalid_argument', op, `unknown ${what} '${got}'; did you mean '${closest(got, [...known])}'? (known: ${known.join(', ')})`);
}

type Options = Readonly<Record<string, unknown>>;

/** Options whose value is one of a few words. */
const WORDS: Readonly<Record<string, readonly string[]>> = { relativeBias: ['shared', 'per_block', 'none'] };
/** Options that are whole numbers of at least this. */
const WHOLE: Readonly<Record<string, number>> = {
  patchSize: 1, inChannels: 1, embedDim: 1, depth: 1, windowSize: 1, extraNormPeriod: 0, seed: 0,
};
/** Options that may also be null. */
const NULLABLE = new Set(['qkScale', 'layerScale']);

function refuse(op: string, name: string, value: unknown, expected: string): never {
  throw new SimmimError('invalid_argument', op, `${name} is ${JSON.stringify(value) ?? String(value)}, expected ${expected}`);
}

function isWhole(value: unknown, least: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= least;
}

/** Throws unless a list has whole numbers of at least `least`, or `heads` of ViT: one such number. */
function checkList(op: string, name: string, value: unknown, least: number): void {
  if (!Array.isArray(value) || !value.every((n) => isWhole(n, least))) refuse(op, name, value, `a list of whole numbers of at least ${least}`);
}

function checkNumber(op: string, name: string, value: unknown): void {
  const top = name === 'dropPath' ? 1 : Infinity;
  const ok = typeof value === 'number' && Number.isFinite(value) && value >= 0 && value < top;
  if (!ok) refuse(op, name, value, top === 1 ? 'a rate of at least 0 and below 1' : 'a finite number of at least 0');
  if (value === 0 && (name === 'mlpRatio' || name === 'layerNormEps')) refuse(op, name, value, 'a number above 0');
}

/** Throws unless `value` is of the kind that the preset's value `like` of option `name` shows. */
function checkOption(op: string, name: string, value: unknown, like: unknown): void {
  if (value === null && NULLABLE.has(name)) return;
  if (name === 'imageSize') {
    const sides = Array.isArray(value) ? value : [value, value];
    if (sides.length !== 2 || !sides.every((n) => isWhole(n, 1))) refuse(op, name, value, 'a whole number of pixels or [height, width]');
  } else if (WORDS[name]) {
    if (!WORDS[name].includes(String(value))) unknownName(op, name, String(value), WORDS[name]);
  } else if (Array.isArray(like)) {
    checkList(op, name, value, name === 'pretrainedWindowSizes' ? 0 : 1);
  } else if (name in WHOLE || name === 'heads') {
    const least = WHOLE[name] ?? 1;
    if (!isWhole(value, least)) refuse(op, name, value, `a whole number of at least ${least}`);
  } else if (typeof like === 'boolean') {
    if (typeof value !== 'boolean') refuse(op, name, value, 'true or false');
  } else {
    checkNumber(op, name, value);
  }
}

/**
 * A preset's configuration with some options replaced. `undefined` values are ignored. Throws
 * `invalid_argument` for an unknown option (naming the nearest) or a value of the wrong kind.
 */
export function withOptions<C extends object>(op: string, preset: C, overrides: object): C {
  const merged: Record<string, unknown> = { ...(preset as Options) };
  for (const [name, value] of Object.entries(overrides as Options)) {
    if (!Object.hasOwn(preset, name)) unknownName(op, 'option', name, Object.keys(preset));
    if (value === undefined) continue;
    checkOption(op, name, value, (preset as Options)[name]);
    merged[name] = value;
  }
  return merged as C;
}
