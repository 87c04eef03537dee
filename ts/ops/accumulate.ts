import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireInteger, requireRank, requireTensor } from './arguments';
import { inPlaceOp } from './fused_op';

const OP = 'accumulate';

interface Inputs {
  flat: tf.Variable; // [n]
  gradient: tf.Tensor; // any shape
}

const accumulateOp = inPlaceOp<Inputs, { offset: number }>({
  name: 'Accumulate',
  composed({ flat, gradient }, { offset }) {
    const end = offset + gradient.size;
    const sum = tf.add(tf.slice(flat, [offset], [gradient.size]), tf.reshape(gradient, [gradient.size]));
    flat.assign(tf.concat([tf.slice(flat, [0], [offset]), sum, tf.slice(flat, [end], [flat.size - end])]));
  },
  native: {
    kernel(b, { flat, gradient }, { offset }) {
      kernels.accumulate({ flat: b.refInPlace(flat), gradient: b.ref(gradient), offset, overwrite: false });
    },
  },
});

/**
 * Adds a gradient to its place in the flat gradient buffer: flat[offset + i] += gradient[i].
 *
 * flat a variable [n], gradient of any shape, read row-major; `offset` in elements. In place on our backends,
 * where a clone or view of the buffer sees the change; elsewhere a copy of the whole buffer. Throws `invalid_argument` when the gradient does not fit at the offset.
 */
export function accumulate(flat: tf.Variable, gradient: tf.Tensor, offset: number): void {
  requireRank(OP, 'flat', flat, '[n]');
  requireTensor(OP, 'gradient', gradient);
  requireInteger(OP, 'offset', offset, 0);
  if (offset + gradient.size > flat.size) {
    refuse(OP, `gradient has ${gradient.size} elements, expected at most ${Math.max(0, flat.size - offset)}: flat has ${flat.size} and the offset is ${offset}`);
  }
  if (gradient.size > 0) accumulateOp({ flat, gradient }, { offset });
}
