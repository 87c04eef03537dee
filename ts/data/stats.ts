/** What a dataset is like: `simmim stats`. */
import type { ImageDataset } from './dataset';
import { SimmimError } from '../errors';
import { loadImage } from './sample';

export interface DatasetStats {
  pictures: number;
  broken: { name: string; reason: string }[];
  /** Of all pixels of all readable pictures, values in [0, 1], R G B. */
  mean: [number, number, number];
  std: [number, number, number];
  width: Range;
  height: Range;
  classes: { name: string; pictures: number }[];
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

/** Reads every picture once. `onProgress` is told after each how many are done. Throws corrupt when none is readable. */
export async function datasetStats(dataset: ImageDataset, onProgress?: (done: number) => void): Promise<DatasetStats> {
  const counts = Array.from({ length: 3 }, () => new Float64Array(256)); // exact: sums come from integer histograms
  const sizes: { width: number[]; height: number[] } = { width: [], height: [] };
  const broken: DatasetStats['broken'] = [];
  for (const [i, sample] of dataset.samples.entries()) {
    try {
      const { data, width, height } = await loadImage(sample.location, sample.name);
      for (let at = 0; at < data.length; at++) {
        const histogram = counts[at % 3] as Float64Array;
        histogram[data[at] as number] = (histogram[data[at] as number] as number) + 1;
      }
      sizes.width.push(width);
      sizes.height.push(height);
    } catch (error) {
      if (!(error instanceof SimmimError)) throw error;
      broken.push({ name: sample.name, reason: error.message });
    }
    onProgress?.(i + 1);
  }
  if (sizes.width.length === 0) throw new SimmimError('corrupt', 'stats', `none of the ${dataset.length} pictures of '${dataset.source}' can be read: ${broken[0]?.reason ?? ''}`);
  const moments = counts.map((histogram) => {
    const total = histogram.reduce((a, b) => a + b, 0);
    const mean = histogram.reduce((sum, n, level) => sum + n * level, 0) / total / 255;
    return { mean, std: Math.sqrt(histogram.reduce((sum, n, level) => sum + n * (level / 255 - mean) ** 2, 0) / total) };
  });
  return {
    pictures: dataset.length,
    broken,
    mean: moments.map((m) => m.mean) as [number, number, number],
    std: moments.map((m) => m.std) as [number, number, number],
    width: range(sizes.width),
    height: range(sizes.height),
    classes: dataset.classCounts().map((pictures, label) => ({ name: dataset.classes[label] as string, pictures })),
  };
}

/**
 * What is wrong with a pair of training and validation sets, as warnings. Throws invalid_argument for what
 * cannot work: no labels, other classes, a class without training pictures.
 */
export function checkLabelledSplits(train: ImageDataset, validation: ImageDataset): string[] {
  const bad = (message: string): SimmimError => new SimmimError('invalid_argument', 'dataset', message);
  for (const set of [train, validation]) if (set.classes.length === 0) throw bad(`'${set.source}' has no labels: expected ${set.source}/CLASS/IMAGE, or a CSV with a label column`);
  if (train.classes.length !== validation.classes.length || train.classes.some((c, i) => c !== validation.classes[i])) {
    const only = (a: ImageDataset, b: ImageDataset): string => a.classes.filter((c) => !b.classes.includes(c)).slice(0, 5).join(', ') || 'none';
    throw bad(`'${train.source}' has ${train.classes.length} classes and '${validation.source}' ${validation.classes.length}: only in training ${only(train, validation)}; only in validation ${only(validation, train)}`);
  }
  const empty = train.classes.filter((_, i) => train.classCounts()[i] === 0);
  if (empty.length > 0) throw bad(`'${train.source}' has no picture of class ${empty.slice(0, 5).join(', ')}: remove the class or add pictures`);
  const place = (set: ImageDataset): string[] => set.samples.map(({ location }) => `${location.file}@${location.offset}`);
  const trained = new Set(place(train));
  const shared = place(validation).filter((p) => trained.has(p)).length;
  const warnings = shared > 0 ? [`${shared} of the ${validation.length} validation pictures are training pictures too: the validation figures mean little`] : [];
  const unseen = validation.classes.filter((_, i) => validation.classCounts()[i] === 0);
  if (unseen.length > 0) warnings.push(`'${validation.source}' has no picture of class ${unseen.slice(0, 5).join(', ')}`);
  return warnings;
}
