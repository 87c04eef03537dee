import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { type Addon, type HostArray, type NativeStats, type NativeStorage, type NativeTensor, type StorageDType, DTYPE_BYTES, DTYPE_NUMBER, mailbox } from '../native';
import * as kernels from '../native/kernels.gen';
import { type DataRecord, RecordStore, cachedValues, emptyHostArray, ensureUploaded, extended, hostArray, releaseMemory, sizeOf, watch } from './record';

/**
 * tfjs backend over native storages. Reshapes and identities share a dataId, values written by the caller
 * cross to native memory at their first native use, and tensors that JavaScript dropped without dispose
 * are reclaimed by a FinalizationRegistry.
 */
export class NativeBackend extends tf.KernelBackend {
  readonly data: RecordStore;
  /** Read by delegated kernels of @tensorflow/tfjs-backend-cpu. */
  readonly blockSize = 48;
  readonly mailbox = mailbox();
  private readonly addon: Addon = this.mailbox.addon;

  /** `device` is the number of an open native device; 0 is the host. */
  constructor(
    readonly name: string,
    readonly device = 0,
  ) {
    super();
    this.data = new RecordStore(this);
  }

  // --- storage, as the engine asks for it

  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.DataId {
    const count = tf.util.sizeFromShape(shape);
    // tfjs-core makes a tensor of shape [1] and no values out of [tensor], and tfjs-layers passes such: the rest is 0, as on webgl
    const given = dtype !== 'string' && (values as ArrayLike<unknown>)?.length < count ? extended(values as tf.TypedArray, count, dtype) : values;
    return this.hold(given, count, dtype);
  }

  override move(dataId: tf.DataId, values: tf.BackendValues, shape: number[], dtype: tf.DataType, refCount: number): void {
    const count = tf.util.sizeFromShape(shape);
    const record = this.data.adopt(dataId, dtype, count);
    record.refCount = refCount;
    if (dtype !== 'complex64') {
      record.host = values;
      return;
    }
    const pairs = this.makeTensorInfo([2 * count], 'float32', values); // as readSync of the other backend merges them
    const [real, imag] = [0, 1].map((offset) => {
      const half = this.allocated(shape);
      kernels.stridedCopy({ x: this.ref(pairs), y: this.outRef(half, [count]), dims: [count], xStrides: [2], yStrides: [1], xOffset: offset, yOffset: 0 });
      return half;
    }) as [tf.TensorInfo, tf.TensorInfo];
    this.disposeData(pairs.dataId);
    record.complexTensorInfos = { real, imag };
  }

  /** The values of a complex tensor as tfjs reads them, real and imaginary parts in turn; to be released. */
  private interleaved({ real, imag }: { real: tf.TensorInfo; imag: tf.TensorInfo }, count: number): number {
    const pairs: NativeStorage = { handle: this.addon.allocate(DTYPE_NUMBER.f32, 2 * count, this.device), dtype: 'f32', device: this.device };
    [real, imag].forEach((half, offset) => kernels.stridedCopy({ x: this.ref(half, [count]), y: { storage: pairs, shape: [2 * count] }, dims: [count], xStrides: [1], yStrides: [2], xOffset: 0, yOffset: offset }));
    return pairs.handle;
  }

  private hold(values: tf.BackendValues | null, count: number, dtype: tf.DataType): DataRecord {
    const record = this.data.create(dtype, count);
    record.host = values;
    return record;
  }

  /** The record of a dataId that must be on this backend (the engine asks nobody else). */
  private own(dataId: tf.DataId): DataRecord {
    const record = this.data.peek(dataId);
    if (!record) throw new SimmimError('disposed', this.name, 'a tensor was used after it was disposed');
    return record;
  }

  override readSync(dataId: tf.DataId): tf.BackendValues {
    const record = this.own(dataId);
    if (record.complexTensorInfos) {
      const handle = this.interleaved(record.complexTensorInfos, record.count);
      const target = new Float32Array(2 * record.count);
      try {
        this.addon.readInto(handle, target);
      } finally {
        this.addon.release(handle);
      }
      return target;
    }
    const known = cachedValues(record);
    if (known !== null) return known;
    if (record.handle === 0) throw new SimmimError('internal', 'readSync', 'the tensor has no values');
    const target = emptyHostArray(record.tfDtype, record.count);
    this.addon.readInto(record.handle, target);
    return target;
  }

