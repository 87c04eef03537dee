import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import { alias } from './alias';
import type { NativeBackend } from './backend';
import { requireDtype } from './host';
import { type Epilogue, epilogueOf, finish, insideOf } from './matmul';
import { slice, tile, transpose } from './movement';
import { reduceAxes } from './reduce';
import type { KernelTable, NativeKernel } from './register';

/** A convolution between tensors of some shapes, brought into the form of the native kernels: five dims, channels last. */
interface Geometry {
  /** Sizes, strides, dilations and padding of (depth, height, width). */
  window: number[];
  in: number[];
  filter: number[];
  out: number[];
  /** As tfjs has it. */
  outShape: number[];
  channelsFirst: boolean;
}

function requireRank(rank: number, x: number[], filter: number[]): void {
  if (x.length !== rank || filter.length !== rank) throw new SimmimError('invalid_argument', 'convolution', `x has shape [${x}] and the filter [${filter}], expected rank ${rank}`);
}

type Shape4D = [number, number, number, number];

function geometry2d(x: number[], filter: number[], attrs: tf.NamedAttrMap, depthwise = false): Geometry {
  requireRank(4, x, filter);
  const channelsFirst = attrs.dataFormat === 'NCHW';
  const i = tf.backend_util.computeConv2DInfo(x as Shape4D, filter as Shape4D, attrs.strides as number, (attrs.dilations ?? 1) as number, attrs.pad as number, attrs.dimRoundingMode as 'floor' | undefined, depthwise, channelsFirst ? 'channelsFirst' : 'channelsLast');
  return {
    window: [1, i.filterHeight, i.filterWidth, 1, i.strideHeight, i.strideWidth, 1, i.dilationHeight, i.dilationWidth, 0, i.padInfo.top, i.padInfo.left],
    in: [i.batchSize, 1, i.inHeight, i.inWidth, i.inChannels],
    filter: [1, ...filter],
    out: [i.batchSize, 1, i.outHeight, i.outWidth, i.outChannels],
    outShape: i.outShape,
    channelsFirst,
  };
}

function geometry3d(x: number[], filter: number[], attrs: tf.NamedAttrMap): Geometry {
  requireRank(5, x, filter);
  const i = tf.backend_util.computeConv3DInfo(x as never, filter as never, attrs.strides as number, (attrs.dilations ?? 1) as number, attrs.pad as 'same' | 'valid');
  return {
    window: [i.filterDepth, i.filterHeight, i.filterWidth, i.strideDepth, i.strideHeight, i.strideWidth, i.dilationDepth, i.dilationHeight, i.dilationWidth, i.padInfo.front, i.padInfo.top, i.padInfo.left],
    in: [i.batchSize, i.inDepth, i.inHeight, i.inWidth, i.inChannels],
    filter,
    out: [i.batchSize, i.outDepth, i.outHeight, i.outWidth, i.outChannels],
    outShape: i.outShape,
    channelsFirst: false,
  };
}

/** x with its channels last, under a reference of its own. */
function channelsLast(backend: NativeBackend, x: tf.TensorInfo, channelsFirst: boolean): tf.TensorInfo {
  return channelsFirst ? transpose(backend, x, [0, 2, 3, 1]) : alias(backend, x, x.shape);
}
/** The result as tfjs wants it from `y` with its channels last, which is taken over. */
function asAsked(backend: NativeBackend, y: tf.TensorInfo, channelsFirst: boolean): tf.TensorInfo {
  if (!channelsFirst) return y;
  const turned = transpose(backend, y, [0, 3, 1, 2]);
  backend.disposeData(y.dataId);
  return turned;
}
const lastShape = (shape: number[], channelsFirst: boolean): number[] => (channelsFirst ? [0, 2, 3, 1].map((i) => shape[i] as number) : shape);

/** dy with its channels last, under a reference of its own. Of a dy that is larger than the convolution's result, tfjs reads the first corner. */
function gradientOf(backend: NativeBackend, name: string, dy: tf.TensorInfo, g: Geometry): tf.TensorInfo {
  const channels = g.channelsFirst ? 1 : g.outShape.length - 1;
  const fits = dy.shape.length === g.outShape.length && dy.shape.every((d, i) => d === g.outShape[i] || (i !== 0 && i !== channels && d > (g.outShape[i] as number)));
  if (!fits) throw new SimmimError('invalid_argument', name, `dy has shape [${dy.shape}], expected [${g.outShape}], the shape of the convolution's result`);
  const corner = tf.util.arraysEqual(dy.shape, g.outShape) ? alias(backend, dy, dy.shape) : slice(backend, dy, dy.shape.map(() => 0), g.outShape);
  const last = channelsLast(backend, corner, g.channelsFirst);
  backend.disposeData(corner.dataId);
  return last;
}

