import * as tf from '@tensorflow/tfjs-core';
import * as kernels from '../native/kernels.gen';
import { alias } from './alias';
import { requireDtype } from './host';
import { broadcastTo } from './movement';
import type { KernelTable } from './register';

/** The dims of statistics that say something: all but leading ones. */
function period(shape: number[]): number[] {
  const first = shape.findIndex((d) => d !== 1);
  return first < 0 ? [] : shape.slice(first);
}

interface LrnAttrs {
  depthRadius: number;
  bias: number;
  alpha: number;
  beta: number;
}
function lrnArgs(x: tf.TensorInfo, attrs: tf.NamedAttrMap): { rows: number[]; parameters: { radius: number; bias: number; alpha: number; beta: number } } {
  const { depthRadius, bias, alpha, beta } = attrs as unknown as LrnAttrs;
  const channels = x.shape[x.shape.length - 1] as number;
  return { rows: [channels === 0 ? 0 : tf.util.sizeFromShape(x.shape) / channels, channels], parameters: { radius: depthRadius, bias, alpha, beta } };
}

/** Normalisation by given statistics, and by the responses of neighbouring channels. */
export const NORM: KernelTable = {
  FusedBatchNorm: (backend, inputs, attrs) => {
    const { x, mean, variance, scale, offset } = inputs as Record<string, tf.TensorInfo | undefined> & { x: tf.TensorInfo; mean: tf.TensorInfo; variance: tf.TensorInfo };
    requireDtype('FusedBatchNorm', inputs, 'float32');
    // The kernel takes one value for each of the last n elements of x; other statistics are repeated over all of x.
    const dims = period(mean.shape);
    const repeats = tf.util.arraysEqual(dims, x.shape.slice(x.shape.length - dims.length)) && [variance, scale, offset].every((t) => !t || tf.util.arraysEqual(period(t.shape), dims));
    const n = tf.util.sizeFromShape(repeats ? dims : x.shape);
    const statistic = <T extends tf.TensorInfo | undefined>(t: T): T => (t && (repeats ? alias(backend, t, [n]) : { ...broadcastTo(backend, t, x.shape), shape: [n] })) as T;
    const parts = { mean: statistic(mean), variance: statistic(variance), scale: statistic(scale), offset: statistic(offset) };
    const rows = [n === 0 ? 0 : tf.util.sizeFromShape(x.shape) / n, n];
    const y = backend.output(x.shape);
    kernels.batchNorm({
      x: backend.ref(x, rows),
      mean: backend.ref(parts.mean),
      variance: backend.ref(parts.variance),
      scale: parts.scale ? backend.ref(parts.scale) : null,
      offset: parts.offset ? backend.ref(parts.offset) : null,
      y: backend.outRef(y, rows),
      eps: (attrs.varianceEpsilon as number | undefined) ?? 0.001,
    });
    for (const part of Object.values(parts)) if (part) backend.disposeData(part.dataId);
    return y;
  },

  LRN: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    requireDtype('LRN', inputs, 'float32');
    const { rows, parameters } = lrnArgs(x, attrs);
    const y = backend.output(x.shape);
    kernels.lrn({ x: backend.ref(x, rows), y: backend.outRef(y, rows), ...parameters });
    return y;
  },

  LRNGrad: (backend, inputs, attrs) => {
    const { x, y, dy } = inputs as { x: tf.TensorInfo; y: tf.TensorInfo; dy: tf.TensorInfo };
    requireDtype('LRNGrad', inputs, 'float32');
    const { rows, parameters } = lrnArgs(x, attrs);
    const dx = backend.output(x.shape);
    kernels.lrnGrad({ x: backend.ref(x, rows), y: backend.ref(y, rows), dy: backend.ref(dy, rows), dx: backend.outRef(dx, rows), ...parameters });
    return dx;
  },
};
