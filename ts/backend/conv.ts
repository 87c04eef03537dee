import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { alias } from './alias';
import type { NativeBackend } from './backend';
import { delegate } from './host';
import { finish } from './matmul';
import type { KernelTable, NativeKernel } from './register';

type Info = tf.backend_util.Conv2DInfo;
type Shape4D = [number, number, number, number];
const MAX_TAPS = 256; // along one axis, of the input gradient

/** Strides, dilations and padding as the native kernels take them. */
function windowOf(info: Info): number[] {
  return [info.strideHeight, info.strideWidth, info.dilationHeight, info.dilationWidth, info.padInfo.top, info.padInfo.left];
}

/** Shapes of a convolution between tensors of these shapes, or undefined where only the JavaScript kernel serves. */
function convInfo(x: number[], filter: number[], attrs: tf.NamedAttrMap, depthwise: boolean, dilations = attrs.dilations): Info | undefined {
  const format = attrs.dataFormat as 'NHWC' | 'NCHW' | undefined;
  if (format === 'NCHW') return undefined;
  return tf.backend_util.computeConv2DInfo(x as Shape4D, filter as Shape4D, attrs.strides as number, (dilations ?? 1) as number, attrs.pad as number, attrs.dimRoundingMode as 'floor' | undefined, depthwise);
}

const floats = (...tensors: (tf.TensorInfo | null | undefined)[]): boolean => tensors.every((t) => !t || t.dtype === 'float32');

function conv2d(backend: NativeBackend, x: tf.TensorInfo, filter: tf.TensorInfo, attrs: tf.NamedAttrMap, bias?: tf.TensorInfo): tf.TensorInfo | undefined {
  if (!floats(x, filter)) return undefined;
  const info = convInfo(x.shape, filter.shape, attrs, false);
  if (!info || filter.shape[2] !== x.shape[3]) return undefined;
  const y = backend.output(info.outShape);
  kernels.conv2d({ x: backend.ref(x), filter: backend.ref(filter), bias: bias ? backend.ref(bias) : null, y: backend.outRef(y), window: windowOf(info) });
  return y;
}

function depthwise(backend: NativeBackend, x: tf.TensorInfo, filter: tf.TensorInfo, attrs: tf.NamedAttrMap): tf.TensorInfo | undefined {
  if (!floats(x, filter)) return undefined;
  const dilations = (attrs.dilations ?? [1, 1]) as [number, number];
  if (!tf.backend_util.eitherStridesOrDilationsAreOne(attrs.strides as [number, number], dilations)) return undefined;
  const info = convInfo(x.shape, filter.shape, attrs, true, dilations);
  if (!info || filter.shape[2] !== x.shape[3]) return undefined;
  const y = backend.output(info.outShape);
  kernels.depthwise({ x: backend.ref(x), filter: backend.ref(filter), y: backend.outRef(y), window: windowOf(info) });
  return y;
}

type Make = (backend: NativeBackend, inputs: tf.NamedTensorInfoMap, attrs: tf.NamedAttrMap) => tf.TensorInfo | undefined;

/** The native kernel where it serves, else the JavaScript one. */
function orDelegate(name: string, make: Make): NativeKernel {
  const rest = delegate(name);
  return (backend, inputs, attrs) => make(backend, inputs, attrs) ?? rest(backend, inputs, attrs);
}

/** x as one image per sample and depth slice, with the depth strides and padding of a 3-D convolution left to the caller. */
const info3d = (x: number[], filter: number[], attrs: tf.NamedAttrMap): tf.backend_util.Conv3DInfo =>
  tf.backend_util.computeConv3DInfo(x as never, filter as never, attrs.strides as number, (attrs.dilations ?? 1) as number, attrs.pad as 'same' | 'valid');

