import { clock, type OpSpec } from '../helpers/op_cases';
import type { RandomMaskOptions } from '../../ts/ops';

const options: RandomMaskOptions = { site: 3, batch: 4, cells: [6, 6], count: 22, repeat: 8 };

export const randomMaskSpec: OpSpec<RandomMaskOptions, 'clock'> = {
  op: 'random_mask',
  differentiable: [],
  run: (ops, { clock: time }, args) => ops.randomMask(time, args),
  cases: [
    { name: 'as the paper', inputs: { clock: clock(0, 0, 0) }, args: options },
    { name: 'another time', inputs: { clock: clock(-7, 123456, 3) }, args: { ...options, site: 4294967295, repeat: 1 } },
    { name: 'nothing hidden', inputs: { clock: clock(1, 2, 0) }, args: { ...options, count: 0, repeat: 2 } },
    { name: 'everything hidden', inputs: { clock: clock(1, 2, 0) }, args: { ...options, count: 36, repeat: 2 } },
    { name: 'rectangular', inputs: { clock: clock(5, 2, 1) }, args: { site: 0, batch: 3, cells: [3, 5], count: 7, repeat: 3 } },
    { name: 'no samples', inputs: { clock: clock(5, 2, 1) }, args: { ...options, batch: 0 } },
  ],
  bad: [
    { name: 'more than there are', call: (ops, tf) => ops.randomMask(tf.zeros([4], 'int32'), { ...options, count: 37 }), message: 'count is 37, expected at most 36, the cells of a 6 x 6 grid' },
    { name: 'a clock of another size', call: (ops, tf) => ops.randomMask(tf.zeros([3], 'int32'), options), message: 'clock has shape [3], expected [4] = seed, step, micro-step, 0' },
    { name: 'repeat 0', call: (ops, tf) => ops.randomMask(tf.zeros([4], 'int32'), { ...options, repeat: 0 }), message: 'repeat is 0, expected an integer of at least 1' },
  ],
};
