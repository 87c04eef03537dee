export { loadAddon, DTYPES, DTYPE_BYTES, DTYPE_NUMBER } from './load';
export type { Addon, HostArray, IsaLevel, NativeInfo, NativeStats, StorageDType } from './load';
export { Mailbox, mailbox } from './mailbox';
export type { NativeStorage, NativeTensor } from './mailbox';
export * as kernels from './kernels.gen';
