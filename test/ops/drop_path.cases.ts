import { clock, normal, type OpSpec } from '../helpers/op_cases';

interface Args {
  rate: number;
  site: number;
  training: boolean;
}

export const dropPathSpec: OpSpec<Args, 'x' | 'residual' | 'clock'> = {
  op: 'drop_path',
  differentiable: ['x', 'residual'],
  run: (ops, { x, residual, clock: time }, args) => ops.dropPath(x, residual, { ...args, clock: time }),
  bf16: [['x', 'residual'], ['x']],
  cases: [
    { name: 'half of the samples', inputs: { x: normal([9, 3, 5]), residual: normal([9, 3, 5]), clock: clock(3, 5, 0) }, args: { rate: 0.5, site: 2, training: true } },
    { name: 'a later micro-step and negative seed', inputs: { x: normal([6, 7]), residual: normal([6, 7]), clock: clock(-3, 70000, 2) }, args: { rate: 0.3, site: 4000000000, training: true } },
    { name: 'one value a sample', inputs: { x: normal([8]), residual: normal([8]), clock: clock(1, 1, 1) }, args: { rate: 0.25, site: 0, training: true } },
    { name: 'not training', inputs: { x: normal([4, 3]), residual: normal([4, 3]), clock: clock(1, 1, 1) }, args: { rate: 0.9, site: 0, training: false } },
    { name: 'no samples', inputs: { x: normal([0, 3]), residual: normal([0, 3]), clock: clock(1, 1, 1) }, args: { rate: 0.5, site: 0, training: true } },
  ],
  bad: [
    { name: 'rate 1', call: (ops, tf) => ops.dropPath(tf.ones([2, 3]), tf.ones([2, 3]), { rate: 1, site: 0, clock: tf.zeros([4], 'int32'), training: true }), message: 'rate is 1, expected less: the kept samples are divided by 1 - rate' },
    { name: 'a rate that is no probability', call: (ops, tf) => ops.dropPath(tf.ones([2, 3]), tf.ones([2, 3]), { rate: -0.1, site: 0, clock: tf.zeros([4], 'int32'), training: true }), message: 'rate is -0.1, expected a number in [0, 1]' },
    { name: 'another shape', call: (ops, tf) => ops.dropPath(tf.ones([2, 3]), tf.ones([3, 2]), { rate: 0.1, site: 0, clock: tf.zeros([4], 'int32'), training: true }), message: 'residual has shape [3, 2], expected [2, 3] = the shape of x' },
    { name: 'a float clock', call: (ops, tf) => ops.dropPath(tf.ones([2, 3]), tf.ones([2, 3]), { rate: 0.1, site: 0, clock: tf.zeros([4]), training: true }), message: 'clock has dtype float32, expected int32' },
    { name: 'a fractional site', call: (ops, tf) => ops.dropPath(tf.ones([2, 3]), tf.ones([2, 3]), { rate: 0.1, site: 0.5, clock: tf.zeros([4], 'int32'), training: true }), message: 'site is 0.5, expected an integer in [0, 4294967295]' },
  ],
};
