import * as tf from '@tensorflow/tfjs-core';
import { cpus, totalmem } from 'node:os';
import sharp from 'sharp';
import { CPU_BACKEND, runsInJavaScript } from '../backend';
import { SimmimError } from '../errors';
import { inspectCuda, kernels, loadAddon } from '../native';
import { versions } from '../train/run';
import { useBackend } from './backend';

/** `simmim doctor`: what this installation is and whether it works; rejects when it does not. */
export async function doctor(print: (line: string) => void): Promise<void> {
  const line = (key: string, value: string): void => print(`${key.padEnd(18)} ${value}`);
  const { simmim, node, tfjs } = versions() as { simmim: string; node: string; tfjs: string };
  line('simmim', simmim);
  line('node', `${node} (${process.platform}-${process.arch}, N-API ${process.versions.napi})`);
  line('tfjs-core', tfjs);
  line('sharp', `${sharp.versions.sharp ?? '?'} (libvips ${sharp.versions.vips})`);
  line('machine', `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores, ${(totalmem() / 2 ** 30).toFixed(1)} GiB`);
  const addon = loadAddon();
  const info = addon.info();
  line('addon', `loaded; built by ${info.compiler}, N-API ${info.napi}`);
  line('instruction set', `${info.isa} (available: ${info.isaLevels.join(', ')}; SIMMIM_ISA overrides)${info.bf16Dot ? ', bf16 dot products' : ''}`);
  line('threads', `${info.threads} (SIMMIM_THREADS overrides)`);
  await useBackend(CPU_BACKEND);
  line('native kernels', String(kernels.KERNEL_NAMES.length));
  const all = tf.getKernelsForBackend(CPU_BACKEND);
  const host = all.filter(runsInJavaScript).map(({ kernelName }) => kernelName).sort();
  line('tfjs kernels', `${all.length} on ${CPU_BACKEND}, ${all.length - host.length} of them native`);
  line('in JavaScript', host.length > 0 ? host.join(', ') : 'none');
  const product = tf.tidy(() => Array.from(tf.matMul(tf.tensor2d([[1, 2], [3, 4]]), tf.tensor2d([[5, 6], [7, 8]])).dataSync()));
  if (product.join() !== '19,22,43,50') throw new SimmimError('internal', 'doctor', `a 2 x 2 matrix product gave ${product.join()}, expected 19,22,43,50: the addon computes wrongly on this machine`);
  line('self-test', 'a matrix product is right');
  describeCuda(line);
}

/** The CUDA plugin, its devices and what they lack, or the reason why there is none. */
function describeCuda(line: (key: string, value: string) => void): void {
  try {
    const { file, build, runtime, devices, hostOnlyKernels } = inspectCuda();
    line('cuda plugin', `${file}; ${build}`);
    line('cuda runtime', runtime);
    for (const { name, computeCapability, multiprocessors, memoryBytes, freeBytes } of devices) {
      line('cuda device', `${name}, compute capability ${computeCapability}, ${multiprocessors} multiprocessors, ${(freeBytes / 2 ** 30).toFixed(1)} of ${(memoryBytes / 2 ** 30).toFixed(1)} GiB free`);
    }
    line('on the CPU only', hostOnlyKernels.length > 0 ? hostOnlyKernels.join(', ') : 'none');
  } catch (error) {
    if (!(error instanceof SimmimError)) throw error;
    line('cuda', `not available: ${error.message}`);
  }
}
