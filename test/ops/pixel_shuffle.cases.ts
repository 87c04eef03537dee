import { normal, type OpSpec } from '../helpers/op_cases';

export const pixelShuffleSpec: OpSpec<{ r: number }, 'pred'> = {
  op: 'pixel_shuffle',
  differentiable: ['pred'],
  run: (ops, { pred }, { r }) => ops.pixelShuffle(pred, r),
  bf16: [['pred']],
  cases: [
    { name: 'three planes', inputs: { pred: normal([2, 3, 2, 48]) }, args: { r: 4 } },
    { name: 'odd', inputs: { pred: normal([1, 2, 5, 18]) }, args: { r: 3 } },
    { name: 'r 1 only transposes', inputs: { pred: normal([2, 3, 4, 5]) }, args: { r: 1 } },
    { name: 'size 1', inputs: { pred: normal([1, 1, 1, 1]) }, args: { r: 1 } },
    { name: 'no samples', inputs: { pred: normal([0, 2, 2, 4]) }, args: { r: 2 } },
  ],
  bad: [
    { name: 'features that r does not divide', call: (ops, tf) => ops.pixelShuffle(tf.ones([1, 2, 2, 6]), 2), message: 'feature count of pred is 6, expected a multiple of 4: each cell becomes 2 x 2 pixels' },
    { name: 'r 0', call: (ops, tf) => ops.pixelShuffle(tf.ones([1, 2, 2, 6]), 0), message: 'r is 0, expected an integer of at least 1' },
  ],
};
