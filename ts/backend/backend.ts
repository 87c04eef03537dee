import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { type Addon, type HostArray, type NativeStats, type NativeStorage, type NativeTensor, type StorageDType, DTYPE_BYTES, loadAddon, mailbox } from '../native';

/** tfjs dtypes whose values live in native memory. */
const STORAGE_DTYPE: Partial<Record<tf.DataType, StorageDType>> = { float32: 'f32', int32: 'i32', bool: 'u8' };

/** What a tfjs dataId stands for on this backend. */
export class DataRecord implements NativeStorage {
  /** Native handle; 0 while the values are only on the host (not used natively yet) or of a string tensor. */
  handle = 0;
  refCount = 1;
  /** Host values: the caller's own array before first native use, a JavaScript kernel's result, or a read cache. */
  host: tf.BackendValues | null = null;
  /** The two float32 halves of a complex64 tensor. */
  complexTensorInfos?: { real: tf.TensorInfo; imag: tf.TensorInfo };

  constructor(
    readonly tfDtype: tf.DataType,
    /** Elements; the host array may be shorter (tfjs-layers does that): the rest reads NaN or 0. */
    readonly count: number,
    public dtype: StorageDType = STORAGE_DTYPE[tfDtype] ?? 'f32',
  ) {}

  /** Host values, as @tensorflow/tfjs-backend-cpu's kernels read them (delegated kernels, see host.ts). */
  get values(): tf.BackendValues | null {
    return recordValues(this);
  }
  set values(values: tf.BackendValues | null) {
    releaseRecord(this);
    this.host = values;
  }
}

const reclaim = new FinalizationRegistry<DataRecord>((record) => releaseRecord(record));

function releaseRecord(record: DataRecord): void {
  if (record.handle !== 0) loadAddon().release(record.handle);
  record.handle = 0;
  record.host = null;
}

function hostArray(dtype: tf.DataType, count: number): Float32Array | Int32Array | Uint8Array {
  return dtype === 'int32' ? new Int32Array(count) : dtype === 'bool' ? new Uint8Array(count) : new Float32Array(count);
}

function recordValues(record: DataRecord): tf.BackendValues | null {
  if (record.host === null && record.handle !== 0) {
    const target = hostArray(record.tfDtype, record.count);
    loadAddon().readInto(record.handle, target);
    record.host = target;
  }
  return record.host;
}

/**
 * tfjs backend over native storages. Reshapes and identities share a dataId, values written by the caller
 * cross to native memory at their first native use, and tensors that JavaScript dropped without dispose
 * are reclaimed by a FinalizationRegistry.
 */
export class NativeBackend extends tf.KernelBackend {
  readonly data: tf.DataStorage<DataRecord>;
  /** Read by delegated kernels of @tensorflow/tfjs-backend-cpu. */
  readonly blockSize = 48;
  private readonly addon: Addon;

  constructor(readonly name: string) {
    super();
    this.addon = mailbox().addon;
    this.data = new tf.DataStorage(this, tf.engine());
  }

  // --- storage, as the engine asks for it

  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.DataId {
    const dataId = {};
    this.put(dataId, values, tf.util.sizeFromShape(shape), dtype, 1);
    return dataId;
  }

