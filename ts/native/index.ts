export { loadAddon, DTYPES, DTYPE_BYTES, DTYPE_NUMBER } from './load';
export type { Addon, HostArray, IsaLevel, NativeInfo, NativeStats, PluginDevice, PluginInfo, StorageDType } from './load';
export { Mailbox, mailbox } from './mailbox';
export type { NativeStorage, NativeTensor } from './mailbox';
export { inspectCuda, openCuda } from './plugin';
export * as kernels from './kernels.gen';
