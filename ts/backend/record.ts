import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { type Mailbox, type NativeStorage, type StorageDType, DTYPE_NUMBER, loadAddon, mailbox } from '../native';

/** tfjs dtypes whose values live in native memory. */
export const STORAGE_DTYPE: Partial<Record<tf.DataType, StorageDType>> = { float32: 'f32', int32: 'i32', bool: 'u8' };

/** Elements of a tensor: tf.util.sizeFromShape, without the look-ups that cost more than it does. */
export function sizeOf(shape: readonly number[]): number {
  let count = 1;
  for (let i = 0; i < shape.length; i++) count *= shape[i] as number;
  return count;
}

/**
 * What a tfjs dataId stands for on this backend, and the dataId itself: tfjs only needs an object with an
 * identity, so the record needs no table. (A tensor that comes from another backend brings its own dataId.)
 */
export class DataRecord implements NativeStorage {
  /** Native handle; 0 while the values are only on the host (not used natively yet) or of a string tensor. */
  handle = 0;
  refCount = 1;
  /** False once disposed or moved to another backend. */
  live = true;
  /** True when the memory is changed in place by kernels: a slice of it must be a copy, and copies on the host are not kept. */
  changing = false;
  /** Host values: the caller's own array before first native use, a JavaScript kernel's result, or a read cache. */
  host: tf.BackendValues | null = null;
  reclaimable: Reclaimable | undefined = undefined;
  /** Its place among the young ones (below), -1 where it is none. */
  youngAt = -1;
  /** The two float32 halves of a complex64 tensor. */
  complexTensorInfos: { real: tf.TensorInfo; imag: tf.TensorInfo } | undefined = undefined;

  constructor(
    readonly owner: RecordOwner,
    readonly tfDtype: tf.DataType,
    /** Elements. */
    readonly count: number,
    public dtype: StorageDType,
  ) {
    this.device = owner.device;
  }
  /** The owner's; copied because calls read it for every tensor. */
  readonly device: number;

  /** Host values, as @tensorflow/tfjs-backend-cpu's kernels read them (delegated kernels, see host.ts). */
  get values(): tf.BackendValues | null {
    return hostValues(this);
  }
  set values(values: tf.BackendValues | null) {
    releaseMemory(this);
    this.host = values;
  }
}

export interface RecordOwner {
  readonly name: string;
  /** Number of the native device that holds its tensors; 0 is the host. */
  readonly device: number;
  readonly mailbox: Mailbox;
}

/** Gives the memory back; the record stays what it is. */
export function releaseMemory(record: DataRecord): void {
  if (record.handle !== 0) {
    if (record.reclaimable) record.reclaimable.handle = 0;
    record.owner.mailbox.release(record.handle);
  }
  if (record.youngAt >= 0) forgetYoung(record);
  record.handle = 0;
  record.host = null;
}

export function emptyHostArray(dtype: tf.DataType, count: number): Float32Array | Int32Array | Uint8Array {
  return dtype === 'int32' ? new Int32Array(count) : dtype === 'bool' ? new Uint8Array(count) : new Float32Array(count);
}

/** The values of a dtype that lie in a buffer, as tfjs hands them out. */
export function hostArray(dtype: tf.DataType, values: ArrayBuffer): Float32Array | Int32Array | Uint8Array {
  return dtype === 'int32' ? new Int32Array(values) : dtype === 'bool' ? new Uint8Array(values) : new Float32Array(values);
}

/** Host values with zeros behind them up to `count`. */
export function extended(values: tf.TypedArray, count: number, dtype: tf.DataType): tf.TypedArray {
  const out = emptyHostArray(dtype, count);
  out.set(values);
  return out;
}

let recording = false;

/** Told by recorded functions: while recording, no host copy of native memory may be read, cached ones included. */
export function setRecording(on: boolean): void {
  recording = on;
}

/** The host values of a record where there are any. Throws `not_recordable` for a copy of what a program would change. */
export function cachedValues(record: DataRecord): tf.BackendValues | null {
  if (recording && record.host !== null && record.handle !== 0) throw new SimmimError('not_recordable', 'read', 'reading a tensor cannot be part of a recorded program');
  return record.host;
}

/** The values on the host, copied from native memory when they are only there; the copy is kept unless the memory changes. */
export function hostValues(record: DataRecord): tf.BackendValues | null {
  const cached = cachedValues(record);
  if (cached !== null || record.handle === 0) return cached;
  const target = emptyHostArray(record.tfDtype, record.count);
  loadAddon().readInto(record.handle, target);
  if (!record.changing) record.host = target;
  return target;
}

/**
 * Reclaiming tensors that JavaScript dropped without dispose. Registering every tensor with a
 * FinalizationRegistry would cost more than a small kernel, and most tensors are disposed in the turn of the event
 * loop that made them (the garbage collector reports nothing before its end), so those that outlive the turn are registered.
 */
