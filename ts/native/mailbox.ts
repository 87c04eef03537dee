import { SimmimError } from '../errors';
import { KERNEL_NAMES } from './kernels.gen';
import { type Addon, type StorageDType, DTYPE_NUMBER, loadAddon } from './load';

/** Where the bytes of a tensor are: a native handle, 0 while not allocated. */
export interface NativeStorage {
  handle: number;
  readonly dtype: StorageDType;
  /** Number of the device that holds it, or is to hold it; the host when absent. */
  readonly device?: number;
}

/** A tensor as a kernel sees it: a storage and the shape it is read with (shapes may differ between users of one storage). */
export interface NativeTensor {
  readonly storage: NativeStorage;
  readonly shape: readonly number[];
}

const WORDS = 1024; // a kernel has at most 16 tensors of at most 8 dims: 16 * 11 words
const NUMBERS = 256;
const RELEASED = 256;

/**
 * The two arrays through which arguments cross to C++: per tensor `handle, dtype, rank, dims...` as int32,
 * per scalar one double. Written only by the generated functions of kernels.gen.ts.
 */
export class Mailbox {
  readonly words = new Int32Array(new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT));
  readonly numbers = new Float64Array(new SharedArrayBuffer(NUMBERS * Float64Array.BYTES_PER_ELEMENT));
  /** How many handles were given back since the last call of the addon, then these. */
  private readonly released = new Int32Array(new SharedArrayBuffer((1 + RELEASED) * Int32Array.BYTES_PER_ELEMENT));
  private word = 0;
  private number = 0;
  private device = 0;

  constructor(readonly addon: Addon) {
    addon.setMailbox(this.words, this.numbers, SimmimError, this.released);
  }

  begin(): void {
    this.word = 0;
    this.number = 0;
    this.device = 0;
  }

  /** Writes one tensor and returns the position of its handle. `null` is an absent optional tensor. */
  tensor(tensor: NativeTensor | null | undefined): number {
    const words = this.words;
    const at = this.word;
    if (tensor === null || tensor === undefined) {
      words[at] = -1;
      words[at + 1] = 0;
      words[at + 2] = 0;
      this.word = at + 3;
      return at;
    }
    const { storage, shape } = tensor;
    if (storage.device !== undefined && storage.device !== 0) this.device = storage.device;
    words[at] = storage.handle;
    words[at + 1] = storage.dtype === 'f32' ? 0 : DTYPE_NUMBER[storage.dtype]; // a look-up by name costs as much as all the rest
    const rank = shape.length;
    words[at + 2] = rank;
    for (let i = 0; i < rank; i++) words[at + 3 + i] = shape[i] as number;
    this.word = at + 3 + rank;
    return at;
  }

  scalar(value: number | boolean): void {
    this.numbers[this.number++] = Number(value);
  }

  list(values: readonly number[]): void {
    this.numbers[this.number++] = values.length;
    for (const value of values) this.numbers[this.number++] = value;
  }

  /** Runs where the tensors are. */
  call(kernel: number): void {
    this.addon.call(kernel | (this.device << 16));
  }

  /** Gives a storage back before the next call of the addon does anything: a call for that alone costs as much as a small kernel. */
  release(handle: number): void {
    const released = this.released;
    const count = released[0] as number;
    if (count === RELEASED) {
      this.addon.release(handle);
      return;
    }
    released[count + 1] = handle;
    released[0] = count + 1;
  }

  /** After a call: the storage of an output takes the handle that C++ wrote back. */
  adopt(tensor: NativeTensor | null | undefined, at: number): void {
    if (tensor) tensor.storage.handle = this.words[at] as number;
  }
}

let shared: Mailbox | undefined;

/** The mailbox of this JavaScript environment (main thread or worker). Throws `unsupported` for an addon of another version. */
export function mailbox(): Mailbox {
  shared ??= new Mailbox(checked(loadAddon()));
  return shared;
}

/** Kernels are called by number: an addon older or newer than kernels.gen.ts would run the wrong ones. */
function checked(addon: Addon): Addon {
  const names = (JSON.parse(addon.schema()) as { name: string }[]).map((kernel) => kernel.name);
  const differing = KERNEL_NAMES.findIndex((name, i) => names[i] !== name);
  if (differing >= 0 || names.length !== KERNEL_NAMES.length) {
    throw new SimmimError('unsupported', 'load', `the native addon is of another version (${names.length} kernels, expected ${KERNEL_NAMES.length}): run 'npm run build:native' in a checkout, 'npm rebuild simmim' otherwise`);
  }
  return addon;
}