  override move(dataId: tf.DataId, values: tf.BackendValues, shape: number[], dtype: tf.DataType, refCount: number): void {
    const count = tf.util.sizeFromShape(shape);
    if (dtype !== 'complex64') {
      this.put(dataId, values, count, dtype, refCount);
      return;
    }
    const interleaved = values as Float32Array; // as readSync of the other backend merges them
    const real = new Float32Array(count);
    const imag = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      real[i] = interleaved[2 * i] as number;
      imag[i] = interleaved[2 * i + 1] as number;
    }
    const record = this.put(dataId, null, count, dtype, refCount);
    record.complexTensorInfos = { real: this.makeTensorInfo(shape, 'float32', real), imag: this.makeTensorInfo(shape, 'float32', imag) };
  }

  private put(dataId: tf.DataId, values: tf.BackendValues | null, count: number, dtype: tf.DataType, refCount: number): DataRecord {
    const record = new DataRecord(dtype, count);
    record.host = values;
    record.refCount = refCount;
    this.data.set(dataId, record);
    reclaim.register(dataId, record);
    return record;
  }

  override readSync(dataId: tf.DataId): tf.BackendValues {
    const record = this.data.get(dataId);
    if (record.complexTensorInfos) {
      const { real, imag } = record.complexTensorInfos;
      return tf.backend_util.mergeRealAndImagArrays(this.readSync(real.dataId) as Float32Array, this.readSync(imag.dataId) as Float32Array);
    }
    if (record.host !== null) return record.host;
    if (record.handle === 0) throw new SimmimError('internal', 'readSync', 'the tensor has no values');
    const target = hostArray(record.tfDtype, record.count);
    this.addon.readInto(record.handle, target);
    return target;
  }

  override async read(dataId: tf.DataId): Promise<tf.BackendValues> {
    return this.readSync(dataId);
  }

  bufferSync<R extends tf.Rank, D extends tf.DataType>(info: tf.TensorInfo): tf.TensorBuffer<R, D> {
    const values = this.readSync(info.dataId);
    if (info.dtype === 'string') {
      const strings = (values as Uint8Array[]).map((bytes) => tf.util.decodeString(bytes));
      return tf.buffer(info.shape as tf.ShapeMap[R], info.dtype as D, strings as tf.DataTypeMap[D]);
    }
    return tf.buffer(info.shape as tf.ShapeMap[R], info.dtype as D, values as tf.DataTypeMap[D]);
  }

  override refCount(dataId: tf.DataId): number {
    return this.data.has(dataId) ? this.data.get(dataId).refCount : 0;
  }
  override incRef(dataId: tf.DataId): void {
    this.data.get(dataId).refCount++;
  }
  decRef(dataId: tf.DataId): void {
    if (this.data.has(dataId)) this.data.get(dataId).refCount--;
  }

  override disposeData(dataId: tf.DataId, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const record = this.data.get(dataId);
    record.refCount--;
    if (!force && record.refCount > 0) return false;
    if (record.complexTensorInfos) {
      this.disposeData(record.complexTensorInfos.real.dataId, true);
      this.disposeData(record.complexTensorInfos.imag.dataId, true);
    }
    releaseRecord(record);
    this.data.delete(dataId);
    return true;
  }
  disposeIntermediateTensorInfo(info: tf.TensorInfo): void {
    this.disposeData(info.dataId);
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }
  override memory(): { unreliable: boolean; reasons?: string[] } & { native: NativeStats } {
    return { unreliable: false, native: this.addon.stats() };
  }
  override timerAvailable(): boolean {
    return true;
  }
  override async time(f: () => void): Promise<tf.BackendTimingInfo> {
    const start = process.hrtime.bigint();
    f();
    return { kernelMs: Number(process.hrtime.bigint() - start) / 1e6 };
  }
  override floatPrecision(): 16 | 32 {
    return 32;
  }
  override epsilon(): number {
    return 1e-7;
  }
  /** tf.where's condition scan, on host values. */
  where(condition: tf.Tensor): tf.Tensor2D {
    return tf.kernel_impls.whereImpl(condition.shape, this.readSync(condition.dataId) as Uint8Array) as tf.Tensor2D;
  }
  override dispose(): void {
    this.addon.trim();
  }

  // --- what kernels use

  /** A TensorInfo with its own dataId over host values (or none yet). */
  makeTensorInfo(shape: number[], dtype: tf.DataType, values?: tf.BackendValues | string[] | null): tf.TensorInfo {
    const given = values as readonly unknown[] | null | undefined;
    const encoded = dtype === 'string' && given && typeof given[0] === 'string' ? (given as string[]).map((s) => tf.util.encodeString(s)) : (values as tf.BackendValues | null | undefined);
    const dataId = {};
    this.put(dataId, encoded ?? null, tf.util.sizeFromShape(shape), dtype, 1);
    return { dataId, shape, dtype };
  }
  /** As makeTensorInfo, returning a tracked Tensor (asked for by delegated kernels). */
  makeOutput(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.Tensor {
    return tf.engine().makeTensorFromTensorInfo(this.makeTensorInfo(shape, dtype, values), this);
  }

  /** A fresh output of a native kernel: its memory is allocated by the call that writes it. */
  output(shape: readonly number[], dtype: tf.DataType = 'float32', storage?: StorageDType): tf.TensorInfo {
    const dataId = {};
    const record = new DataRecord(dtype, tf.util.sizeFromShape(shape as number[]), storage ?? STORAGE_DTYPE[dtype]);
    this.data.set(dataId, record);
    reclaim.register(dataId, record);
    return { dataId, shape: shape as number[], dtype };
  }

  /** The native side of an input, uploading host values at their first native use. */
  ref(info: tf.TensorInfo, shape: readonly number[] = info.shape): NativeTensor {
    const storage = this.data.get(info.dataId);
    if (storage.handle === 0 && storage.host !== null) this.upload(storage);
    return { storage, shape };
  }
  /** As ref, for a tensor that the kernel changes in place: host copies become void. */
  refInPlace(info: tf.TensorInfo, shape: readonly number[] = info.shape): NativeTensor {
    const ref = this.ref(info, shape);
    (ref.storage as DataRecord).host = null;
    return ref;
  }
  /** The native side of an output made by {@link output}. */
  outRef(info: tf.TensorInfo, shape: readonly number[] = info.shape): NativeTensor {
    return { storage: this.data.get(info.dataId), shape };
  }

  private upload(record: DataRecord): void {
    if (STORAGE_DTYPE[record.tfDtype] === undefined) throw new SimmimError('unsupported', 'upload', `a ${record.tfDtype} tensor has no native storage`);
    record.handle = this.addon.upload(record.dtype === 'f32' ? 0 : record.dtype === 'i32' ? 1 : 2, toHostArray(record), record.count);
    record.host = null;
  }

  /**
   * A TensorInfo over elements [offset, offset + count of shape) of another one's memory; both see each
   * other's in-place changes, and the memory lives until the last of them is disposed.
   */
  view(info: tf.TensorInfo, offset: number, shape: readonly number[]): tf.TensorInfo {
    const parent = this.ref(info).storage as DataRecord;
    const count = tf.util.sizeFromShape(shape as number[]);
    const bytes = DTYPE_BYTES[parent.dtype];
    const record = new DataRecord(info.dtype, count, parent.dtype);
    record.handle = this.addon.view(parent.handle, offset * bytes, count * bytes, parent.dtype === 'f32' ? 0 : parent.dtype === 'i32' ? 1 : parent.dtype === 'u8' ? 2 : 3);
    const dataId = {};
    this.data.set(dataId, record);
    reclaim.register(dataId, record);
    return { dataId, shape: shape as number[], dtype: info.dtype };
  }

  /** Overwrites the values of a tensor in place (staging buffers, hyper-parameters). */
  writeInto(info: tf.TensorInfo, values: HostArray, elementOffset = 0): void {
    const storage = this.refInPlace(info).storage;
    this.addon.writeInto(storage.handle, values, elementOffset * DTYPE_BYTES[storage.dtype]);
  }
}

/** Host values as an array of the storage's own type (tfjs also hands over plain arrays and Float32Arrays of integers). */
function toHostArray(record: DataRecord): HostArray {
  const values = record.host as unknown as ArrayLike<number>;
  if (record.dtype === 'f32') return values instanceof Float32Array ? values : Float32Array.from(values);
  if (record.dtype === 'i32') return values instanceof Int32Array ? values : Int32Array.from(values);
  return values instanceof Uint8Array ? values : Uint8Array.from(values);
}
