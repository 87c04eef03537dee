import { normal, type OpSpec } from '../helpers/op_cases';

export const accumulateSpec: OpSpec<{ offset: number; overwrite?: boolean }, 'flat' | 'gradient'> = {
  op: 'accumulate',
  differentiable: [],
  run(ops, { flat, gradient }, { offset, overwrite }, tf) {
    const buffer = tf.variable(tf.add(flat, 0)); // a copy: the op changes it in place
    ops.accumulate(buffer, gradient, offset, overwrite);
    const sum = tf.add(buffer, 0);
    buffer.dispose();
    return sum;
  },
  cases: [
    { name: 'in the middle, a matrix', inputs: { flat: normal([100]), gradient: normal([6, 7]) }, args: { offset: 13 } },
    { name: 'at the end', inputs: { flat: normal([1031]), gradient: normal([1]) }, args: { offset: 1030 } },
    { name: 'all of it', inputs: { flat: normal([64]), gradient: normal([64]) }, args: { offset: 0 } },
    { name: 'in place of what was there', inputs: { flat: normal([100]), gradient: normal([6, 7]) }, args: { offset: 13, overwrite: true } },
    { name: 'nothing', inputs: { flat: normal([5]), gradient: normal([0]) }, args: { offset: 5 } },
  ],
  bad: [
    {
      name: 'a gradient beyond the end',
      call: (ops, tf) => ops.accumulate(tf.ones([8]) as never, tf.ones([6]), 3),
      message: 'gradient has 6 elements, expected at most 5: flat has 8 and the offset is 3',
    },
    { name: 'a negative offset', call: (ops, tf) => ops.accumulate(tf.ones([8]) as never, tf.ones([6]), -1), message: 'offset is -1, expected an integer of at least 0' },
    { name: 'a buffer that is not flat', call: (ops, tf) => ops.accumulate(tf.ones([2, 4]) as never, tf.ones([2]), 0), message: 'flat has shape [2, 4], expected 1 dimensions [n]' },
  ],
};
