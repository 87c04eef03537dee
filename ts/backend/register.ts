import * as tf from '@tensorflow/tfjs-core';
import { openCuda } from '../native';
import { NativeBackend } from './backend';
import { registerChainedMethods } from './chained_methods';
import { EINSUM } from './einsum';
import { registerGradients } from './gradients';
import { delegatedKernels, namedError } from './host';
import { ALIAS } from './alias';
import { BINARY } from './binary';
import { COMPLEX } from './complex';
import { CONV } from './conv';
import { CREATE } from './create';
import { IMAGE } from './image';
import { INDEX } from './index_ops';
import { MATMUL } from './matmul';
import { MOVEMENT } from './movement';
import { NORM } from './norm';
import { POOL } from './pool';
import { RANDOM } from './random';
import { REDUCE } from './reduce';
import { ROWS } from './rows';
import { SPARSE } from './sparse';
import { UNARY } from './unary';

/** Computes one tfjs kernel on our backend. */
export type NativeKernel = (backend: NativeBackend, inputs: tf.NamedTensorInfoMap, attrs: tf.NamedAttrMap) => tf.TensorInfo | tf.TensorInfo[];
/** tfjs kernel name -> function; one table per family file. */
export type KernelTable = Record<string, NativeKernel>;

/** Name of the CPU backend. No underscore: tfjs splits registry keys there. */
export const CPU_BACKEND = 'simmim-cpu';
/** Name of the backend on an NVIDIA GPU; its plugin is opened when it is first chosen (`tf.setBackend`). */
export const CUDA_BACKEND = 'simmim-cuda';
/** Above cpu (1), webgl and wasm (2) and tfjs-node (3): importing the backend makes it the default. */
const PRIORITY = 4;

/** Every family that runs natively, later ones before earlier ones; what is not here is delegated (host.ts). */
const TABLES: KernelTable[] = [ALIAS, UNARY, BINARY, REDUCE, CREATE, MOVEMENT, INDEX, ROWS, MATMUL, CONV, POOL, NORM, IMAGE, SPARSE, RANDOM, EINSUM, COMPLEX];

function toConfig(backendName: string, kernelName: string, kernel: NativeKernel): tf.KernelConfig {
  return {
    kernelName,
    backendName,
    kernelFunc: ({ inputs, attrs, backend }) => {
      try {
        return kernel(backend as NativeBackend, inputs as tf.NamedTensorInfoMap, attrs ?? {});
      } catch (error) {
        throw namedError(kernelName, inputs as tf.NamedTensorInfoMap, error);
      }
    },
  };
}

/**
 * Registers a backend and its kernels; a second call, or a second copy of the package, changes nothing. `device` is asked
 * for the number of the native device (0 is the host) when the backend is first chosen.
 */
export function registerBackend(backendName: string = CPU_BACKEND, device: () => number = () => 0, priority: number = PRIORITY): void {
  if (tf.findBackendFactory(backendName)) return;
  const native = new Map(TABLES.flatMap((table) => Object.entries(table)));
  for (const [kernelName, kernel] of native) tf.registerKernel(toConfig(backendName, kernelName, kernel));
  for (const config of delegatedKernels(backendName, (kernel) => native.has(kernel))) tf.registerKernel(config);
  registerGradients();
  registerChainedMethods();
  tf.registerBackend(backendName, () => new NativeBackend(backendName, device()), priority);
}

/** Registers 'simmim-cpu', which becomes tfjs's default, and 'simmim-cuda', which is used when it is asked for. */
export function registerBackends(): void {
  registerBackend();
  registerBackend(CUDA_BACKEND, openCuda, 0);
}

/** Adds a kernel of ours (a fused op) to a backend; a kernel that is already there stays. */
export function registerNativeKernel(kernelName: string, kernel: NativeKernel, backendName: string = CPU_BACKEND): void {
  if (!tf.getKernel(kernelName, backendName)) tf.registerKernel(toConfig(backendName, kernelName, kernel));
}