/** What a convolution ends with. Channels first, tfjs lines vectors up with the channels. */
function epilogue(backend: NativeBackend, inputs: tf.NamedTensorInfoMap, attrs: tf.NamedAttrMap, g: Geometry): Epilogue {
  const e = epilogueOf(inputs, attrs);
  const perChannel = (t: tf.TensorInfo | undefined): tf.TensorInfo | undefined => (t && t.shape.length === 1 && t.shape[0] !== 1 ? { ...t, shape: [t.shape[0] as number, 1, 1] } : t);
  return g.channelsFirst ? { ...e, bias: perChannel(e.bias), prelu: perChannel(e.prelu) } : e;
}

type Run = (backend: NativeBackend, g: Geometry, x: tf.TensorInfo, filter: tf.TensorInfo, inside: Epilogue, y: tf.TensorInfo) => void;

/** Convolution, and what is fused with it: what the kernel itself can end with happens there. */
function convolve(name: string, geometryOf: (x: number[], filter: number[], attrs: tf.NamedAttrMap) => Geometry, run: Run): NativeKernel {
  return (backend, inputs, attrs) => {
    const { x, filter } = inputs as { x: tf.TensorInfo; filter: tf.TensorInfo };
    requireDtype(name, inputs, 'float32');
    const g = geometryOf(x.shape, filter.shape, attrs);
    const whole = epilogue(backend, inputs, attrs, g);
    const { inside, after } = insideOf(whole, g.out[4] as number, g.channelsFirst);
    const source = channelsLast(backend, x, g.channelsFirst);
    const y = backend.output(lastShape(g.outShape, g.channelsFirst));
    run(backend, g, source, filter, inside, y);
    backend.disposeData(source.dataId);
    return finish(backend, asAsked(backend, y, g.channelsFirst), after);
  };
}

const conv: Run = (backend, g, x, filter, inside, y) =>
  kernels.conv({ x: backend.ref(x, g.in), filter: backend.ref(filter, g.filter), bias: inside.bias ? backend.ref(inside.bias) : null, y: backend.outRef(y, g.out), window: g.window, activation: inside.op, alpha: inside.alpha });

function inputGrad(name: string, geometryOf: typeof geometry2d): NativeKernel {
  return (backend, inputs, attrs) => {
    const { dy, filter } = inputs as { dy: tf.TensorInfo; filter: tf.TensorInfo };
    requireDtype(name, inputs, 'float32');
    const shape = attrs.inputShape as number[];
    const g = geometryOf(shape, filter.shape, attrs);
    const from = gradientOf(backend, name, dy, g);
    const dx = backend.output(lastShape(shape, g.channelsFirst));
    kernels.convInputGrad({ dy: backend.ref(from, g.out), filter: backend.ref(filter, g.filter), dx: backend.outRef(dx, g.in), window: g.window });
    backend.disposeData(from.dataId);
    return asAsked(backend, dx, g.channelsFirst);
  };
}

function filterGrad(name: string, geometryOf: typeof geometry2d): NativeKernel {
  return (backend, inputs, attrs) => {
    const { x, dy } = inputs as { x: tf.TensorInfo; dy: tf.TensorInfo };
    requireDtype(name, inputs, 'float32');
    const shape = attrs.filterShape as number[];
    const g = geometryOf(x.shape, shape, attrs);
    const from = gradientOf(backend, name, dy, g);
    const source = channelsLast(backend, x, g.channelsFirst);
    const dfilter = backend.output(shape);
    kernels.convFilterGrad({ x: backend.ref(source, g.in), dy: backend.ref(from, g.out), dfilter: backend.outRef(dfilter, g.filter), window: g.window });
    backend.disposeData(source.dataId);
    backend.disposeData(from.dataId);
    return dfilter;
  };
}

const depthwiseGeometry = (x: number[], filter: number[], attrs: tf.NamedAttrMap): Geometry => geometry2d(x, filter, attrs, true);

