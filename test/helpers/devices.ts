import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import type { TestContext } from 'vitest';
import { CPU_BACKEND, CUDA_BACKEND, type NativeBackend } from '../../ts/backend';
import { SimmimError } from '../../ts/errors';
import { inspectCuda, loadAddon, type IsaLevel } from '../../ts/native';

/**
 * The backend under test: SIMMIM_TEST_DEVICE=cuda runs the suite's own cases on 'simmim-cuda' (a GPU, or with
 * SIMMIM_CUDA_PLUGIN its emulation; scripts/test-cuda.sh), otherwise they run on 'simmim-cpu'.
 */
export const OWN_BACKEND = process.env.SIMMIM_TEST_DEVICE === 'cuda' ? CUDA_BACKEND : CPU_BACKEND;

/** A backend in one configuration on which every op must give the same answer. */
export interface Device {
  name: string;
  backend: 'cpu' | typeof CPU_BACKEND | typeof CUDA_BACKEND;
  isa?: IsaLevel;
  threads?: number;
  /** Whether every call is queued, instead of the large ones. */
  queued?: boolean;
  /** Order in which the emulation of a GPU runs blocks and threads. */
  order?: 'forward' | 'reverse' | 'shuffle';
}

/** tfjs's own CPU backend: it runs the composed forms. */
export const COMPOSED: Device = { name: "tfjs 'cpu' (composed)", backend: 'cpu' };

/** The backend under test in its usual configuration. */
export const OWN: Device = { name: OWN_BACKEND, backend: OWN_BACKEND };

/** The backend under test in every configuration: each ISA level of this machine, or the GPU where it has the kernel. */
export function nativeDevices(kernel?: string): Device[] {
  if (kernel !== undefined && lacking(kernel)) return [];
  if (OWN_BACKEND === CUDA_BACKEND) return [{ ...OWN, order: 'forward' }];
  return loadAddon()
    .info()
    .isaLevels.map((isa) => ({ name: `simmim-cpu ${isa}`, backend: 'simmim-cpu', isa, threads: 1 }));
}

/** Configurations that must give the same bits as `device`: other numbers of threads with every call queued, or on a GPU other orders of its emulation. */
export function alikeDevices(device: Device, threads: number[] = [2]): Device[] {
  if (device.backend !== CUDA_BACKEND) return threads.map((n) => ({ ...device, name: `${n} threads, queued`, threads: n, queued: true }));
  return [{ ...device, name: 'blocks and threads in reverse', order: 'reverse' }, { ...device, name: 'blocks and threads shuffled', order: 'shuffle' }];
}

const QUEUE_FROM = loadAddon().queueFrom(0);
loadAddon().queueFrom(QUEUE_FROM);

/** Makes a device the active tfjs backend in its configuration. */
export async function activate(device: Device): Promise<void> {
  if (device.isa) loadAddon().setIsa(device.isa);
  if (device.threads) loadAddon().setThreads(device.threads);
  loadAddon().queueFrom(device.queued ? 0 : QUEUE_FROM);
  process.env.SIMMIM_EMULATION_ORDER = device.order ?? 'forward';
  if (!(await tf.setBackend(device.backend))) throw new Error(`backend ${device.backend} cannot be initialised`);
}

/** Why the backend under test lacks an op, or undefined: a kernel may be marked KERNEL_CPU_ONLY in kernels.def. */
export function lacking(kernel: string): string | undefined {
  return OWN_BACKEND === CUDA_BACKEND && inspectCuda().hostOnlyKernels.includes(kernel) ? `${kernel} has no CUDA version` : undefined;
}

/** The body of a test that is left out, with the reason, where it comes upon a kernel that has no CUDA version. */
export function unlessLacking(body: () => void): (context: TestContext) => void {
  return (context) => {
    try {
      body();
    } catch (error) {
      if (OWN_BACKEND === CUDA_BACKEND && error instanceof SimmimError && error.code === 'unsupported' && error.message.includes('has no version for cuda')) context.skip(error.message);
      throw error;
    }
  };
}

/** What is allocated: engine tensors and buffers, and on our backends native handles and live bytes. */
export function allocated(): Record<string, number> {
  const { numTensors, numDataBuffers } = tf.memory();
  if (tf.getBackend() === 'cpu') return { numTensors, numDataBuffers };
  const { handles, live } = loadAddon().stats((tf.backend() as NativeBackend).device);
  return { numTensors, numDataBuffers, handles, live };
}
