import * as tf from '@tensorflow/tfjs-core';
import { gatherGradient, reductionGradient } from './missing_gradients';

/** dy summed over the dimensions along which an input of `shape` was repeated. */
function summedTo(dy: tf.Tensor, shape: number[]): tf.Tensor {
  const axes = tf.backend_util.getReductionAxes(shape, dy.shape);
  return tf.reshape(axes.length > 0 ? tf.sum(dy, axes) : dy, shape);
}

/** tfjs-core's gradient of two tensors leaves out that one of them was broadcast. */
function broadcast(core: tf.GradConfig): tf.GradConfig {
  return {
    ...core,
    gradFunc: (dy, saved, attrs) => {
      const parts = core.gradFunc(dy, saved, attrs);
      const [a, b] = saved as [tf.Tensor, tf.Tensor];
      return { a: () => summedTo((parts.a as () => tf.Tensor)(), a.shape), b: () => summedTo((parts.b as () => tf.Tensor)(), b.shape) };
    },
  };
}

/** tfjs-core expects several outputs; where there is one, the engine gives a tensor instead of a list. */
function listOfOne(core: tf.GradConfig): tf.GradConfig {
  return { ...core, gradFunc: (dy, saved, attrs) => core.gradFunc(Array.isArray(dy) ? dy : [dy], saved, attrs) };
}

/** tfjs-core transposes the result once more than the op does, which is wrong for every axis but the last. */
function cumsum(core: tf.GradConfig): tf.GradConfig {
  return {
    ...core,
    gradFunc: (dy, _saved, attrs) => {
      const { axis, exclusive, reverse } = attrs as unknown as { axis: number; exclusive: boolean; reverse: boolean };
      return { x: () => tf.cumsum(dy as tf.Tensor, axis, exclusive, !reverse) };
    },
  };
}

/** Gradients of tfjs-core 4.22 that fail or are wrong for some arguments, or cannot be recorded, by kernel, with what mends them. */
export const MENDED_GRADIENTS: Record<string, (core: tf.GradConfig) => tf.GradConfig> = {
  Maximum: broadcast,
  Minimum: broadcast,
  SquaredDifference: broadcast,
  BatchMatMul: broadcast,
  Unpack: listOfOne,
  SplitV: listOfOne,
  Cumsum: cumsum,
  GatherV2: gatherGradient,
  Mean: reductionGradient,
  Sum: reductionGradient,
};
