/** Tensors [N, ...] on disk, written and read row by row: features of a large dataset do not fit into memory. */
import { closeSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { extname } from 'node:path';
import { SimmimError } from '../errors';
import { encodeNpy } from '../formats/npy';
import { encodeSafetensorsHeader, type RawTensor } from '../formats/safetensors';

const OP = 'features';
/** Name of the tensor in a safetensors file. */
export const FEATURES = 'features';

function header(file: string, shape: readonly number[]): Uint8Array {
  const described = { dtype: 'F32', shape: [...shape] } satisfies Omit<RawTensor, 'data'>;
  return extname(file) === '.npy' ? npyHeader(described) : encodeSafetensorsHeader([[FEATURES, described]]);
}

/** The bytes in front of an npy file's data: those of a file without rows, with the shape's length as it is. */
function npyHeader({ dtype, shape }: Omit<RawTensor, 'data'>): Uint8Array {
  const empty = Buffer.from(encodeNpy({ dtype, shape: [0, ...shape.slice(1)], data: new Uint8Array(0) })).toString('latin1');
  const text = empty.replace('(0,', `(${shape[0] ?? 0},`).trimEnd();
  return Buffer.from(`${text.padEnd(empty.length - 1)}\n`, 'latin1');
}

/** Writes a float32 tensor [N, ...row] to an .npy or .safetensors file; it appears under its name when `finish` is called. */
export class RowWriter {
  rows = 0;
  private readonly temporary: string;
  private readonly descriptor: number;
  private readonly reserved: number;
  private closed = false;

  /** `most`: the largest N that may come. Throws `io` when the file cannot be written. */
  constructor(
    readonly file: string,
    private readonly row: readonly number[],
    most: number,
  ) {
    this.temporary = `${file}.partial`;
    this.reserved = header(file, [most, ...row]).length;
    this.descriptor = guarded(file, () => openSync(this.temporary, 'w'));
  }

  /** Appends whole rows. */
  append(values: Float32Array): void {
    const size = this.row.reduce((a, b) => a * b, 1);
    if (values.length % size !== 0) throw new SimmimError('internal', OP, `${values.length} values are no whole number of rows of ${size}`);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const from = this.reserved + this.rows * size * 4;
    guarded(this.file, () => {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.descriptor, bytes, at, bytes.length - at, from + at);
    });
    this.rows += values.length / size;
  }

  /** Writes the header, now that N is known, and gives the file its name. */
  finish(): void {
    const text = Buffer.alloc(this.reserved, ' ');
    const real = Buffer.from(header(this.file, [this.rows, ...this.row]));
    real.copy(text);
    if (extname(this.file) === '.safetensors') text.writeBigUInt64LE(BigInt(this.reserved - 8), 0); // blanks after the JSON belong to the header
    guarded(this.file, () => {
      writeSync(this.descriptor, text, 0, text.length, 0);
      this.closed = true;
      closeSync(this.descriptor);
      renameSync(this.temporary, this.file);
    });
  }

  /** Removes what was written, unless it is finished. */
  abandon(): void {
    if (this.closed) return;
    this.closed = true;
    closeSync(this.descriptor);
    rmSync(this.temporary, { force: true });
  }
}

function guarded<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new SimmimError('io', OP, `cannot write '${file}': ${(error as Error).message}`, { cause: error });
  }
}

/** Rows [from, from + count) of a two-dimensional .npy file of ours. */
export function readRows(file: string, channels: number, from: number, count: number): Float32Array {
  const values = new Float32Array(count * channels);
  const bytes = new Uint8Array(values.buffer);
  const descriptor = openSync(file, 'r');
  try {
    const start = headerBytes(descriptor);
    for (let at = 0; at < bytes.length; ) {
      const got = readSync(descriptor, bytes, at, bytes.length - at, start + from * channels * 4 + at);
      if (got === 0) throw new SimmimError('corrupt', OP, `'${file}' ends before row ${from + count}`);
      at += got;
    }
    return values;
  } finally {
    closeSync(descriptor);
  }
}

function headerBytes(descriptor: number): number {
  const start = Buffer.alloc(10);
  readSync(descriptor, start, 0, 10, 0);
  return 10 + start.readUInt16LE(8);
}
