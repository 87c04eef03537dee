import { SimmimError } from '../errors';
import { type ByteSource, withFile } from './byte_source';
import { isNumpyGlobal, numpyValue } from './numpy_pickle';
import { PickleDict, PickleGlobal, PickleObject, PickleSet, Unpickler, type PickleHandlers, type PickleValue } from './pickle';
import { DTYPE_BYTES, elementCount, gatherStrided, swapBytes, type RawTensor, type StoredDType } from './raw_tensor';
import { readZipDirectory, readZipEntry, type ZipEntry } from './zip';

const OP = 'torch_pth';
/** A pickle of names and shapes is small; the bytes of tensors lie outside it. */
const MAX_PICKLE = 64 * 1024 * 1024;
const MAX_RANK = 64;
/** Expanded views may repeat stored bytes; beyond this (or 16 x the file, if more) a file is refused. */
const MAX_EXPANDED = 64 * 1024 * 1024;
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_PROTOCOL = 1001;

const STORAGE_DTYPES: ReadonlyMap<string, StoredDType> = new Map([
  ['torch.FloatStorage', 'F32'], ['torch.DoubleStorage', 'F64'], ['torch.HalfStorage', 'F16'], ['torch.BFloat16Storage', 'BF16'],
  ['torch.LongStorage', 'I64'], ['torch.IntStorage', 'I32'], ['torch.ShortStorage', 'I16'], ['torch.CharStorage', 'I8'],
  ['torch.ByteStorage', 'U8'], ['torch.BoolStorage', 'BOOL'],
]);

/** A tensor of a torch file: a strided view of a storage. Bytes are read when asked for. */
export class TorchTensor {
  constructor(
    readonly storage: TorchStorage,
    readonly offset: number,
    readonly shape: number[],
    readonly strides: number[],
  ) {}

  get dtype(): StoredDType {
    return this.storage.dtype;
  }

  /** The elements in row-major order; a view of the storage where that already is its order. */
  read(): RawTensor {
    const bytes = DTYPE_BYTES[this.dtype];
    const count = elementCount(this.shape);
    const shape = [...this.shape];
    if (count === 0) return { dtype: this.dtype, shape, data: new Uint8Array(0) };
    const data = this.storage.bytes();
    if (isContiguous(this.shape, this.strides)) return { dtype: this.dtype, shape, data: data.subarray(this.offset * bytes, (this.offset + count) * bytes) };
    return { dtype: this.dtype, shape, data: gatherStrided(data, bytes, this.offset, this.shape, this.strides) };
  }
}

/** Bytes shared by one or several tensors. */
export class TorchStorage {
  private loaded: Uint8Array | undefined;
  constructor(readonly key: string, readonly dtype: StoredDType, readonly elements: number, private readonly load: () => Uint8Array) {}

  bytes(): Uint8Array {
    this.loaded ??= this.load();
    return this.loaded;
  }
}

/** A read file: its pickled value, with {@link TorchTensor} where tensors were. */
export interface TorchFile {
  root: PickleValue;
  format: 'zip' | 'legacy';
}

/**
 * Opens a file written by `torch.save` (zip format or the stream format before PyTorch 1.6), hands its
 * content to `use` and closes it: tensors read their bytes from the open file, each storage once. Runs no
 * code of the file; globals other than tensors, storages and plain containers are errors that name them.
 * Throws `corrupt`, `unsupported`, `not_found`, `io`.
 */
export function withTorchFile<T>(file: string, use: (torch: TorchFile) => T): T {
  return withFile(file, (source) => use(parseTorchFile(source)));
}

/** As {@link withTorchFile} over any byte source, which must stay open while tensors are read. */
export function parseTorchFile(source: ByteSource): TorchFile {
  const start = source.read(0, Math.min(4, source.size));
  if (start[0] === 0x50 && start[1] === 0x4b) return readZipFile(source);
  if (start[0] === 0x80) return readLegacyFile(source);
  throw new SimmimError('corrupt', OP, `${source.name} is neither a zip archive nor a pickle stream: not a file written by torch.save`);
}