/** Convolutions and their gradients, channels last; NCHW is left to the JavaScript kernels. */
export const CONV: KernelTable = {
  Conv2D: orDelegate('Conv2D', (backend, { x, filter }, attrs) => conv2d(backend, x as tf.TensorInfo, filter as tf.TensorInfo, attrs)),

  Conv2DBackpropInput: orDelegate('Conv2DBackpropInput', (backend, inputs, attrs) => {
    const [dy, filter] = [inputs.dy as tf.TensorInfo, inputs.filter as tf.TensorInfo];
    const info = convInfo(attrs.inputShape as number[], filter.shape, attrs, false, 1);
    if (!info || !floats(dy, filter) || !tf.util.arraysEqual(dy.shape, info.outShape) || filter.shape[2] !== info.inChannels || Math.max(info.filterHeight, info.filterWidth) > MAX_TAPS) return undefined;
    const dx = backend.output(info.inShape);
    kernels.conv2dInputGrad({ dy: backend.ref(dy), filter: backend.ref(filter), dx: backend.outRef(dx), window: windowOf(info) });
    return dx;
  }),

  Conv2DBackpropFilter: orDelegate('Conv2DBackpropFilter', (backend, inputs, attrs) => {
    const [x, dy] = [inputs.x as tf.TensorInfo, inputs.dy as tf.TensorInfo];
    const info = convInfo(x.shape, attrs.filterShape as number[], attrs, false, 1);
    if (!info || !floats(x, dy) || !tf.util.arraysEqual(dy.shape, info.outShape)) return undefined;
    const dfilter = backend.output(info.filterShape);
    kernels.conv2dFilterGrad({ x: backend.ref(x), dy: backend.ref(dy), dfilter: backend.outRef(dfilter), window: windowOf(info) });
    return dfilter;
  }),

  FusedConv2D: orDelegate('FusedConv2D', (backend, inputs, attrs) => {
    const [x, filter, bias] = [inputs.x as tf.TensorInfo, inputs.filter as tf.TensorInfo, inputs.bias];
    if (!floats(bias, inputs.preluActivationWeights)) return undefined;
    const inside = bias && tf.util.sizeFromShape(bias.shape) === filter.shape[3] && bias.shape[bias.shape.length - 1] === filter.shape[3] ? bias : undefined;
    const y = conv2d(backend, x, filter, attrs, inside);
    return y && finish(backend, y, inside ? null : bias, attrs, inputs.preluActivationWeights);
  }),

  DepthwiseConv2dNative: orDelegate('DepthwiseConv2dNative', (backend, { x, filter }, attrs) => depthwise(backend, x as tf.TensorInfo, filter as tf.TensorInfo, attrs)),

  DepthwiseConv2dNativeBackpropInput: orDelegate('DepthwiseConv2dNativeBackpropInput', (backend, inputs, attrs) => {
    const [dy, filter] = [inputs.dy as tf.TensorInfo, inputs.filter as tf.TensorInfo];
    const info = convInfo(attrs.inputShape as number[], filter.shape, attrs, true);
    if (!info || !floats(dy, filter) || !tf.util.arraysEqual(dy.shape, info.outShape)) return undefined;
    const dx = backend.output(info.inShape);
    kernels.depthwiseInputGrad({ dy: backend.ref(dy), filter: backend.ref(filter), dx: backend.outRef(dx), window: windowOf(info) });
    return dx;
  }),

  DepthwiseConv2dNativeBackpropFilter: orDelegate('DepthwiseConv2dNativeBackpropFilter', (backend, inputs, attrs) => {
    const [x, dy] = [inputs.x as tf.TensorInfo, inputs.dy as tf.TensorInfo];
    const info = convInfo(x.shape, attrs.filterShape as number[], attrs, true);
    if (!info || !floats(x, dy) || !tf.util.arraysEqual(dy.shape, info.outShape)) return undefined;
    const dfilter = backend.output(info.filterShape);
    kernels.depthwiseFilterGrad({ x: backend.ref(x), dy: backend.ref(dy), dfilter: backend.outRef(dfilter), window: windowOf(info) });
    return dfilter;
  }),

  FusedDepthwiseConv2D: orDelegate('FusedDepthwiseConv2D', (backend, inputs, attrs) => {
    if (!floats(inputs.bias, inputs.preluActivationWeights)) return undefined;
    const y = depthwise(backend, inputs.x as tf.TensorInfo, inputs.filter as tf.TensorInfo, attrs);
    return y && finish(backend, y, inputs.bias, attrs, inputs.preluActivationWeights);
  }),

  // A filter of depth 1 and stride 1 convolves every depth slice by itself.
  Conv3D: orDelegate('Conv3D', (backend, inputs, attrs) => {
    const [x, filter] = [inputs.x as tf.TensorInfo, inputs.filter as tf.TensorInfo];
    if (!floats(x, filter) || (attrs.dataFormat ?? 'NDHWC') !== 'NDHWC') return undefined;
    const info = info3d(x.shape, filter.shape, attrs);
    if (info.filterDepth !== 1 || info.strideDepth !== 1 || info.padInfo.front !== 0 || info.outDepth !== info.inDepth) return undefined;
    const y = backend.output(info.outShape);
    const slices = info.batchSize * info.inDepth;
    const window = [info.strideHeight, info.strideWidth, info.dilationHeight, info.dilationWidth, info.padInfo.top, info.padInfo.left];
    kernels.conv2d({
      x: backend.ref(x, [slices, info.inHeight, info.inWidth, info.inChannels]),
      filter: backend.ref(filter, [info.filterHeight, info.filterWidth, info.inChannels, info.outChannels]),
      bias: null,
      y: backend.outRef(y, [slices, info.outHeight, info.outWidth, info.outChannels]),
      window,
    });
    return y;
  }),
};