const MOST_YOUNG = 4096;
const young: (DataRecord | undefined)[] = new Array<undefined>(MOST_YOUNG).fill(undefined);
let youngCount = 0;
let flushPlanned = false;

/** What the registry holds instead of the record; 0 once the memory was released. */
interface Reclaimable {
  handle: number;
}
const reclaim = new FinalizationRegistry<Reclaimable>((held) => {
  if (held.handle !== 0) mailbox().release(held.handle);
});

function registerSurvivors(): void {
  for (let i = 0; i < youngCount; i++) {
    const record = young[i] as DataRecord;
    young[i] = undefined;
    record.youngAt = -1;
    if (!record.live || record.handle === 0 || record.reclaimable) continue;
    record.reclaimable = { handle: record.handle };
    reclaim.register(record, record.reclaimable);
  }
  youngCount = 0;
}

function planFlush(): void {
  flushPlanned = true;
  setImmediate(() => {
    flushPlanned = false;
    registerSurvivors();
  }).unref();
}

/** To be called for every record that may come to own native memory; its handle may still be 0. */
export function watch(record: DataRecord): void {
  if (record.youngAt >= 0) return;
  if (youngCount === MOST_YOUNG) registerSurvivors();
  record.youngAt = youngCount;
  young[youngCount++] = record;
  if (!flushPlanned) planFlush();
}

/** Of what is not in the list the garbage collector is rid at once. */
function forgetYoung(record: DataRecord): void {
  const last = young[--youngCount] as DataRecord;
  young[youngCount] = undefined;
  if (last !== record) {
    young[record.youngAt] = last;
    last.youngAt = record.youngAt;
  }
  record.youngAt = -1;
}

/** tf.DataStorage for records: finds them by dataId and pulls tensors over from other backends. */
export class RecordStore {
  /** Records of dataIds that were made elsewhere. */
  private readonly foreign = new WeakMap<tf.DataId, DataRecord>();
  private count = 0;

  constructor(private readonly backend: tf.KernelBackend & RecordOwner) {}

  /** The record of a dataId; moves the tensor here when another backend has it. Throws `disposed` when nobody has. */
  get(dataId: tf.DataId): DataRecord {
    return this.peek(dataId) ?? this.pull(dataId);
  }

  /** The record of a dataId that is here, else undefined. */
  peek(dataId: tf.DataId): DataRecord | undefined {
    if (dataId instanceof DataRecord && dataId.owner === this.backend && dataId.live) return dataId;
    return this.foreign.get(dataId);
  }

  private pull(dataId: tf.DataId): DataRecord {
    try {
      tf.engine().moveData(this.backend, dataId);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // the engine does not know the dataId
    }
    const record = this.peek(dataId);
    if (!record) throw new SimmimError('disposed', this.backend.name, 'a tensor was used after it was disposed');
    return record;
  }

  has(dataId: tf.DataId): boolean {
    return this.peek(dataId) !== undefined;
  }

  /** A record that is its own dataId. */
  create(dtype: tf.DataType, count: number, storage: StorageDType = dtype === 'float32' ? 'f32' : (STORAGE_DTYPE[dtype] ?? 'f32')): DataRecord {
    this.count++;
    return new DataRecord(this.backend, dtype, count, storage);
  }

  /** A record for a dataId made elsewhere, or for one of ours that comes back. */
  adopt(dataId: tf.DataId, dtype: tf.DataType, count: number): DataRecord {
    const record = this.create(dtype, count);
    this.foreign.set(dataId, record);
    return record;
  }

  delete(dataId: tf.DataId): void {
    const record = this.peek(dataId);
    if (record) this.drop(record, dataId);
  }

  /** As delete, for the record that peek has found. */
  drop(record: DataRecord, dataId: tf.DataId): void {
    record.live = false;
    if (record !== dataId) this.foreign.delete(dataId);
    this.count--;
  }

  numDataIds(): number {
    return this.count;
  }
}

/** Host values as an array of the storage's own type (tfjs also hands over plain arrays and Float32Arrays of integers). */
export function toStorageArray(values: ArrayLike<number>, dtype: StorageDType): Float32Array | Int32Array | Uint8Array {
  if (dtype === 'f32') return values instanceof Float32Array ? values : Float32Array.from(values);
  if (dtype === 'i32') return values instanceof Int32Array ? values : Int32Array.from(values);
  return values instanceof Uint8Array ? values : Uint8Array.from(values);
}

/** Copies host values to native memory, if that has not happened yet. */
export function ensureUploaded(record: DataRecord): void {
  if (record.handle !== 0 || (record.host === null && record.complexTensorInfos === undefined)) return;
  if (STORAGE_DTYPE[record.tfDtype] === undefined) throw new SimmimError('unsupported', 'upload', `a ${record.tfDtype} tensor has no native storage`);
  record.reclaimable = undefined;
  watch(record);
  record.handle = loadAddon().upload(DTYPE_NUMBER[record.dtype], toStorageArray(record.host as unknown as ArrayLike<number>, record.dtype), record.count, record.device);
  record.host = null;
}