/** All tensors of nested dicts by their keys joined with '/', e.g. `model/encoder.norm.weight`. Throws beyond depth 16. */
export function torchTensors(root: PickleValue): Map<string, TorchTensor> {
  const found = new Map<string, TorchTensor>();
  // Shared and cyclic containers are visited once: a pickle may nest one container in itself exponentially often.
  const visited = new Set<PickleValue>();
  const visit = (value: PickleValue, path: string, depth: number): void => {
    if (value instanceof TorchTensor) found.set(path, value);
    if (!(value instanceof PickleDict || Array.isArray(value)) || visited.has(value)) return;
    visited.add(value);
    if (depth > 16) throw new SimmimError('corrupt', OP, `'${path}' is nested deeper than 16 levels`);
    for (const [key, item] of value instanceof PickleDict ? value.items : value.entries()) {
      if (typeof key === 'string' || typeof key === 'number') visit(item, path ? `${path}/${key}` : String(key), depth + 1);
    }
  };
  visit(root, '', 0);
  return found;
}

/** Reads many tensors, bounding what expanded views add up to. */
export function readTorchTensors(tensors: ReadonlyMap<string, TorchTensor>, fileSize: number): Map<string, RawTensor> {
  const limit = Math.max(MAX_EXPANDED, 16 * fileSize);
  let total = 0;
  const read = new Map<string, RawTensor>();
  for (const [name, tensor] of tensors) {
    total += elementCount(tensor.shape) * DTYPE_BYTES[tensor.dtype];
    if (total > limit) throw new SimmimError('corrupt', OP, `tensors up to '${name}' take ${total} bytes when expanded, from a file of ${fileSize}`);
    read.set(name, tensor.read());
  }
  return read;
}

/** Plain JSON of a pickled value without tensors (configuration, counters). Throws `unsupported` beyond a million nodes. */
export function toPlain(value: PickleValue): unknown {
  let nodes = 0;
  const visit = (item: PickleValue, depth: number): unknown => {
    if (++nodes > 1_000_000 || depth > 64) throw new SimmimError('unsupported', OP, 'value is too large or too deep for JSON');
    if (Array.isArray(item)) return item.map((x) => visit(x, depth + 1));
    if (item instanceof PickleSet) return [...item.items].map((x) => visit(x, depth + 1));
    if (item instanceof PickleGlobal) return item.name;
    if (item instanceof PickleObject) return item.describe();
    if (item instanceof TorchTensor) return { dtype: item.dtype, shape: item.shape };
    if (item instanceof PickleDict) {
      // A Namespace keeps its values as attributes, a CfgNode its values as items and its flags as attributes.
      const entries = item.className === 'argparse.Namespace' ? item.attributes : item.items;
      return Object.fromEntries([...entries].map(([key, x]) => [String(key), visit(x, depth + 1)]));
    }
    return item;
  };
  return visit(value, 0);
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis] as number;
  }
  return true;
}

// ---- the two containers

function readZipFile(source: ByteSource): TorchFile {
  const entries = readZipDirectory(source);
  const names = [...entries.keys()].filter((name) => name === 'data.pkl' || name.endsWith('/data.pkl'));
  if (names.length !== 1) throw new SimmimError('corrupt', OP, `${source.name} is a zip archive with ${names.length} entries data.pkl, torch.save writes one`);
  const prefix = (names[0] as string).slice(0, -'data.pkl'.length);
  const entry = (name: string): ZipEntry => {
    const found = entries.get(prefix + name);
    if (!found) throw new SimmimError('corrupt', OP, `${source.name} has no entry '${prefix}${name}'`);
    return found;
  };
  const order = entries.get(`${prefix}byteorder`);
  const bigEndian = order !== undefined && Buffer.from(readSmall(source, order)).toString('latin1') === 'big';
  const storages = new StorageTable(source, (key, dtype, elements) => {
    const stored = entry(`data/${key}`);
    const expected = elements * DTYPE_BYTES[dtype];
    if (stored.size !== expected) throw new SimmimError('corrupt', OP, `${source.name}: storage '${key}' of ${elements} ${dtype} needs ${expected} bytes, its entry has ${stored.size}`);
    return () => fromByteOrder(readZipEntry(source, stored), dtype, bigEndian);
  });
  const pickled = readSmall(source, entry('data.pkl'));
  return { root: new Unpickler(pickled, storages, 0, source.name).load(), format: 'zip' };
}

function readSmall(source: ByteSource, entry: ZipEntry): Uint8Array {
  if (entry.size > MAX_PICKLE) throw new SimmimError('corrupt', OP, `${source.name}: entry '${entry.name}' of ${entry.size} bytes exceeds ${MAX_PICKLE}`);
  return readZipEntry(source, entry);
}

