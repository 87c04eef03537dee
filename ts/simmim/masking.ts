import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import type { Pair } from '../models/encoder';
import { rngSites } from '../nn/context';
import { hiddenCells, randomMask } from '../ops/random_mask';
import { Rng } from '../rng';

const OP = 'masking';

/**
 * How the hidden part of an image is chosen (paper section 3.2 and Fig. 3). `patch` is the side of a cell in pixels.
 * - random: ceil(cells * ratio) cells, uniformly without replacement (official MaskGenerator).
 * - square: one square of round(sqrt(cells * ratio)) cells, uniform over the positions on the grid (ours: the paper
 *   shows a central region without defining it).
 * - block: BEiT's block-wise mask of at most ceil(cells * ratio) cells; a block has at least `minCells` cells
 *   (default: 64 x 64 pixels, which is BEiT's 16 patches of 16) and an aspect in [minAspect, 1 / minAspect]
 *   (default 0.3). It may stop short of the target.
 * - explicit: the same grid of 0 and 1 (hidden) for every sample.
 */
export type MaskStrategy =
  | { kind: 'random'; patch: number; ratio: number }
  | { kind: 'square'; patch: number; ratio: number }
  | { kind: 'block'; patch: number; ratio: number; minCells?: number; minAspect?: number }
  | { kind: 'explicit'; grid: readonly (readonly number[])[] };

/** Position in the run, on the host: what the device's `clock` tensor holds. */
export interface Clock {
  seed: number;
  step: number;
  micro: number;
}

/** Draws masks for one image size and one encoder. */
export class Masking {
  /** Cells of the strategy's own grid, [rows, columns]. */
  readonly cells: [number, number];
  /** Entries of the model's mask per cell, in each direction. */
  readonly repeat: number;
  /** Cells hidden in each sample (block: at most). */
  readonly count: number;

  /** Throws `invalid_argument` when the cells do not tile the image or patches of the model do not tile a cell. */
  constructor(
    readonly strategy: MaskStrategy,
    imageSize: Pair,
    modelPatch: number,
  ) {
    if (strategy.kind === 'explicit') {
      const { rows, columns, hidden } = checkGrid(strategy.grid);
      this.cells = [rows, columns];
      this.repeat = explicitRepeat(this.cells, imageSize, modelPatch);
      this.count = hidden;
      return;
    }
    checkStrategy(strategy);
    this.cells = cellGrid(imageSize, strategy.patch);
    this.repeat = cellRepeat(imageSize, strategy.patch, modelPatch);
    this.count = strategy.kind === 'square' ? squareSide(this.cells, strategy.ratio) ** 2 : maskCount(this.cells, strategy.ratio);
  }

  /** Share of the image that is hidden, after rounding up (block: at most). */
  get ratio(): number {
    return this.count / (this.cells[0] * this.cells[1]);
  }

  /** Shape of the masks of a batch: [B, rows, columns] of the model's patches. */
  shape(batch: number): [number, number, number] {
    return [batch, this.cells[0] * this.repeat, this.cells[1] * this.repeat];
  }

  /** Whether `onDevice` works without reading the clock back, so that it may be part of a recorded step. */
  get drawsOnDevice(): boolean {
    return this.strategy.kind === 'random';
  }

  /** Masks float32 [B, rows, columns] of the model's patches, 1 = hidden, from the device's clock. Random strategy only. */
  onDevice(clock: tf.Tensor, batch: number): tf.Tensor {
    if (!this.drawsOnDevice) {
      throw new SimmimError('unsupported', OP, `a ${this.strategy.kind} mask is drawn on the host: use onHost and upload the result`);
    }
    return randomMask(clock, { site: rngSites.mask, batch, cells: this.cells, count: this.count, repeat: this.repeat });
  }

