import { CUDA_BACKEND } from '../../ts/backend';
import { type NativeTensor, loadAddon, openCuda } from '../../ts/native';
import { OWN_BACKEND } from './devices';

/** Calling native kernels straight from a test: uploads, outputs, reads, and one run per instruction-set level, or on the GPU. */

const addon = loadAddon();
const { isaLevels: LEVELS, threads: THREADS, isa: ISA } = addon.info();
const ON_GPU = OWN_BACKEND === CUDA_BACKEND;
const live: NativeTensor[] = [];

/** The device under test, for storages that a test makes itself. */
export const DEVICE = ON_GPU ? openCuda() : 0;

function setOrder(order: string): void {
  process.env.SIMMIM_EMULATION_ORDER = order;
}

/**
 * What `run` returns at every instruction-set level, once for each setting that must not change a bit: numbers of threads;
 * on the GPU, for each order in which its emulation runs blocks and threads.
 */
export function everyLevel<T>(run: () => T, threads: readonly number[] = [1, 2, 5]): { level: string; runs: [T, ...T[]] }[] {
  try {
    if (ON_GPU) {
      return [{ level: 'cuda', runs: ['forward', 'reverse', 'shuffle'].map((order) => (setOrder(order), run())) as [T, ...T[]] }];
    }
    return LEVELS.map((level) => {
      addon.setIsa(level);
      return { level, runs: threads.map((n) => (addon.setThreads(n), run())) as [T, ...T[]] };
    });
  } finally {
    addon.setIsa(ISA);
    addon.setThreads(THREADS);
    if (ON_GPU) setOrder('forward');
  }
}

export const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export function input(shape: readonly number[], values: ArrayLike<number>, dtype: 'f32' | 'i32' = 'f32'): NativeTensor {
  const host = dtype === 'i32' ? Int32Array.from(values) : Float32Array.from(values);
  const tensor = { storage: { handle: addon.upload(dtype === 'i32' ? 1 : 0, host, host.length, DEVICE), dtype, device: DEVICE }, shape };
  live.push(tensor);
  return tensor;
}

export function output(shape: readonly number[]): NativeTensor {
  const tensor: NativeTensor = { storage: { handle: 0, dtype: 'f32', device: DEVICE }, shape };
  live.push(tensor);
  return tensor;
}

export function read(tensor: NativeTensor): Float32Array {
  const values = new Float32Array(size(tensor.shape));
  addon.readInto(tensor.storage.handle, values);
  return values;
}

/** What `call` returns at every level; the bits of its settings must be equal. Every tensor made inside is released again. */
export function onEveryLevel(call: () => Record<string, Float32Array>): { level: string; values: Record<string, Float32Array> }[] {
  const levels = everyLevel(() => {
    const values = call();
    for (const tensor of live.splice(0)) if (tensor.storage.handle) addon.release(tensor.storage.handle);
    return values;
  });
  return levels.map(({ level, runs: [first, ...others] }) => {
    for (const other of others) {
      for (const name of Object.keys(first)) {
        if (Buffer.compare(bytes(first[name] as Float32Array), bytes(other[name] as Float32Array)) !== 0) throw new Error(`${name} depends on the number of threads or their order (${level})`);
      }
    }
    return { level, values: first };
  });
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