function readLegacyFile(source: ByteSource): TorchFile {
  const bytes = source.read(0, Math.min(source.size, MAX_PICKLE));
  const places = new Map<string, number>();
  let bigEndian = false;
  const storages = new StorageTable(source, (key, dtype, elements) => () => {
    const at = places.get(key);
    if (at === undefined) throw new SimmimError('corrupt', OP, `${source.name}: storage '${key}' is not in the file's list of storages`);
    return fromByteOrder(source.read(at, elements * DTYPE_BYTES[dtype]), dtype, bigEndian);
  });
  const next = (position: number): Unpickler => new Unpickler(bytes, storages, position, source.name);
  const pickles: PickleValue[] = [];
  let position = 0;
  for (let i = 0; i < 5; i++) {
    const unpickler = next(position);
    pickles.push(unpickler.load());
    position = unpickler.position;
    if (i === 0 && pickles[0] !== LEGACY_MAGIC) throw new SimmimError('corrupt', OP, `${source.name} is a pickle, but does not start as torch.save starts its files`);
    if (i === 1 && pickles[1] !== LEGACY_PROTOCOL) throw new SimmimError('unsupported', OP, `${source.name} has torch protocol ${String(pickles[1])}, expected ${LEGACY_PROTOCOL}`);
  }
  const [, , system, root, keys] = pickles as [PickleValue, PickleValue, PickleValue, PickleValue, PickleValue];
  bigEndian = system instanceof PickleDict && system.items.get('little_endian') === false;
  if (!Array.isArray(keys)) throw new SimmimError('corrupt', OP, `${source.name}: the list of storages is missing`);
  locateStorages(source, position, keys, storages, bigEndian, places);
  return { root, format: 'legacy' };
}

/** After the pickles, for each key in order: the number of elements as int64, then the elements. */
function locateStorages(source: ByteSource, start: number, keys: PickleValue[], storages: StorageTable, bigEndian: boolean, places: Map<string, number>): void {
  let position = start;
  for (const key of keys) {
    const storage = typeof key === 'string' ? storages.root(key) : undefined;
    if (!storage || places.has(storage.key)) throw new SimmimError('corrupt', OP, `${source.name}: the list of storages names '${String(key)}', which no tensor uses or which came before`);
    const size = source.read(position, 8);
    const count = new DataView(size.buffer, size.byteOffset, 8).getBigInt64(0, !bigEndian);
    if (count !== BigInt(storage.elements)) throw new SimmimError('corrupt', OP, `${source.name}: storage '${storage.key}' holds ${count} elements, its tensors were saved with ${storage.elements}`);
    places.set(storage.key, position + 8);
    position += 8 + storage.elements * DTYPE_BYTES[storage.dtype];
  }
  if (position > source.size) throw new SimmimError('corrupt', OP, `${source.name}: storages end at byte ${position} of ${source.size}: the file is truncated`);
}

function fromByteOrder(data: Uint8Array, dtype: StoredDType, bigEndian: boolean): Uint8Array {
  if (!bigEndian) return data;
  const copy = new Uint8Array(data);
  swapBytes(copy, DTYPE_BYTES[dtype]);
  return copy;
}

// ---- what the pickle may refer to

type Loader = (key: string, dtype: StoredDType, elements: number) => () => Uint8Array;

/** Answers the unpickler: storages by key, tensors as views of them. */
class StorageTable implements PickleHandlers {
  private readonly storages = new Map<string, TorchStorage>();
  private readonly views = new Map<string, TorchStorage>();

  constructor(private readonly source: ByteSource, private readonly loader: Loader) {}

  root(key: string): TorchStorage | undefined {
    return this.storages.get(key);
  }

  allows(name: string): boolean {
    return STORAGE_DTYPES.has(name) || REBUILD.has(name) || PATHS.test(name) || isNumpyGlobal(name);
  }

