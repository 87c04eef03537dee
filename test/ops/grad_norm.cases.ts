import { constant, normal, type OpSpec } from '../helpers/op_cases';

export const gradNormSpec: OpSpec<object, 'flat'> = {
  op: 'grad_norm',
  differentiable: [],
  run: (ops, { flat }) => ops.gradNorm(flat),
  cases: [
    { name: 'many', inputs: { flat: normal([1037], 0.1) }, args: {} },
    { name: 'one', inputs: { flat: normal([1]) }, args: {} },
    { name: 'none', inputs: { flat: normal([0]) }, args: {} },
    { name: 'zeros', inputs: { flat: constant([9], 0) }, args: {} },
  ],
  bad: [{ name: 'a matrix', call: (ops, tf) => ops.gradNorm(tf.ones([2, 2])), message: 'flat has shape [2, 2], expected 1 dimensions [n]' }],
};

export const gradClipSpec: OpSpec<{ clip: number }, 'flat'> = {
  op: 'grad_clip',
  differentiable: [],
  run(ops, { flat }, { clip }, tf) {
    const clipped = tf.variable(tf.add(flat, 0)); // a copy: the op changes it in place
    ops.gradClip(clipped, ops.gradNorm(clipped), clip);
    const after = tf.add(clipped, 0);
    clipped.dispose();
    return after;
  },
  cases: [
    { name: 'above the limit', inputs: { flat: normal([1037]) }, args: { clip: 5 } },
    { name: 'below the limit', inputs: { flat: normal([33], 0.1) }, args: { clip: 5 } },
    { name: 'one', inputs: { flat: normal([1]) }, args: { clip: 0.1 } },
    { name: 'none', inputs: { flat: normal([0]) }, args: { clip: 1 } },
  ],
  bad: [
    { name: 'a matrix', call: (ops, tf) => ops.gradClip(tf.ones([2, 2]) as never, tf.scalar(1), 1), message: 'flat has shape [2, 2], expected 1 dimensions [n]' },
    { name: 'a norm that is no scalar', call: (ops, tf) => ops.gradClip(tf.ones([2]) as never, tf.ones([1]), 1), message: 'norm has shape [1], expected [] = a scalar' },
    { name: 'no limit', call: (ops, tf) => ops.gradClip(tf.ones([2]) as never, tf.scalar(1), 0), message: 'clip is 0' },
  ],
};
