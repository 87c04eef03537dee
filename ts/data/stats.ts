/** What a dataset is like: `simmim stats`. */
import { createHash } from 'node:crypto';
import type { ImageDataset, Sample } from './dataset';
import { SimmimError } from '../errors';
import { decodeSample, readSample } from './sample';
import { sideBySide } from './side_by_side';

export interface DatasetStats {
  pictures: number;
  broken: { name: string; reason: string }[];
  /** Of all pixels of all readable pictures, values in [0, 1], R G B. */
  mean: [number, number, number];
  std: [number, number, number];
  width: Range;
  height: Range;
  classes: { name: string; pictures: number }[];
  /** Pictures whose bytes are those of an earlier one. */
  duplicates: { name: string; of: string }[];
  /** Name of the first picture with each content, by a digest of its bytes. */
  contents: Map<string, string>;
}

export interface Range {
  least: number;
  median: number;
  most: number;
}

function range(values: number[]): Range {
  const sorted = values.sort((a, b) => a - b);
  return { least: sorted[0] ?? 0, median: sorted[sorted.length >> 1] ?? 0, most: sorted[sorted.length - 1] ?? 0 };
}

interface Measured {
  digest: string;
  width: number;
  height: number;
}

/** Counts of each channel's 256 levels: sums over them are exact. */
class Levels {
  private readonly counts = [new Float64Array(256), new Float64Array(256), new Float64Array(256)] as const;

  add(pixels: Uint8Array): void {
    const [red, green, blue] = this.counts;
    const count = (levels: Float64Array, level: number): void => {
      levels[level] = (levels[level] as number) + 1;
    };
    for (let at = 0; at < pixels.length; at += 3) {
      count(red, pixels[at] as number);
      count(green, pixels[at + 1] as number);
      count(blue, pixels[at + 2] as number);
    }
  }

  moments(): { mean: [number, number, number]; std: [number, number, number] } {
    const moments = this.counts.map((levels) => {
      const total = levels.reduce((a, b) => a + b, 0);
      const mean = levels.reduce((sum, n, level) => sum + n * level, 0) / total / 255;
      return { mean, std: Math.sqrt(levels.reduce((sum, n, level) => sum + n * (level / 255 - mean) ** 2, 0) / total) };
    });
    return { mean: moments.map((m) => m.mean) as [number, number, number], std: moments.map((m) => m.std) as [number, number, number] };
  }
}

/**
 * Reads every picture once. `onProgress` is told after each how many are done. Throws corrupt when none is readable.
 */
export async function datasetStats(dataset: ImageDataset, onProgress?: (done: number) => void): Promise<DatasetStats> {
  const levels = new Levels();
  const measured: (Measured | SimmimError)[] = [];
  const measure = async ({ name, location }: Sample): Promise<Measured | SimmimError> => {
    try {
      const bytes = readSample(location, name);
      const { data, width, height } = await decodeSample(bytes, location, name);
      levels.add(data);
      return { digest: createHash('sha256').update(bytes).digest('base64').slice(0, 24), width, height };
    } catch (error) {
      if (error instanceof SimmimError) return error;
      throw error;
    }
  };
  for await (const one of sideBySide(dataset.samples, measure)) {
    measured.push(one);
    onProgress?.(measured.length);
  }
  return { pictures: dataset.length, ...summary(dataset, measured), ...levels.moments() };
}

function summary(dataset: ImageDataset, measured: readonly (Measured | SimmimError)[]): Omit<DatasetStats, 'pictures' | 'mean' | 'std'> {
  const broken: DatasetStats['broken'] = [];
  const duplicates: DatasetStats['duplicates'] = [];
  const contents = new Map<string, string>();
  const sizes: { width: number[]; height: number[] } = { width: [], height: [] };
  measured.forEach((m, i) => {
    const { name } = dataset.sample(i);
    if (m instanceof SimmimError) return void broken.push({ name, reason: m.message });
    sizes.width.push(m.width);
    sizes.height.push(m.height);
    const first = contents.get(m.digest);
    if (first === undefined) contents.set(m.digest, name);
    else duplicates.push({ name, of: first });
  });
  if (contents.size === 0) throw new SimmimError('corrupt', 'stats', `none of the ${dataset.length} pictures of '${dataset.source}' can be read: ${broken[0]?.reason ?? ''}`);
  const classes = dataset.classCounts().map((pictures, label) => ({ name: dataset.classes[label] as string, pictures }));
  return { broken, duplicates, contents, width: range(sizes.width), height: range(sizes.height), classes };
}
