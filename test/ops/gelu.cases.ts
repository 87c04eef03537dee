import { constant, normal, uniform, type OpSpec } from '../helpers/op_cases';

export const geluSpec: OpSpec<object, 'x'> = {
  op: 'gelu',
  differentiable: ['x'],
  run: (ops, { x }) => ops.gelu(x),
  cases: [
    { name: 'activations', inputs: { x: normal([3, 5, 37]) }, args: {} },
    { name: 'far out', inputs: { x: uniform([300], -14, 14) }, args: {} },
    { name: 'zeros', inputs: { x: constant([9], 0) }, args: {} },
    { name: 'a scalar', inputs: { x: normal([]) }, args: {} },
    { name: 'nothing', inputs: { x: normal([0, 4]) }, args: {} },
  ],
  bad: [
    { name: 'integers', call: (ops, tf) => ops.gelu(tf.ones([2, 3], 'int32')), message: 'x has dtype int32, expected float32' },
    { name: 'no tensor', call: (ops) => ops.gelu([1] as never), message: 'x is [1], expected a float32 tensor' },
  ],
};