  /** Resolves when the work asked for so far is done; the event loop runs meanwhile. */
  override async read(dataId: tf.DataId): Promise<tf.BackendValues> {
    const record = this.own(dataId);
    if (record.complexTensorInfos) {
      const handle = this.interleaved(record.complexTensorInfos, record.count);
      try {
        return new Float32Array(await this.addon.readLater(handle, 2 * record.count));
      } finally {
        this.addon.release(handle);
      }
    }
    if (record.host !== null || (this.device === 0 && !this.addon.busy())) return this.readSync(dataId);
    return hostArray(record.tfDtype, await this.addon.readLater(record.handle, record.count));
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
    return this.data.peek(dataId)?.refCount ?? 0;
  }
  override incRef(dataId: tf.DataId): void {
    this.data.get(dataId).refCount++;
  }
  decRef(dataId: tf.DataId): void {
    const record = this.data.peek(dataId);
    if (record) record.refCount--;
  }

  override disposeData(dataId: tf.DataId, force = false): boolean {
    const record = this.data.peek(dataId);
    if (!record) return true;
    record.refCount--;
    if (!force && record.refCount > 0) return false;
    if (record.complexTensorInfos) {
      this.disposeData(record.complexTensorInfos.real.dataId, true);
      this.disposeData(record.complexTensorInfos.imag.dataId, true);
    }
    releaseMemory(record);
    this.data.drop(record, dataId);
    return true;
  }
  disposeIntermediateTensorInfo(info: tf.TensorInfo): void {
    this.disposeData(info.dataId);
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }
  override memory(): { unreliable: boolean; reasons?: string[] } & { native: NativeStats } {
    return { unreliable: false, native: this.addon.stats(this.device) };
  }
  override timerAvailable(): boolean {
    return true;
  }
  override async time(f: () => void): Promise<tf.BackendTimingInfo> {
    this.synchronise();
    const start = process.hrtime.bigint();
    f();
    this.synchronise();
    return { kernelMs: Number(process.hrtime.bigint() - start) / 1e6 };
  }
  /** Waits for everything asked for so far. */
  synchronise(): void {
    if (this.device === 0) this.addon.join();
    else this.addon.synchronise(this.device);
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
    this.addon.trim(this.device);
  }

  // --- what kernels use

