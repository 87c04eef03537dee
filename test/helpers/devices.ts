import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '../../ts/backend';
import { loadAddon, type IsaLevel } from '../../ts/native';

/** A backend in one configuration on which every op must give the same answer. */
export interface Device {
  name: string;
  backend: 'cpu' | 'simmim-cpu';
  isa?: IsaLevel;
  threads?: number;
}

/** tfjs's own CPU backend: it runs the composed forms. */
export const COMPOSED: Device = { name: "tfjs 'cpu' (composed)", backend: 'cpu' };

/** Our backend at every ISA level this machine has. */
export function nativeDevices(): Device[] {
  return loadAddon()
    .info()
    .isaLevels.map((isa) => ({ name: `simmim-cpu ${isa}`, backend: 'simmim-cpu', isa, threads: 1 }));
}

/** Makes a device the active tfjs backend in its configuration. */
export async function activate(device: Device): Promise<void> {
  if (device.isa) loadAddon().setIsa(device.isa);
  if (device.threads) loadAddon().setThreads(device.threads);
  if (!(await tf.setBackend(device.backend))) throw new Error(`backend ${device.backend} cannot be initialised`);
}

/** What is allocated: engine tensors and buffers, and on our backend native handles and live bytes. */
export function allocated(): Record<string, number> {
  const { numTensors, numDataBuffers } = tf.memory();
  const { handles, live } = loadAddon().stats();
  return tf.getBackend() === 'cpu' ? { numTensors, numDataBuffers } : { numTensors, numDataBuffers, handles, live };
}
