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
