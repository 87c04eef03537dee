import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import { alias } from './alias';
import { requireDtype } from './host';
import type { KernelTable, NativeKernel } from './register';

/** A pooling in the form of the native kernels: five dims, channels last. */
interface PoolShape {
  /** Sizes, strides, dilations and padding of (depth, height, width). */
  window: number[];
  in: number[];
  out: number[];
  /** As tfjs has it. */
  outShape: number[];
  unchanged: boolean;
}

function poolShape(x: number[], attrs: tf.NamedAttrMap, spatial: 2 | 3): PoolShape {
  const { filterSize, strides, pad, dimRoundingMode } = attrs as { filterSize: number; strides: number; pad: 'same'; dimRoundingMode: 'floor' | undefined };
  if (spatial === 2) {
    const i = tf.backend_util.computePool2DInfo(x as [number, number, number, number], filterSize, strides, 1, pad, dimRoundingMode);
    return {
      window: [1, i.filterHeight, i.filterWidth, 1, i.strideHeight, i.strideWidth, 1, i.dilationHeight, i.dilationWidth, 0, i.padInfo.top, i.padInfo.left],
      in: [i.batchSize, 1, i.inHeight, i.inWidth, i.inChannels],
      out: [i.batchSize, 1, i.outHeight, i.outWidth, i.outChannels],
      outShape: i.outShape,
      unchanged: i.filterHeight === 1 && i.filterWidth === 1 && tf.util.arraysEqual(i.inShape, i.outShape),
    };
  }
  const i = tf.backend_util.computePool3DInfo(x as never, filterSize, strides, 1, pad, dimRoundingMode, attrs.dataFormat as 'NDHWC' | undefined);
  return {
    window: [i.filterDepth, i.filterHeight, i.filterWidth, i.strideDepth, i.strideHeight, i.strideWidth, i.dilationDepth, i.dilationHeight, i.dilationWidth, i.padInfo.front, i.padInfo.top, i.padInfo.left],
    in: [i.batchSize, i.inDepth, i.inHeight, i.inWidth, i.inChannels],
    out: [i.batchSize, i.outDepth, i.outHeight, i.outWidth, i.outChannels],
    outShape: i.outShape,
    unchanged: false,
  };
}

function pool(name: string, average: boolean, spatial: 2 | 3): NativeKernel {
  return (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    requireDtype(name, inputs, 'float32', ...(average ? [] : ['int32' as const]));
    if (attrs.dataFormat === 'NCDHW') throw new SimmimError('unsupported', name, `dataFormat is NCDHW for x of dtype ${x.dtype} and shape [${x.shape}], expected NDHWC`);
    tf.util.assert(tf.backend_util.eitherStridesOrDilationsAreOne(attrs.strides as [number, number], 1), () => `${name}: either strides or dilations must be 1`);
    const s = poolShape(x.shape, attrs, spatial);
    if (s.unchanged) return alias(backend, x, x.shape);
    const y = backend.output(s.outShape, x.dtype);
    // What tfjs makes of windows that lie wholly in the padding differs between two and three dimensions.
    kernels.pool({ x: backend.ref(x, s.in), y: backend.outRef(y, s.out), positions: null, window: s.window, average, batchPositions: false, none: spatial === 2 ? NaN : 0 });
    return y;
  };
}

/** `last`: which of equal values a gradient goes to; tfjs takes the first in two dimensions and the last in three. */
function poolGrad(name: string, average: boolean, spatial: 2 | 3): NativeKernel {
  return (backend, inputs, attrs) => {
    const { dy, input } = inputs as { dy: tf.TensorInfo; input: tf.TensorInfo };
    requireDtype(name, { dy, input }, 'float32');
    const s = poolShape(input.shape, attrs, spatial);
    if (!tf.util.arraysEqual(dy.shape, s.outShape)) throw new SimmimError('invalid_argument', name, `dy has shape [${dy.shape}], expected [${s.outShape}], the shape of the pooled x`);
    const dx = backend.output(input.shape);
    kernels.poolGrad({ x: average ? null : backend.ref(input, s.in), dy: backend.ref(dy, s.out), dx: backend.outRef(dx, s.in), window: s.window, average, last: spatial === 3 });
    return dx;
  };
}

interface DilationShape {
  window: number[];
  in: number[];
  filter: number[];
  out: number[];
  outShape: number[];
}

