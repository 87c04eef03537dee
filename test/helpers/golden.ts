import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { readSafetensors, toFloat32, type RawTensor } from '../../ts/formats/safetensors';

const root = resolve(dirname(__filename), '../..');

/**
 * The folder of reference tensors: GOLDEN_DIR, else ../shared/golden beside the repository, else the
 * small copy in test/golden. Throws, naming all three, when none holds a fixture: golden tests never skip.
 */
export function goldenDir(): string {
  const tried = [process.env.GOLDEN_DIR, join(root, '../shared/golden'), join(root, 'test/golden')].filter((d): d is string => !!d);
  const found = tried.find((dir) => existsSync(dir) && readdirSync(dir).some((f) => f.endsWith('.json')));
  if (!found) throw new Error(`no golden fixtures: looked for *.json in ${tried.join(', ')}`);
  return found;
}

/** The folder ../shared (or SIMMIM_SHARED) with data/ in it. Throws when absent. */
export function sharedDir(): string {
  const dir = process.env.SIMMIM_SHARED ?? join(root, '../shared');
  if (!existsSync(dir)) throw new Error(`no shared folder at ${dir}: set SIMMIM_SHARED`);
  return dir;
}

/** Names (without ending) of the fixtures `NAME.json` that match; at least one must exist. */
export function fixtures(pattern: RegExp): string[] {
  const names = readdirSync(goldenDir()).filter((f) => f.endsWith('.json')).map((f) => f.slice(0, -5)).filter((n) => pattern.test(n)).sort();
  if (names.length === 0) throw new Error(`no fixture in ${goldenDir()} matches ${String(pattern)}`);
  return names;
}

export interface Fixture<J> {
  name: string;
  json: J;
  raw: Map<string, RawTensor>;
  /** Values of a tensor: F32 as Float32Array; I32 and U8 as their own arrays. Throws when absent. */
  values(tensor: string): Float32Array | Int32Array | Uint8Array;
  shape(tensor: string): number[];
  has(tensor: string): boolean;
  /** Names below a prefix, without it. */
  under(prefix: string): string[];
}

/** Reads `NAME.json` and, where present, `NAME.safetensors` (paths relative to the golden folder). */
export function readFixture<J = Record<string, unknown>>(name: string): Fixture<J> {
  const base = join(goldenDir(), name);
  const json = JSON.parse(readFileSync(`${base}.json`, 'utf8')) as J;
  const raw = existsSync(`${base}.safetensors`) ? readSafetensors(`${base}.safetensors`).tensors : new Map<string, RawTensor>();
  const get = (tensor: string): RawTensor => {
    const found = raw.get(tensor);
    if (!found) throw new Error(`fixture ${name} has no tensor '${tensor}'`);
    return found;
  };
  return {
    name,
    json,
    raw,
    values(tensor) {
      const t = get(tensor);
      if (t.dtype === 'I32') return new Int32Array(new Uint8Array(t.data).buffer);
      if (t.dtype === 'U8') return new Uint8Array(t.data);
      return toFloat32(t, tensor);
    },
    shape: (tensor) => get(tensor).shape,
    has: (tensor) => raw.has(tensor),
    under: (prefix) => [...raw.keys()].filter((k) => k.startsWith(prefix)).map((k) => k.slice(prefix.length)),
  };
}

/** Largest absolute difference; NaN in either makes it Infinity. Throws on different lengths. */
export function maxAbsDiff(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths differ: ${a.length} and ${b.length}`);
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs((a[i] as number) - (b[i] as number));
    if (Number.isNaN(d)) return Infinity;
    if (d > worst) worst = d;
  }
  return worst;
}