  reduce(name: string, args: PickleValue[]): PickleValue {
    switch (name) {
      case 'torch._utils._rebuild_tensor':
      case 'torch._utils._rebuild_tensor_v2':
        return this.tensor(args);
      case 'torch._utils._rebuild_parameter':
        if (!(args[0] instanceof TorchTensor)) throw this.corrupt('a parameter without a tensor');
        return args[0];
      case 'torch.Size':
        if (args.length !== 1 || !Array.isArray(args[0])) throw this.corrupt('torch.Size without its sizes');
        return args[0];
      case 'torch.device':
        return args.map(String).join(':');
      default:
        if (PATHS.test(name)) return args.map(String).join('/');
        if (isNumpyGlobal(name)) return numpyValue(name, args);
        throw new SimmimError('unsupported', OP, `${this.source.name}: calls '${name}'`);
    }
  }

  /** ('storage', class, key, location, elements[, view]) */
  persistent(id: PickleValue): PickleValue {
    if (!Array.isArray(id) || id[0] !== 'storage') throw this.corrupt('a persistent id that is not a storage');
    const [, type, key, , elements, view] = id;
    const dtype = type instanceof PickleGlobal ? STORAGE_DTYPES.get(type.name) : undefined;
    if (!dtype) throw new SimmimError('unsupported', OP, `${this.source.name}: storage of type ${type instanceof PickleGlobal ? type.name : typeof type}`);
    if (typeof key !== 'string' || !isCount(elements)) throw this.corrupt('a storage without key or size');
    const known = this.storages.get(key);
    if (known && (known.dtype !== dtype || known.elements !== elements)) throw this.corrupt(`storage '${key}' is described in two ways`);
    if (elements * DTYPE_BYTES[dtype] > this.source.size * 1032) throw this.corrupt(`storage '${key}' of ${elements} elements is larger than the file`);
    const storage = known ?? new TorchStorage(key, dtype, elements, this.loader(key, dtype, elements));
    this.storages.set(key, storage);
    return Array.isArray(view) ? this.storageView(storage, view) : storage;
  }

  /** (key, offset, elements): a part of a storage, as PyTorch before 0.4 had them. */
  private storageView(storage: TorchStorage, view: PickleValue[]): TorchStorage {
    const [key, offset, elements] = view;
    if (typeof key !== 'string' || !isCount(offset) || !isCount(elements) || offset + elements > storage.elements) throw this.corrupt(`a view outside storage '${storage.key}'`);
    const bytes = DTYPE_BYTES[storage.dtype];
    const part = this.views.get(key) ?? new TorchStorage(key, storage.dtype, elements, () => storage.bytes().subarray(offset * bytes, (offset + elements) * bytes));
    this.views.set(key, part);
    return part;
  }

  /** (storage, offset, shape, strides, ...): hooks and requires_grad are of no use here. */
  private tensor(args: PickleValue[]): TorchTensor {
    const [storage, offset, shape, strides] = args;
    if (!(storage instanceof TorchStorage)) throw this.corrupt('a tensor without storage');
    if (!isCount(offset) || !isSizes(shape) || !isSizes(strides) || shape.length !== strides.length) throw this.corrupt('a tensor without valid offset, shape and strides');
    const count = elementCount(shape);
    const last = shape.reduce((sum, extent, axis) => sum + (extent - 1) * (strides[axis] as number), offset);
    if (count > 0 && last >= storage.elements) throw this.corrupt(`a tensor of shape [${String(shape)}] reaches element ${last} of a storage of ${storage.elements}`);
    const bytes = count * DTYPE_BYTES[storage.dtype];
    if (bytes > Math.max(MAX_EXPANDED, 16 * this.source.size)) throw this.corrupt(`a tensor of shape [${String(shape)}] expands to ${bytes} bytes, from a file of ${this.source.size}`);
    return new TorchTensor(storage, offset, [...shape], [...strides]);
  }

  private corrupt(what: string): SimmimError {
    return new SimmimError('corrupt', OP, `${this.source.name}: ${what}`);
  }
}

/** Paths among a script's arguments: read as text. */
const PATHS = /^pathlib\.(_local\.)?(Pure)?(Posix|Windows)Path$/;
const REBUILD = new Set(['torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_parameter', 'torch.Size', 'torch.device',
  'torch.float32', 'torch.float64', 'torch.float16', 'torch.bfloat16', 'torch.int64', 'torch.int32', 'torch.int16', 'torch.int8', 'torch.uint8', 'torch.bool']);

function isCount(value: PickleValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isSizes(value: PickleValue | undefined): value is number[] {
  return Array.isArray(value) && value.length <= MAX_RANK && value.every((item) => isCount(item));
}
