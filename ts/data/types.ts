/**
 * What the trainer knows of the data: batches of planar, normalised images, in an order and with
 * augmentations that depend on (seed, epoch, step, sample) alone, never on threads or prefetching.
 */

/** One batch, owned by the caller: later calls of `next()` do not change it. */
export interface Batch {
  /** [B, 3, H, W], RGB, planar, `(u8 / 255 - mean) / std` with the ImageNet statistics. */
  images: Float32Array;
  /** B names: path relative to the dataset's folder (or the in-memory name) of the picture really used. */
  files: string[];
  /** B indices into the dataset, of the picture really used (a broken one was replaced). */
  indices: number[];
  /** B class indices in [0, classes.length); absent when the dataset has no classes. */
  labels?: Int32Array;
  /** Epoch this batch belongs to, from 0. */
  epoch: number;
  /** Batch number within its epoch, in [0, batchesPerEpoch). */
  step: number;
}

/** A batch whose `images` are still the source's memory: valid, and not to be written, until `release`. */
export interface LeasedBatch extends Batch {
  release(): void;
}

/** Plain JSON: where a source stands, to be stored in a checkpoint. */
export interface SourceState {
  /** Epoch and step of the batch that the next `next()` yields. */
  epoch: number;
  step: number;
  /** Names of the files found broken so far, in the order they were met. */
  broken: string[];
}

/**
 * A resumable, endless sequence of batches: after the last step of an epoch comes step 0 of the next.
 * Batch (epoch, step) has the same bits whether reached by running, by `restore`, or with another
 * number of workers or another prefetch depth.
 */
export interface BatchSource {
  /** B, the rows of a full batch. Without drop-last the last batch of an epoch may have fewer. */
  readonly batchSize: number;
  /** Batches in one epoch (of this rank), at least 1. */
  readonly batchesPerEpoch: number;
  /** [3, H, W] of one image. */
  readonly imageShape: readonly [3, number, number];
  /** Class names in label order; empty when the dataset has no classes. */
  readonly classes: readonly string[];
  /**
   * The next batch. Rejects with a SimmimError that names the file when more than the allowed share of
   * the files is broken, or when a worker died; code 'disposed' after `close`.
   */
  next(): Promise<Batch>;
  /** As next(), without copying the images. The source stages no further than its memory reaches until they are released. */
  lease(): Promise<LeasedBatch>;
  /** Position of the next batch, as plain JSON. Batches that were prefetched but not taken do not count. */
  state(): SourceState;
  /** Continues at a position that `state()` gave. Prefetched batches are thrown away. */
  restore(state: SourceState): void;
  /** Stops the workers and frees the staging memory; may be called twice. */
  close(): Promise<void>;
}