function dilationShape(name: string, inputs: tf.NamedTensorInfoMap, attrs: tf.NamedAttrMap): DilationShape {
  const { x, filter, dy } = inputs as { x: tf.TensorInfo; filter: tf.TensorInfo; dy?: tf.TensorInfo };
  requireDtype(name, inputs, 'float32');
  const i = tf.backend_util.computeDilation2DInfo(x.shape as [number, number, number, number], filter.shape as [number, number, number], attrs.strides as number, attrs.pad as 'same', 'NHWC', attrs.dilations as number);
  if (dy && !tf.util.arraysEqual(dy.shape, i.outShape)) throw new SimmimError('invalid_argument', name, `dy has shape [${dy.shape}], expected [${i.outShape}], the shape of the dilated x`);
  return {
    window: [1, i.filterHeight, i.filterWidth, 1, i.strideHeight, i.strideWidth, 1, i.dilationHeight, i.dilationWidth, 0, i.padInfo.top, i.padInfo.left],
    in: [i.batchSize, 1, i.inHeight, i.inWidth, i.inChannels],
    filter: [1, ...filter.shape],
    out: [i.batchSize, 1, i.outHeight, i.outWidth, i.inChannels],
    outShape: i.outShape,
  };
}

/** Pooling, morphological dilation, and their gradients. */
export const POOL: KernelTable = {
  MaxPool: pool('MaxPool', false, 2),
  AvgPool: pool('AvgPool', true, 2),
  MaxPool3D: pool('MaxPool3D', false, 3),
  AvgPool3D: pool('AvgPool3D', true, 3),
  MaxPoolGrad: poolGrad('MaxPoolGrad', false, 2),
  AvgPoolGrad: poolGrad('AvgPoolGrad', true, 2),
  MaxPool3DGrad: poolGrad('MaxPool3DGrad', false, 3),
  AvgPool3DGrad: poolGrad('AvgPool3DGrad', true, 3),

  MaxPoolWithArgmax: (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    requireDtype('MaxPoolWithArgmax', inputs, 'float32', 'int32');
    if (x.shape.length !== 4) throw new SimmimError('invalid_argument', 'MaxPoolWithArgmax', `x has shape [${x.shape}], expected rank 4`);
    const s = poolShape(x.shape, attrs, 2);
    const y = backend.output(s.outShape, x.dtype);
    const positions = backend.output(s.outShape, 'int32');
    kernels.pool({ x: backend.ref(x, s.in), y: backend.outRef(y, s.out), positions: backend.outRef(positions, s.out), window: s.window, average: false, batchPositions: Boolean(attrs.includeBatchInIndex), none: NaN });
    return [y, positions];
  },

  Dilation2D: (backend, inputs, attrs) => {
    const s = dilationShape('Dilation2D', inputs, attrs);
    const y = backend.output(s.outShape);
    kernels.dilation({ x: backend.ref(inputs.x as tf.TensorInfo, s.in), filter: backend.ref(inputs.filter as tf.TensorInfo, s.filter), y: backend.outRef(y, s.out), window: s.window });
    return y;
  },
  Dilation2DBackpropInput: (backend, inputs, attrs) => {
    const s = dilationShape('Dilation2DBackpropInput', inputs, attrs);
    const { x, filter, dy } = inputs as { x: tf.TensorInfo; filter: tf.TensorInfo; dy: tf.TensorInfo };
    const dx = backend.output(x.shape);
    kernels.dilationInputGrad({ x: backend.ref(x, s.in), filter: backend.ref(filter, s.filter), dy: backend.ref(dy, s.out), dx: backend.outRef(dx, s.in), window: s.window });
    return dx;
  },
  Dilation2DBackpropFilter: (backend, inputs, attrs) => {
    const s = dilationShape('Dilation2DBackpropFilter', inputs, attrs);
    const { x, filter, dy } = inputs as { x: tf.TensorInfo; filter: tf.TensorInfo; dy: tf.TensorInfo };
    const dfilter = backend.output(filter.shape);
    kernels.dilationFilterGrad({ x: backend.ref(x, s.in), filter: backend.ref(filter, s.filter), dy: backend.ref(dy, s.out), dfilter: backend.outRef(dfilter, s.filter), window: s.window });
    return dfilter;
  },
};
