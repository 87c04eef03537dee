import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { type PluginInfo, addonFolder } from './load';
import { mailbox } from './mailbox';

/** The CUDA plugin: SIMMIM_CUDA_PLUGIN (a file), else the one beside the addon. Throws `not_found` saying what to run. */
function cudaPlugin(): string {
  const wish = process.env.SIMMIM_CUDA_PLUGIN;
  const file = wish ?? join(addonFolder(), 'libsimmim_cuda.so');
  if (!existsSync(file)) {
    throw new SimmimError('not_found', 'cuda', wish === undefined ? `no CUDA plugin beside the addon (${file}): run 'npm run build:cuda' in the package's folder (needs nvcc)` : `SIMMIM_CUDA_PLUGIN names ${file}, which does not exist`);
  }
  return file;
}

/** What the CUDA plugin and its devices are. Throws one sentence where there is no plugin, driver or device. */
export function inspectCuda(): PluginInfo & { file: string } {
  const file = cudaPlugin();
  return { file, ...mailbox().addon.inspectPlugin(file) };
}

/** Opens the CUDA device SIMMIM_CUDA_DEVICE (default 0) and returns its number for calls. Throws as {@link inspectCuda}. */
export function openCuda(): number {
  const wish = process.env.SIMMIM_CUDA_DEVICE ?? '0';
  if (!/^\d+$/.test(wish)) throw new SimmimError('invalid_argument', 'cuda', `SIMMIM_CUDA_DEVICE is '${wish}', expected the number of a device`);
  return mailbox().addon.openDevice(cudaPlugin(), Number(wish));
}
