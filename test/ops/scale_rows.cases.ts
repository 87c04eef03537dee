import { constant, normal, type OpSpec } from '../helpers/op_cases';

export const scaleRowsSpec: OpSpec<object, 'weight' | 'factors'> = {
  op: 'scale_rows',
  differentiable: ['weight', 'factors'],
  run: (ops, { weight, factors }) => ops.scaleRows(weight, factors),
  cases: [
    { name: 'LayerScale of a small layer', inputs: { weight: normal([12, 40], 0.02), factors: constant([12], 0.1) }, args: {} },
    { name: 'one column', inputs: { weight: normal([7, 1]), factors: normal([7]) }, args: {} },
    { name: 'one row', inputs: { weight: normal([1, 33]), factors: normal([1]) }, args: {} },
    { name: 'larger than a tile', inputs: { weight: normal([130, 70]), factors: normal([130]) }, args: {} },
  ],
  bad: [
    { name: 'factors of another length', call: (ops, tf) => ops.scaleRows(tf.ones([4, 3]), tf.ones([3])), message: 'factors has shape [3], expected [4] = one for each of the O rows of weight' },
    { name: 'a vector', call: (ops, tf) => ops.scaleRows(tf.ones([4]), tf.ones([4])), message: 'weight has shape [4], expected 2 dimensions [O, I]' },
  ],
};
