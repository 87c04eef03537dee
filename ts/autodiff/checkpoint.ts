import * as tf from '@tensorflow/tfjs-core';
import { gradientPlaces, pullBack } from './backward';

/**
 * Activation checkpointing (Chen et al. 2016): a version of `block` that saves only its inputs and runs again
 * during backward.
 *
 * `block` maps tensors to one tensor; `variables` are the variables it uses, all that need a gradient. Every
 * other tensor it captures counts as a constant, so pass what depends on a variable (e.g. a shared position
 * bias) as an argument. A variable in the list that the block does not use gets a zero gradient. Random ops of
 * ts/ops are functions of their clock: recomputed with the same clock they give the same bits, so the clock may
 * not change between forward and backward. Works under `backward` and tf.variableGrads; blocks may nest.
 */
export function checkpoint(block: (...inputs: tf.Tensor[]) => tf.Tensor, variables: readonly tf.Variable[]): (...inputs: tf.Tensor[]) => tf.Tensor {
  return (...inputs) => {
    if (!tf.engine().isTapeOn()) return tf.tidy('checkpoint', () => block(...inputs));
    const op = tf.customGrad((...args: unknown[]) => {
      const save = args[args.length - 1] as tf.GradSaveFunc;
      save(inputs);
      const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]): tf.Tensor[] => recompute(block, saved, variables, dy);
      const value = block(...inputs);
      return { value: inputs.includes(value) ? tf.clone(value) : value, gradFunc };
    });
    return op(...inputs, ...variables);
  };
}

/** Runs the block again, recorded, and pulls dy back to its inputs and variables. */
function recompute(block: (...inputs: tf.Tensor[]) => tf.Tensor, inputs: tf.Tensor[], variables: readonly tf.Variable[], dy: tf.Tensor): tf.Tensor[] {
  const xs: tf.Tensor[] = [...inputs, ...variables];
  const gradients: (tf.Tensor | undefined)[] = xs.map(() => undefined);
  const placeOf = gradientPlaces();
  const placed = new Map<number, tf.TensorInfo>();
  const y = pullBack(() => block(...inputs), xs, dy, {
    onGrad: (index, gradient) => {
      gradients[index] = gradient ? tf.clone(gradient) : viewOf(placed.get(index) as tf.TensorInfo);
    },
    place: (index) => {
      const place = placeOf(xs[index] as tf.Tensor);
      if (place) placed.set(index, place);
      return place;
    },
  });
  y.dispose();
  return xs.map((x, index) => gradients[index] ?? tf.fill(x.shape, 0));
}

/** Another tensor over the same values. */
function viewOf(info: tf.TensorInfo): tf.Tensor {
  tf.backend().incRef(info.dataId);
  return tf.engine().makeTensorFromTensorInfo(info);
}
