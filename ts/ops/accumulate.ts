import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireInteger, requireRank, requireTensor } from './arguments';
import { inPlaceOp } from './fused_op';

const OP = 'accumulate';

interface Inputs {
  flat: tf.Variable; // [n]
  gradient: tf.Tensor; // any shape
}

const accumulateOp = inPlaceOp<Inputs, { offset: number; overwrite: boolean }>({
  name: 'Accumulate',
  composed({ flat, gradient }, { offset, overwrite }) {
    const end = offset + gradient.size;
    const values = tf.reshape(gradient, [gradient.size]);
    const part = overwrite ? values : tf.add(tf.slice(flat, [offset], [gradient.size]), values);
    flat.assign(tf.concat([tf.slice(flat, [0], [offset]), part, tf.slice(flat, [end], [flat.size - end])]));
  },
  native: {
    kernel(b, { flat, gradient }, { offset, overwrite }) {
      kernels.accumulate({ flat: b.refInPlace(flat), gradient: b.ref(gradient), offset, overwrite });
    },
  },
});

/**
 * Adds a gradient to its place in the flat gradient buffer: flat[offset + i] += gradient[i], or = with `overwrite`.
 *
 * flat a variable [n], gradient of any shape, read row-major; `offset` in elements. In place on our backends,
 * where a clone or view of the buffer sees the change; elsewhere a copy of the whole buffer. Throws `invalid_argument` when the gradient does not fit at the offset.
 */
export function accumulate(flat: tf.Variable, gradient: tf.Tensor, offset: number, overwrite = false): void {
  requireRank(OP, 'flat', flat, '[n]');
  requireTensor(OP, 'gradient', gradient);
  requireInteger(OP, 'offset', offset, 0);
  if (offset + gradient.size > flat.size) {
    refuse(OP, `gradient has ${gradient.size} elements, expected at most ${Math.max(0, flat.size - offset)}: flat has ${flat.size} and the offset is ${offset}`);
  }
  if (gradient.size > 0) accumulateOp({ flat, gradient }, { offset, overwrite });
}

const clearOp = inPlaceOp<{ flat: tf.Variable }, object>({
  name: 'Clear',
  composed({ flat }) {
    flat.assign(tf.fill(flat.shape, 0));
  },
  native: {
    kernel(b, { flat }) {
      kernels.fill({ y: b.refInPlace(flat), value: 0 });
    },
  },
});

/** Sets every element of a float32 variable to 0; in place on our backends. */
export function clear(flat: tf.Variable): void {
  requireTensor('clear', 'flat', flat);
  if (flat.size > 0) clearOp({ flat }, {});
}