  /** The same values as a host array, for every strategy: [B, rows, columns] row-major. */
  onHost({ seed, step, micro }: Clock, batch: number): Float32Array {
    const [, rows, columns] = this.shape(batch);
    const masks = new Float32Array(batch * rows * columns);
    for (let sample = 0; sample < batch; sample++) {
      const cells = this.drawCells([seed, step, micro], sample, batch);
      for (let y = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++) {
          masks[(sample * rows + y) * columns + x] = cells[Math.floor(y / this.repeat) * this.cells[1] + Math.floor(x / this.repeat)] as number;
        }
      }
    }
    return masks;
  }

  /** Cells of one sample, 1 = hidden. */
  private drawCells(clock: [number, number, number], sample: number, batch: number): Uint8Array {
    const { strategy, cells } = this;
    const total = cells[0] * cells[1];
    if (strategy.kind === 'explicit') return Uint8Array.from(strategy.grid.flat());
    if (strategy.kind === 'random') {
      const mask = new Uint8Array(total);
      for (const cell of hiddenCells(clock, sample, rngSites.mask, total, this.count, batch)) mask[cell] = 1;
      return mask;
    }
    const rng = new Rng(clock[0], rngSites.mask, clock[1]);
    rng.state = (clock[2] * batch + sample) * WORDS_PER_SAMPLE;
    return strategy.kind === 'square' ? squareCells(cells, squareSide(cells, strategy.ratio), rng) : blockCells(cells, this.count, strategy, rng);
  }
}

/** Random words set aside for each sample: more than the longest block-wise draw can need. */
const WORDS_PER_SAMPLE = 2 ** 24;

/** Hidden cells of a grid: ceil(cells * ratio) in double precision, as the official code. */
export function maskCount([rows, columns]: Pair, ratio: number): number {
  return Math.ceil(rows * columns * ratio);
}

/** Side in cells of a square that covers about `ratio` of the grid; at most the shorter side. */
function squareSide([rows, columns]: Pair, ratio: number): number {
  return Math.min(rows, columns, Math.round(Math.sqrt(rows * columns * ratio)));
}

function squareCells([rows, columns]: Pair, side: number, rng: Rng): Uint8Array {
  const mask = new Uint8Array(rows * columns);
  const top = rng.below(rows - side + 1);
  const left = rng.below(columns - side + 1);
  for (let y = top; y < top + side; y++) mask.fill(1, y * columns + left, y * columns + left + side);
  return mask;
}

/** Fewest cells of one block: `minCells`, or as many as make 64 x 64 pixels. */
export function smallestBlock(strategy: { patch: number; minCells?: number }): number {
  return strategy.minCells ?? Math.max(1, Math.round((64 / strategy.patch) ** 2));
}

/** BEiT's generator (Bao et al. 2021, algorithm 1; unilm `masking_generator.py`): blocks until the target is reached or ten tries fail. */
function blockCells(grid: Pair, target: number, strategy: { patch: number; minCells?: number; minAspect?: number }, rng: Rng): Uint8Array {
  const mask = new Uint8Array(grid[0] * grid[1]);
  const least = smallestBlock(strategy);
  const reach = Math.log(1 / (strategy.minAspect ?? 0.3));
  for (let hidden = 0; hidden < target; ) {
    const added = addBlock(mask, grid, least, target - hidden, reach, rng);
    if (added === 0) break;
    hidden += added;
  }
  return mask;
}

/** Up to ten tries to hide one more block of at most `room` new cells; returns how many it hid. */
function addBlock(mask: Uint8Array, [rows, columns]: Pair, least: number, room: number, reach: number, rng: Rng): number {
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = least + (room - least) * rng.uniform();
    const aspect = Math.exp(reach * (2 * rng.uniform() - 1));
    const height = Math.round(Math.sqrt(area * aspect));
    const width = Math.round(Math.sqrt(area / aspect));
    if (height >= rows || width >= columns) continue;
    const top = rng.below(rows - height + 1);
    const left = rng.below(columns - width + 1);
    const block: number[] = [];
    for (let y = top; y < top + height; y++) {
      for (let x = left; x < left + width; x++) if (!mask[y * columns + x]) block.push(y * columns + x);
    }
    if (block.length === 0 || block.length > room) continue;
    for (const cell of block) mask[cell] = 1;
    return block.length;
  }
  return 0;
}