  /** A TensorInfo with its own dataId over host values (or none yet). */
  makeTensorInfo(shape: number[], dtype: tf.DataType, values?: tf.BackendValues | string[] | null): tf.TensorInfo {
    const given = values as readonly unknown[] | null | undefined;
    const encoded = dtype === 'string' && given && typeof given[0] === 'string' ? (given as string[]).map((s) => tf.util.encodeString(s)) : (values as tf.BackendValues | null | undefined);
    return { dataId: this.hold(encoded ?? null, tf.util.sizeFromShape(shape), dtype), shape, dtype };
  }
  /** As makeTensorInfo, returning a tracked Tensor (asked for by delegated kernels). */
  makeOutput(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.Tensor {
    return tf.engine().makeTensorFromTensorInfo(this.makeTensorInfo(shape, dtype, values), this);
  }

  /** A fresh output of a native kernel: its memory is allocated by the call that writes it. */
  output(shape: readonly number[], dtype: tf.DataType = 'float32', storage?: StorageDType): tf.TensorInfo {
    const count = sizeOf(shape);
    if (!(count >= 0 && count <= Number.MAX_SAFE_INTEGER)) throw new SimmimError('invalid_argument', 'output', `[${shape}] is not a shape`);
    const record = this.data.create(dtype, count, storage);
    watch(record);
    return { dataId: record, shape: shape as number[], dtype };
  }
  /** An output stored as another tensor is: what ops give that pass bf16 on. */
  outputLike(info: tf.TensorInfo, shape: readonly number[] = info.shape): tf.TensorInfo {
    return this.output(shape, info.dtype, this.storageOf(info));
  }
  /** How the values lie in native memory: a float32 tensor's may be bf16. */
  storageOf(info: tf.TensorInfo): StorageDType {
    return this.data.get(info.dataId).dtype;
  }
  /** An output whose memory exists already, for kernels that fill it piece by piece. */
  allocated(shape: readonly number[], dtype: tf.DataType = 'float32', storage?: StorageDType): tf.TensorInfo {
    const info = this.output(shape, dtype, storage);
    const record = info.dataId as DataRecord;
    record.handle = this.addon.allocate(DTYPE_NUMBER[record.dtype], record.count, this.device);
    return info;
  }

  /** The native side of an input, uploading host values at their first native use. */
  ref(info: tf.TensorInfo, shape: readonly number[] = info.shape): NativeTensor {
    const storage = this.data.get(info.dataId);
    if (info.dtype !== storage.tfDtype) return { storage: this.converted(info, storage), shape };
    if (storage.handle === 0) ensureUploaded(storage);
    return { storage, shape };
  }
  /** JavaScript kernels may hand a dataId on under another dtype; native memory cannot. */
  private converted(info: tf.TensorInfo, record: DataRecord): NativeStorage {
    const copy = this.hold(record.values, record.count, info.dtype);
    this.data.delete(copy);
    ensureUploaded(copy);
    copy.live = true; // reclaimed by the garbage collector: nobody else knows it
    return copy;
  }
  /** As ref, for a tensor that the kernel changes in place: its host copy becomes void, and no other is kept. */
  refInPlace(info: tf.TensorInfo, shape: readonly number[] = info.shape): NativeTensor {
    const ref = this.ref(info, shape);
    const record = ref.storage as DataRecord;
    record.host = null;
    record.changing = true;
    return ref;
  }
  /** The native side of an output made by {@link output}. */
  outRef(info: tf.TensorInfo, shape: readonly number[] = info.shape): NativeTensor {
    const storage = this.data.get(info.dataId);
    if (shape !== info.shape && sizeOf(shape) !== storage.count) throw new SimmimError('invalid_argument', 'output', `the result has shape [${shape}], which has not the size of [${info.shape}]`);
    return { storage, shape };
  }

  /**
   * A TensorInfo over elements [offset, offset + count of shape) of another one's memory; both see each
   * other's in-place changes, and the memory lives until the last of them is disposed.
   */
  view(info: tf.TensorInfo, offset: number, shape: readonly number[]): tf.TensorInfo {
    this.refInPlace(info);
    const out = this.frozenView(info, offset, shape);
    (out.dataId as DataRecord).changing = true;
    return out;
  }
  /** A view of memory that nobody changes in place; undefined for memory that may change. */
  sliceView(info: tf.TensorInfo, offset: number, shape: readonly number[]): tf.TensorInfo | undefined {
    return (this.ref(info).storage as DataRecord).changing ? undefined : this.frozenView(info, offset, shape);
  }
  private frozenView(info: tf.TensorInfo, offset: number, shape: readonly number[]): tf.TensorInfo {
    const parent = this.ref(info).storage as DataRecord;
    const count = tf.util.sizeFromShape(shape as number[]);
    const bytes = DTYPE_BYTES[parent.dtype];
    const record = this.data.create(info.dtype, count, parent.dtype);
    record.handle = this.addon.view(parent.handle, offset * bytes, count * bytes, DTYPE_NUMBER[parent.dtype]);
    watch(record);
    return { dataId: record, shape: shape as number[], dtype: info.dtype };
  }

  /** Overwrites the values of a tensor in place (staging buffers, hyper-parameters). */
  writeInto(info: tf.TensorInfo, values: HostArray, elementOffset = 0): void {
    const storage = this.refInPlace(info).storage;
    this.addon.writeInto(storage.handle, values, elementOffset * DTYPE_BYTES[storage.dtype]);
  }

  /**
   * As writeInto, behind the event loop: after the work asked for so far and before any that is asked for later.
   * `values` must not change until the promise resolves.
   */
  async writeLater(info: tf.TensorInfo, values: HostArray, elementOffset = 0): Promise<void> {
    const storage = this.refInPlace(info).storage;
    await this.addon.writeLater(storage.handle, values, elementOffset * DTYPE_BYTES[storage.dtype]);
  }
}
