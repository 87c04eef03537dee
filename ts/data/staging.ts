/**
 * Memory shared by the pipeline and its workers: `slots` batches of pixels and, per slot, two counters.
 * Rows of a slot are handed out by an atomic `claimed` counter that only grows (so a worker that reads an
 * old job late finds nothing left to claim) and counted in `done`. A row that failed carries its error text
 * in its own pixels, so nothing of a batch needs the event loop.
 */
import { SimmimError } from '../errors';

/** The shared buffers; structured-cloneable. */
export interface StagingBuffers {
  pixels: SharedArrayBuffer;
  counters: SharedArrayBuffer;
  failed: SharedArrayBuffer;
  slots: number;
  batchSize: number;
  rowFloats: number;
}

const MAX_TEXT = 2048;

export class Staging {
  private readonly pixels: Float32Array;
  private readonly counters: Int32Array;
  private readonly failed: Uint8Array;

  constructor(readonly buffers: StagingBuffers) {
    this.pixels = new Float32Array(buffers.pixels);
    this.counters = new Int32Array(buffers.counters);
    this.failed = new Uint8Array(buffers.failed);
  }

  /** Throws out_of_memory naming the size when the buffers cannot be had. */
  static allocate(slots: number, batchSize: number, rowFloats: number): Staging {
    const bytes = slots * batchSize * rowFloats * 4;
    try {
      return new Staging({
        pixels: new SharedArrayBuffer(bytes),
        counters: new SharedArrayBuffer(slots * 8),
        failed: new SharedArrayBuffer(slots * batchSize),
        slots,
        batchSize,
        rowFloats,
      });
    } catch (error) {
      throw new SimmimError('out_of_memory', 'pipeline', `cannot stage ${slots} batches of ${batchSize} images (${(bytes / 2 ** 20).toFixed(0)} MiB): use a smaller batch or prefetch`, { cause: error });
    }
  }

  row(slot: number, row: number): Float32Array {
    const { batchSize, rowFloats } = this.buffers;
    const from = (slot * batchSize + row) * rowFloats;
    return this.pixels.subarray(from, from + rowFloats);
  }

  /** The first `rows` rows of a slot. */
  pixelsOf(slot: number, rows: number): Float32Array {
    const { batchSize, rowFloats } = this.buffers;
    const from = slot * batchSize * rowFloats;
    return this.pixels.subarray(from, from + rows * rowFloats);
  }

  /** The next unclaimed number in [base, end), or -1. */
  claim(slot: number, base: number, end: number): number {
    for (;;) {
      const next = Atomics.load(this.counters, slot * 2);
      if (next < base || next >= end) return -1;
      if (Atomics.compareExchange(this.counters, slot * 2, next, next + 1) === next) return next;
    }
  }

  /** Counts one finished row and returns how many that makes. */
  finish(slot: number): number {
    return Atomics.add(this.counters, slot * 2 + 1, 1) + 1;
  }

  done(slot: number): number {
    return Atomics.load(this.counters, slot * 2 + 1);
  }

  /** Marks a row good (null) or failed with a reason. */
  report(slot: number, row: number, reason: string | null): void {
    const at = slot * this.buffers.batchSize + row;
    this.failed[at] = reason === null ? 0 : 1;
    if (reason !== null) {
      const floats = this.row(slot, row);
      const room = Math.min(MAX_TEXT, floats.length);
      const codes = Array.from(reason.slice(0, room - 1), (_, i) => reason.charCodeAt(i));
      floats[0] = codes.length;
      floats.set(codes, 1);
    }
  }

  /** Why a row failed, or null when it is good. */
  failure(slot: number, row: number): string | null {
    if (this.failed[slot * this.buffers.batchSize + row] === 0) return null;
    const floats = this.row(slot, row);
    return String.fromCharCode(...floats.subarray(1, 1 + (floats[0] as number)));
  }
}