function refuse(message: string): never {
  throw new SimmimError('invalid_argument', OP, message);
}

function checkStrategy(strategy: Exclude<MaskStrategy, { kind: 'explicit' }>): void {
  const { kind, patch, ratio } = strategy;
  if (!['random', 'square', 'block'].includes(kind)) refuse(`kind is '${String(kind)}', expected random, square, block or explicit`);
  if (!Number.isInteger(patch) || patch < 1) refuse(`patch is ${patch}, expected a whole number of pixels`);
  if (!(ratio >= 0 && ratio <= 1)) refuse(`ratio is ${ratio}, expected a share between 0 and 1`);
  if (strategy.kind !== 'block') return;
  const { minCells = 1, minAspect = 0.3 } = strategy;
  if (!(minCells >= 1)) refuse(`minCells is ${minCells}, expected at least 1`);
  if (!(minAspect > 0 && minAspect <= 1)) refuse(`minAspect is ${minAspect}, expected above 0 and at most 1`);
}

function cellGrid([height, width]: Pair, patch: number): [number, number] {
  if (height % patch !== 0 || width % patch !== 0) {
    refuse(`mask cells of ${patch} px do not tile an image of ${height}x${width} px: the grid would be ${height / patch}x${width / patch} cells`);
  }
  return [height / patch, width / patch];
}

function cellRepeat([height, width]: Pair, patch: number, modelPatch: number): number {
  if (patch % modelPatch !== 0) {
    refuse(`mask cells of ${patch} px (a ${height / patch}x${width / patch} grid) are not whole patches of the model's ${modelPatch} px (a ${height / modelPatch}x${width / modelPatch} grid): patch must be a multiple of ${modelPatch}`);
  }
  return patch / modelPatch;
}

function checkGrid(grid: readonly (readonly number[])[]): { rows: number; columns: number; hidden: number } {
  const columns = grid[0]?.length ?? 0;
  if (columns === 0 || grid.some((row) => row.length !== columns)) refuse('an explicit grid needs rows of equal, non-zero length');
  const flat = grid.flat();
  const odd = flat.find((value) => value !== 0 && value !== 1);
  if (odd !== undefined) refuse(`an explicit grid holds ${odd}, expected 0 (visible) or 1 (hidden)`);
  return { rows: grid.length, columns, hidden: flat.reduce((sum, value) => sum + value, 0) };
}

function explicitRepeat([rows, columns]: Pair, [height, width]: Pair, modelPatch: number): number {
  const [down, across] = [height / modelPatch / rows, width / modelPatch / columns];
  if (!Number.isInteger(down) || down !== across) {
    refuse(`an explicit grid of ${rows}x${columns} does not fit the model's ${height / modelPatch}x${width / modelPatch} patches of ${modelPatch} px: each cell must cover the same whole number of patches`);
  }
  return down;
}

/**
 * A grid of the model's patches from a picture of what to hide: pixels [height, width] row-major, non-zero =
 * hidden; a patch is hidden when at least half of it is. Throws when patches do not tile the picture.
 */
export function gridFromPixels(pixels: ArrayLike<number>, [height, width]: Pair, modelPatch: number): number[][] {
  const [rows, columns] = cellGrid([height, width], modelPatch);
  if (pixels.length !== height * width) refuse(`pixels has ${pixels.length} values, expected ${height * width} = ${height}x${width}`);
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: columns }, (__, column) => {
      let hidden = 0;
      for (let y = 0; y < modelPatch; y++) {
        const start = (row * modelPatch + y) * width + column * modelPatch;
        for (let x = 0; x < modelPatch; x++) hidden += pixels[start + x] ? 1 : 0;
      }
      return hidden * 2 >= modelPatch * modelPatch ? 1 : 0;
    }));
}
