import { normal, uniform, type OpSpec } from '../helpers/op_cases';

export const layerNormSpec: OpSpec<{ eps: number }, 'x' | 'gamma' | 'beta' | 'residual'> = {
  op: 'layer_norm',
  differentiable: ['x', 'gamma', 'beta', 'residual'],
  run: (ops, { x, gamma, beta, residual }, { eps }) => ops.layerNorm(x, gamma, beta, eps, { residual }),
  bf16: [['x', 'residual'], ['x'], ['residual']],
  cases: [
    { name: 'tokens', inputs: { x: normal([2, 9, 24]), gamma: normal([24], 0.3, 1), beta: normal([24]) }, args: { eps: 1e-5 } },
    { name: 'odd width', inputs: { x: normal([5, 37]), gamma: normal([37], 0.3, 1), beta: normal([37]) }, args: { eps: 1e-6 } },
    { name: 'a large mean', inputs: { x: normal([4, 20], 1, 8), gamma: normal([20], 0.3, 1), beta: normal([20]) }, args: { eps: 1e-5 } },
    { name: 'behind a branch: with a residual', inputs: { x: normal([3, 5, 40]), gamma: normal([40], 0.3, 1), beta: normal([40]), residual: normal([3, 5, 40]) }, args: { eps: 1e-5 } },
    { name: 'one row', inputs: { x: normal([16]), gamma: normal([16], 0.3, 1), beta: normal([16]) }, args: { eps: 1e-5 } },
    { name: 'one channel: the variance is 0', inputs: { x: uniform([3, 1], 1, 1), gamma: normal([1]), beta: normal([1]) }, args: { eps: 1e-5 }, terms: 1e3 }, // the gradient of x is rstd (dy - dy) with rstd = 316
    { name: 'no rows', inputs: { x: normal([0, 8]), gamma: normal([8]), beta: normal([8]) }, args: { eps: 1e-5 } },
    { name: 'many rows', inputs: { x: normal([1100, 6]), gamma: normal([6], 0.3, 1), beta: normal([6]) }, args: { eps: 1e-5 } },
  ],
  bad: [
    { name: 'gamma of another length', call: (ops, tf) => ops.layerNorm(tf.ones([2, 4]), tf.ones([3]), tf.ones([4]), 1e-5), message: 'gamma has shape [3], expected [4] = one for each of the C channels of x' },
    { name: 'beta of another length', call: (ops, tf) => ops.layerNorm(tf.ones([2, 4]), tf.ones([4]), tf.ones([1]), 1e-5), message: 'beta has shape [1], expected [4]' },
    { name: 'residual of another shape', call: (ops, tf) => ops.layerNorm(tf.ones([2, 4]), tf.ones([4]), tf.ones([4]), 1e-5, { residual: tf.ones([4]) }), message: 'residual has shape [4], expected [2, 4] = the shape of x' },
    { name: 'no channels', call: (ops, tf) => ops.layerNorm(tf.ones([2, 0]), tf.ones([0]), tf.ones([0]), 1e-5), message: 'x has shape [2,0], expected [..., C] with at least one channel' },
    { name: 'eps 0', call: (ops, tf) => ops.layerNorm(tf.ones([2, 4]), tf.ones([4]), tf.ones([4]), 0), message: 'eps is 0, expected a number at least' },
    { name: 'eps NaN', call: (ops, tf) => ops.layerNorm(tf.ones([2, 4]), tf.ones([4]), tf.ones([4]), NaN), message: 'eps is NaN' },
  ],
};
