import type { FeatureSet } from './feature_set';

/** Rows that are read at a time. */
export const BLOCK_ROWS = 8192;

/** Features of at most so many bytes stay in memory between two passes; larger sets are read again block by block. */
export const RESIDENT_BYTES = 2 ** 30;

/** Visits a feature set in blocks of rows, in order. */
export function forBlocks(set: FeatureSet, use: (values: Float32Array, from: number, count: number) => void, size = BLOCK_ROWS): void {
  for (let from = 0; from < set.rows; from += size) {
    const count = Math.min(size, set.rows - from);
    use(set.read(from, count), from, count);
  }
}

/** Mean and standard deviation of each feature, in double precision. */
export interface Standardisation {
  mean: Float64Array;
  std: Float64Array;
}

/** Means and (population) deviations of the training features; a constant feature gets deviation 1, so that it becomes 0. */
export function standardisation(set: FeatureSet): Standardisation {
  const { channels, rows } = set;
  const mean = new Float64Array(channels);
  const squares = new Float64Array(channels);
  let seen = 0;
  forBlocks(set, (values, _, count) => {
    for (let row = 0; row < count; row++) {
      seen++;
      for (let c = 0; c < channels; c++) { // Welford
        const x = values[row * channels + c] as number;
        const before = mean[c] as number;
        const after = before + (x - before) / seen;
        mean[c] = after;
        squares[c] = (squares[c] as number) + (x - before) * (x - after);
      }
    }
  });
  const std = squares.map((sum, c) => {
    const deviation = Math.sqrt(sum / rows);
    return deviation > 1e-7 * Math.max(1e-30, Math.abs(mean[c] as number)) ? deviation : 1; // below float32's own rounding there is nothing
  });
  return { mean, std };
}

/** The set with (x - mean) / std in place of each feature x, computed as it is read. */
export function standardised(set: FeatureSet, { mean, std }: Standardisation): FeatureSet {
  const { channels } = set;
  return {
    ...set,
    read: (from, count) => {
      const values = set.read(from, count);
      for (let i = 0; i < values.length; i++) values[i] = ((values[i] as number) - (mean[i % channels] as number)) / (std[i % channels] as number);
      return values;
    },
  };
}

/** The set with every row divided by its length, for cosine similarities. A row of zeros stays one. */
export function unitRows(set: FeatureSet): FeatureSet {
  const { channels } = set;
  return {
    ...set,
    read: (from, count) => {
      const values = set.read(from, count);
      for (let row = 0; row < count; row++) {
        const part = values.subarray(row * channels, (row + 1) * channels);
        const length = Math.sqrt(part.reduce((sum, x) => sum + x * x, 0));
        if (length > 0) part.forEach((x, c) => (part[c] = x / length));
      }
      return values;
    },
  };
}