interface PoolShape {
  window: number[];
  in: number[];
  out: number[];
  outShape: number[];
  unchanged: boolean;
}

function poolShape(x: number[], attrs: tf.NamedAttrMap, spatial: 2 | 3): PoolShape {
  const { filterSize, strides, pad, dimRoundingMode } = attrs as { filterSize: number; strides: number; pad: 'same'; dimRoundingMode: 'floor' | undefined };
  if (spatial === 2) {
    const i = tf.backend_util.computePool2DInfo(x as Shape4D, filterSize, strides, 1, pad, dimRoundingMode);
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
  return orDelegate(name, (backend, inputs, attrs) => {
    const x = inputs.x as tf.TensorInfo;
    if (!floats(x) || attrs.dataFormat === 'NCDHW') return undefined;
    tf.util.assert(tf.backend_util.eitherStridesOrDilationsAreOne(attrs.strides as [number, number], 1), () => `${name}: either strides or dilations must be 1`);
    const s = poolShape(x.shape, attrs, spatial);
    if (s.unchanged) return alias(backend, x, x.shape);
    const y = backend.output(s.outShape);
    kernels.pool({ x: backend.ref(x, s.in), y: backend.outRef(y, s.out), window: s.window, average });
    return y;
  });
}

function poolGrad(name: string, average: boolean, spatial: 2 | 3): NativeKernel {
  return orDelegate(name, (backend, inputs, attrs) => {
    const [dy, x] = [inputs.dy as tf.TensorInfo, inputs.input as tf.TensorInfo];
    if (!floats(dy, x)) return undefined;
    const s = poolShape(x.shape, attrs, spatial);
    if (!tf.util.arraysEqual(dy.shape, s.outShape)) return undefined;
    const dx = backend.output(x.shape);
    kernels.poolGrad({ x: average ? null : backend.ref(x, s.in), dy: backend.ref(dy, s.out), dx: backend.outRef(dx, s.in), window: s.window, average });
    return dx;
  });
}

/** Pooling, its gradients, and normalisation by given statistics. */
export const POOL: KernelTable = {
  MaxPool: pool('MaxPool', false, 2),
  AvgPool: pool('AvgPool', true, 2),
  MaxPool3D: pool('MaxPool3D', false, 3),
  AvgPool3D: pool('AvgPool3D', true, 3),
  MaxPoolGrad: poolGrad('MaxPoolGrad', false, 2),
  AvgPoolGrad: poolGrad('AvgPoolGrad', true, 2),
  AvgPool3DGrad: poolGrad('AvgPool3DGrad', true, 3),

  FusedBatchNorm: orDelegate('FusedBatchNorm', (backend, inputs, attrs) => {
    const { x, mean, variance, scale, offset } = inputs as Record<string, tf.TensorInfo | undefined> & { x: tf.TensorInfo; mean: tf.TensorInfo; variance: tf.TensorInfo };
    const channels = x.shape[x.shape.length - 1] ?? 1;
    const perChannel = [mean, variance, scale, offset].every((t) => !t || (t.shape.length === 1 && t.shape[0] === channels));
    if (!floats(x, mean, variance, scale, offset) || !perChannel || channels === 0) return undefined;
    const rows = [tf.util.sizeFromShape(x.shape) / channels, channels];
    const y = backend.output(x.shape);
    kernels.batchNorm({
      x: backend.ref(x, rows),
      mean: backend.ref(mean),
      variance: backend.ref(variance),
      scale: scale ? backend.ref(scale) : null,
      offset: offset ? backend.ref(offset) : null,
      y: backend.outRef(y, rows),
      eps: (attrs.varianceEpsilon as number | undefined) ?? 0.001,
    });
    return y;
  }),
};
