import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SimmimError } from '../errors';

/** Storage types of the native layer, by their number in the mailbox. */
export const DTYPES = ['f32', 'i32', 'u8', 'bf16'] as const;
export type StorageDType = (typeof DTYPES)[number];
export const DTYPE_BYTES: Record<StorageDType, number> = { f32: 4, i32: 4, u8: 1, bf16: 2 };
export const DTYPE_NUMBER: Record<StorageDType, number> = { f32: 0, i32: 1, u8: 2, bf16: 3 };

export type IsaLevel = 'baseline' | 'avx2' | 'avx512';
export type HostArray = Float32Array | Int32Array | Uint8Array | Uint16Array;

/** What the addon says of itself and of the machine. */
export interface NativeInfo {
  isa: IsaLevel;
  isaLevels: IsaLevel[];
  bf16Dot: boolean;
  threads: number;
  compiler: string;
  napi: number;
}

/** Statistics of this environment's arena and handle table; sizes in bytes. */
export interface NativeStats {
  live: number;
  cached: number;
  peak: number;
  blocks: number;
  systemAllocations: number;
  handles: number;
  calls: number;
  /** bf16 inputs that had to be copied to f32 for a kernel that does not read bf16. */
  widenings: number;
}

/** What a plugin says of one of its devices; sizes in bytes. */
export interface PluginDevice {
  name: string;
  memoryBytes: number;
  freeBytes: number;
  computeCapability: string;
  multiprocessors: number;
  /** Whether it is an emulation that looks for stray memory accesses. */
  strict: boolean;
}

/** What a plugin (native/core/plugin.h) says of itself. */
export interface PluginInfo {
  name: string;
  build: string;
  score: number;
  hostOnlyKernels: string[];
  devices: PluginDevice[];
  runtime: string;
}

/** The raw exports of native/binding; used by ts/native only. Devices are numbers: 0, the default, is the host. */
export interface Addon {
  allocate(dtype: number, count: number, device?: number): number;
  upload(dtype: number, values: HostArray, count: number, device?: number): number;
  writeInto(handle: number, values: HostArray, byteOffset: number): void;
  readInto(handle: number, target: HostArray): void;
  /** As writeInto, once the work asked for so far is done. Values in shared memory are not copied and must not change until then. */
  writeLater(handle: number, values: HostArray, byteOffset: number): Promise<void>;
  /** The first `count` values, those of bf16 as f32, once the work asked for so far is done. */
  readLater(handle: number, count: number): Promise<ArrayBuffer>;
  /** Whether work of the host is unfinished. */
  busy(): boolean;
  /** Waits for it. */
  join(): void;
  /**
   * Calls of at least so much estimated work are queued: done behind the event loop, and everything that follows them until
   * the queue is empty. 0 queues every call, Infinity none. (native/binding/work_estimate.h; SIMMIM_QUEUE_FROM at the start)
   * Returns what it was.
   */
  queueFrom(units: number): number;
  view(handle: number, byteOffset: number, byteLength: number, dtype: number): number;
  release(handle: number): boolean;
  stats(device?: number): NativeStats;
  trim(device?: number): void;
  resetPeak(device?: number): void;
  failAllocationAt(n: number, device?: number): void;
  /** The kernel's number in the low 16 bits, the device's above. */
  call(kernelAndDevice: number): void;
  /**
   * All arrays lie in shared memory, which nobody can take away from under the addon. Every call of the addon begins with
   * releasing what `released` names: a count, then handles.
   */
  setMailbox(words: Int32Array, numbers: Float64Array, errorClass: typeof SimmimError, released?: Int32Array): void;
  schema(): string;
  beginRecording(device?: number): void;
  endRecording(outputs: Int32Array): number;
  abortRecording(): void;
  replay(program: number): Promise<void>;
  replaySync(program: number): void;
  disposeProgram(program: number): void;
  describeProgram(program: number): string;
  inspectPlugin(path: string): PluginInfo;
  /** The number of device `index` of a plugin, opened at the first call. */
  openDevice(path: string, index: number): number;
  /** Waits for everything a device was asked for. */
  synchronise(device: number): void;
  info(): NativeInfo;
  setThreads(threads: number): void;
  setIsa(level: IsaLevel): void;
  setTrace(on: boolean): void;
}

function packageRoot(): string {
  let dir = __dirname;
  while (!existsSync(join(dir, 'binding.gyp'))) {
    const parent = dirname(dir);
    if (parent === dir) throw new SimmimError('internal', 'load', `no package root above ${__dirname}`);
    dir = parent;
  }
  return dir;
}

let loaded: Addon | undefined;
let loadedFrom = '';

/** The folder of the addon's file: plugins lie beside it. */
export function addonFolder(): string {
  loadAddon();
  return dirname(loadedFrom);
}

/**
 * The addon of this package: SIMMIM_ADDON (a file), a local build, or the prebuilt binary of this
 * platform; loaded on first use. Throws `not_found` saying what to run when there is none.
 */
export function loadAddon(): Addon {
  if (loaded) return loaded;
  const root = packageRoot();
  const find = require('node-gyp-build') as { path(dir: string): string };
  let file: string;
  try {
    file = process.env.SIMMIM_ADDON ?? find.path(root);
  } catch (error) {
    throw new SimmimError('not_found', 'load', `no native addon for ${process.platform}-${process.arch} in ${root}: run 'npm rebuild simmim' (needs a C++20 compiler, make and CMake)`, { cause: error });
  }
  try {
    loaded = require(file) as Addon;
    loadedFrom = file;
  } catch (error) {
    throw new SimmimError('unsupported', 'load', `the native addon ${file} cannot be loaded: ${(error as Error).message}`, { cause: error });
  }
  return loaded;
}
