import { type NativeTensor, loadAddon } from '../../ts/native';

/** Calling native kernels straight from a test: uploads, outputs, reads, and one run per instruction-set level. */

const addon = loadAddon();
const { isaLevels: LEVELS, threads: THREADS, isa: ISA } = addon.info();
const live: NativeTensor[] = [];

export const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export function input(shape: readonly number[], values: ArrayLike<number>, dtype: 'f32' | 'i32' = 'f32'): NativeTensor {
  const host = dtype === 'i32' ? Int32Array.from(values) : Float32Array.from(values);
  const tensor = { storage: { handle: addon.upload(dtype === 'i32' ? 1 : 0, host, host.length), dtype }, shape };
  live.push(tensor);
  return tensor;
}

export function output(shape: readonly number[]): NativeTensor {
  const tensor: NativeTensor = { storage: { handle: 0, dtype: 'f32' }, shape };
  live.push(tensor);
  return tensor;
}

export function read(tensor: NativeTensor): Float32Array {
  const values = new Float32Array(size(tensor.shape));
  addon.readInto(tensor.storage.handle, values);
  return values;
}

/**
 * What `call` returns, for each instruction-set level of the machine; with 1, 2 and 5 threads the bits must be equal.
 * Every tensor made inside is released again.
 */
export function onEveryLevel(call: () => Record<string, Float32Array>): { level: string; values: Record<string, Float32Array> }[] {
  try {
    return LEVELS.map((level) => {
      addon.setIsa(level);
      const runs = [1, 2, 5].map((threads) => {
        addon.setThreads(threads);
        const values = call();
        for (const tensor of live.splice(0)) if (tensor.storage.handle) addon.release(tensor.storage.handle);
        return values;
      });
      const [first, ...others] = runs as [Record<string, Float32Array>];
      for (const other of others) {
        for (const name of Object.keys(first)) {
          if (Buffer.compare(bytes(first[name] as Float32Array), bytes(other[name] as Float32Array)) !== 0) throw new Error(`${name} depends on the number of threads (${level})`);
        }
      }
      return { level, values: first };
    });
  } finally {
    addon.setIsa(ISA);
    addon.setThreads(THREADS);
  }
}

const bytes = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** The largest |got - want|, relative to the largest |want| (or 1 when that is smaller, for values near 0). NaN counts as infinite. */
export function distance(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Infinity;
  let scale = 0;
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    scale = Math.max(scale, Math.abs(want[i] as number));
    const d = Math.abs((got[i] as number) - (want[i] as number));
    if (!(d <= worst)) worst = Number.isNaN(d) ? Infinity : d;
  }
  return scale === 0 ? worst : worst / scale;
}