/** A depthwise convolution as the native kernel has it, one filter per channel: channels are repeated where there are several. */
interface Plane {
  multiplier: number;
  in: number[];
  filter: number[];
  out: number[];
}
function planeOf(g: Geometry): Plane {
  const [b, , h, w, c] = g.in as [number, number, number, number, number];
  const [, kh, kw, , multiplier] = g.filter as [number, number, number, number, number];
  const [, , p, q, o] = g.out as [number, number, number, number, number];
  return { multiplier, in: [b, h, w, c * multiplier], filter: [kh, kw, c * multiplier], out: [b, p, q, o] };
}
/** Each channel of x (channels last) `multiplier` times. */
function repeated(backend: NativeBackend, x: tf.TensorInfo, p: Plane): tf.TensorInfo {
  return p.multiplier === 1 ? alias(backend, x, p.in) : { ...tile(backend, { ...x, shape: [tf.util.sizeFromShape(x.shape), 1] }, [1, p.multiplier]), shape: p.in };
}

const depthwise: Run = (backend, g, x, filter, inside, y) => {
  const p = planeOf(g);
  const source = repeated(backend, x, p);
  kernels.depthwise({ x: backend.ref(source), filter: backend.ref(filter, p.filter), bias: inside.bias ? backend.ref(inside.bias) : null, y: backend.outRef(y, p.out), window: g.window, activation: inside.op, alpha: inside.alpha });
  backend.disposeData(source.dataId);
};

const depthwiseInputGrad: NativeKernel = (backend, inputs, attrs) => {
  const name = 'DepthwiseConv2dNativeBackpropInput';
  const { dy, filter } = inputs as { dy: tf.TensorInfo; filter: tf.TensorInfo };
  requireDtype(name, inputs, 'float32');
  const shape = attrs.inputShape as number[];
  const g = depthwiseGeometry(shape, filter.shape, attrs);
  const from = gradientOf(backend, name, dy, g);
  const p = planeOf(g);
  const dx = backend.output(p.in);
  kernels.depthwiseInputGrad({ dy: backend.ref(from, p.out), filter: backend.ref(filter, p.filter), dx: backend.outRef(dx), window: g.window });
  backend.disposeData(from.dataId);
  if (p.multiplier === 1) return { ...dx, shape };
  const sum = reduceAxes(backend, kernels.REDUCE_OPS.sum, { ...dx, shape: [...shape, p.multiplier] }, [4], 'float32');
  backend.disposeData(dx.dataId);
  return { ...sum, shape };
};

const depthwiseFilterGrad: NativeKernel = (backend, inputs, attrs) => {
  const name = 'DepthwiseConv2dNativeBackpropFilter';
  const { x, dy } = inputs as { x: tf.TensorInfo; dy: tf.TensorInfo };
  requireDtype(name, inputs, 'float32');
  const shape = attrs.filterShape as number[];
  const g = depthwiseGeometry(x.shape, shape, attrs);
  const from = gradientOf(backend, name, dy, g);
  const p = planeOf(g);
  const source = repeated(backend, x, p);
  const dfilter = backend.output(shape);
  kernels.depthwiseFilterGrad({ x: backend.ref(source), dy: backend.ref(from, p.out), dfilter: backend.outRef(dfilter, p.filter), window: g.window });
  backend.disposeData(source.dataId);
  backend.disposeData(from.dataId);
  return dfilter;
};

/** Convolutions and their gradients. */
export const CONV: KernelTable = {
  Conv2D: convolve('Conv2D', geometry2d, conv),
  FusedConv2D: convolve('FusedConv2D', geometry2d, conv),
  Conv2DBackpropInput: inputGrad('Conv2DBackpropInput', geometry2d),
  Conv2DBackpropFilter: filterGrad('Conv2DBackpropFilter', geometry2d),
  Conv3D: convolve('Conv3D', geometry3d, conv),
  Conv3DBackpropInputV2: inputGrad('Conv3DBackpropInputV2', geometry3d),
  Conv3DBackpropFilterV2: filterGrad('Conv3DBackpropFilterV2', geometry3d),
  DepthwiseConv2dNative: convolve('DepthwiseConv2dNative', depthwiseGeometry, depthwise),
  FusedDepthwiseConv2D: convolve('FusedDepthwiseConv2D', depthwiseGeometry, depthwise),
  DepthwiseConv2dNativeBackpropInput: depthwiseInputGrad,
  DepthwiseConv2dNativeBackpropFilter: depthwiseFilterGrad,
};
