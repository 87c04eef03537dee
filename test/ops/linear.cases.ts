import { normal, type OpSpec } from '../helpers/op_cases';

export const linearSpec: OpSpec<{ activation: 'none' | 'gelu' }, 'x' | 'weight' | 'bias' | 'residual'> = {
  op: 'linear',
  differentiable: ['x', 'weight', 'bias', 'residual'],
  run: (ops, { x, weight, bias, residual }, { activation }) => ops.linear(x, weight, bias ?? null, { activation, residual }),
  bf16: [['x', 'weight', 'residual'], ['x', 'weight']],
  cases: [
    { name: 'bias and GELU', inputs: { x: normal([3, 5, 8]), weight: normal([12, 8], 0.5), bias: normal([12]) }, args: { activation: 'gelu' } },
    { name: 'bias and residual', inputs: { x: normal([2, 7, 6]), weight: normal([5, 6], 0.5), bias: normal([5]), residual: normal([2, 7, 5]) }, args: { activation: 'none' } },
    { name: 'everything', inputs: { x: normal([2, 3, 4, 5]), weight: normal([3, 5]), bias: normal([3]), residual: normal([2, 3, 4, 3]) }, args: { activation: 'gelu' } },
    { name: 'weight alone', inputs: { x: normal([17, 31]), weight: normal([33, 31], 0.2) }, args: { activation: 'none' } },
    { name: 'one vector', inputs: { x: normal([9]), weight: normal([4, 9]), bias: normal([4]) }, args: { activation: 'none' } },
    { name: 'size 1 everywhere', inputs: { x: normal([1, 1]), weight: normal([1, 1]), bias: normal([1]) }, args: { activation: 'gelu' } },
    { name: 'no rows', inputs: { x: normal([0, 4]), weight: normal([3, 4]), bias: normal([3]) }, args: { activation: 'gelu' } },
    { name: 'larger than a tile', inputs: { x: normal([130, 70]), weight: normal([67, 70], 0.1), bias: normal([67]) }, args: { activation: 'gelu' } },
  ],
  bad: [
    { name: 'inner sizes differ', call: (ops, tf) => ops.linear(tf.ones([2, 3]), tf.ones([4, 5]), null), message: 'weight has shape [4, 5], expected [O, 3]: x has 3 features' },
    { name: 'bias of another length', call: (ops, tf) => ops.linear(tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([3])), message: 'bias has shape [3], expected [4] = one for each of the O rows of weight' },
    { name: 'residual of another shape', call: (ops, tf) => ops.linear(tf.ones([2, 3]), tf.ones([4, 3]), null, { residual: tf.ones([2, 3]) }), message: 'residual has shape [2, 3], expected [2, 4] = the shape of the result [..., O]' },
    { name: 'integers', call: (ops, tf) => ops.linear(tf.ones([2, 3], 'int32'), tf.ones([4, 3]), null), message: 'x has dtype int32, expected float32' },
    { name: 'a scalar', call: (ops, tf) => ops.linear(tf.scalar(1), tf.ones([4, 3]), null), message: 'x is a scalar, expected at least one dimension [..., I]' },
    { name: 'no tensor', call: (ops, tf) => ops.linear([1] as never, tf.ones([4, 3]), null), message: 'x is [1], expected a float32 tensor' },
    { name: 'unknown activation', call: (ops, tf) => ops.linear(tf.ones([2, 3]), tf.ones([4, 3]), null, { activation: 'relu' as never }), message: "activation is 'relu', expected 'none' or 'gelu'" },
  ],
};
