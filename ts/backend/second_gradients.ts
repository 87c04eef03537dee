import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';

/**
 * Gradients of tfjs's gradient kernels, for tf.grad inside tf.grad (gradient penalties): each is linear in dy, so its
 * gradient there is the operation that it transposes, run with the attributes that it has itself. `d` is the gradient of
 * the kernel's result. (What tfjs's own gradients take from saved outputs, those of exp or sigmoid, its engine still leaves
 * out of a second gradient.)
 */

const run = (kernel: string, inputs: Record<string, tf.Tensor>, attrs: tf.NamedAttrMap): tf.Tensor => tf.engine().runKernel(kernel, inputs, attrs);

interface Convolution {
  forward: string;
  inputGrad: string;
  filterGrad: string;
}

/** <d, filterGrad(x, dy)> = <conv(x, d), dy> = <x, inputGrad(dy, d)>. */
function ofFilterGrad({ forward, inputGrad, filterGrad }: Convolution): tf.GradConfig {
  return {
    kernelName: filterGrad,
    inputsToSave: ['x', 'dy'],
    gradFunc: (d, saved, attrs) => {
      const [x, dy] = saved as [tf.Tensor, tf.Tensor];
      return { x: () => run(inputGrad, { dy, filter: d as tf.Tensor }, { ...attrs, inputShape: x.shape }), dy: () => run(forward, { x, filter: d as tf.Tensor }, attrs) };
    },
  };
}

/** <d, inputGrad(dy, filter)> = <conv(d, filter), dy> = <filter, filterGrad(d, dy)>. */
function ofInputGrad({ forward, inputGrad, filterGrad }: Convolution): tf.GradConfig {
  return {
    kernelName: inputGrad,
    inputsToSave: ['dy', 'filter'],
    gradFunc: (d, saved, attrs) => {
      const [dy, filter] = saved as [tf.Tensor, tf.Tensor];
      return { dy: () => run(forward, { x: d as tf.Tensor, filter }, attrs), filter: () => run(filterGrad, { x: d as tf.Tensor, dy }, { ...attrs, filterShape: filter.shape }) };
    },
  };
}

const IN_2D: Convolution = { forward: 'Conv2D', inputGrad: 'Conv2DBackpropInput', filterGrad: 'Conv2DBackpropFilter' };
const IN_3D: Convolution = { forward: 'Conv3D', inputGrad: 'Conv3DBackpropInputV2', filterGrad: 'Conv3DBackpropFilterV2' };
const BY_CHANNEL: Convolution = { forward: 'DepthwiseConv2dNative', inputGrad: 'DepthwiseConv2dNativeBackpropInput', filterGrad: 'DepthwiseConv2dNativeBackpropFilter' };

/** The values of d where each window has its largest value; a tie goes to the first, as in the kernel. */
function atMaxima(d: tf.Tensor, x: tf.Tensor, attrs: tf.NamedAttrMap): tf.Tensor {
  const [, indices] = tf.engine().runKernel('MaxPoolWithArgmax', { x }, { ...attrs, includeBatchInIndex: true }) as tf.Tensor[];
  return tf.reshape(tf.gather(tf.reshape(d, [-1]), tf.reshape(indices as tf.Tensor, [-1]) as tf.Tensor1D), (indices as tf.Tensor).shape);
}

/** The gradient of an average counts the whole window, so d is averaged with zeros around it. */
function averaged(d: tf.Tensor, dy: tf.Tensor, attrs: tf.NamedAttrMap): tf.Tensor {
  const { filterSize, strides, pad, dimRoundingMode } = attrs as { filterSize: [number, number]; strides: [number, number]; pad: 'same'; dimRoundingMode: 'floor' | undefined };
  const { padInfo } = tf.backend_util.computePool2DInfo(d.shape as [number, number, number, number], filterSize, strides, 1, pad, dimRoundingMode);
  const around = tf.pad(d, [[0, 0], [padInfo.top, padInfo.bottom], [padInfo.left, padInfo.right], [0, 0]]);
  const y = run('AvgPool', { x: around }, { filterSize, strides, pad: 'valid' });
  if (!tf.util.arraysEqual(y.shape, dy.shape)) throw new SimmimError('unsupported', 'AvgPoolGrad', `has no gradient for dy of shape [${dy.shape}] with pad ${JSON.stringify(pad)} rounded by ${dimRoundingMode}`);
  return y;
}

const zeros = (x: tf.Tensor) => (): tf.Tensor => tf.zerosLike(x);

/** The transpose of resizing is linear: its own transpose is resizing. */
function ofResizeGrad(forward: string): tf.GradConfig {
  return {
    kernelName: `${forward}Grad`,
    inputsToSave: ['dy', 'images'],
    gradFunc: (d, saved, attrs) => {
      const [dy, images] = saved as [tf.Tensor, tf.Tensor];
      return { dy: () => run(forward, { images: d as tf.Tensor }, { ...attrs, size: dy.shape.slice(1, 3) }), images: zeros(images) };
    },
  };
}

export const SECOND_GRADIENTS: tf.GradConfig[] = [
  ofFilterGrad(IN_2D),
  ofFilterGrad(IN_3D),
  ofFilterGrad(BY_CHANNEL),
  ofInputGrad(IN_3D),
  ofInputGrad(BY_CHANNEL),
  ofResizeGrad('ResizeBilinear'),
  ofResizeGrad('ResizeNearestNeighbor'),
  {
    kernelName: 'MaxPoolGrad',
    inputsToSave: ['input', 'output'],
    gradFunc: (d, saved, attrs) => {
      const [input, output] = saved as [tf.Tensor, tf.Tensor];
      return { dy: () => atMaxima(d as tf.Tensor, input, attrs), input: zeros(input), output: zeros(output) };
    },
  },
  {
    kernelName: 'AvgPoolGrad',
    inputsToSave: ['dy', 'input'],
    gradFunc: (d, saved, attrs) => {
      const [dy, input] = saved as [tf.Tensor, tf.Tensor];
      return { dy: () => averaged(d as tf.Tensor, dy, attrs), input: zeros(input) };
    },
  },
  {
    kernelName: 'EluGrad',
    inputsToSave: ['dy', 'y'],
    gradFunc: (d, saved) => {
      const [dy, y] = saved as [tf.Tensor, tf.Tensor];
      return { dy: () => run('EluGrad', { dy: d as tf.Tensor, y }, {}), y: () => tf.mul(tf.mul(d as tf.Tensor, dy), tf.cast(tf.less(y, 0), 'float32')) };
    },
  },
];
