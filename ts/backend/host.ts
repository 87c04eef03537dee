import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';

/**
 * Kernels that run in JavaScript on host values: string, ragged and rare ones. They are
 * @tensorflow/tfjs-backend-cpu's own kernel functions, called with our backend in its place; they read
 * `data.get(id).values` (a host copy of native memory) and write fresh typed arrays, which cross to native
 * memory at their first native use.
 */
export function delegatedKernels(backendName: string, isNative: (kernel: string) => boolean): tf.KernelConfig[] {
  return tf
    .getKernelsForBackend('cpu')
    .filter(({ kernelName }) => !isNative(kernelName))
    .map((config) => ({ ...config, backendName }));
}
