import { bits, constant, normal, type OpSpec } from '../helpers/op_cases';
import type { MaskedLossOptions } from '../../ts/ops';

const pair = (planes: number, r: number, cells: [number, number], batch = 2) => ({
  pred: normal([batch, ...cells, planes * r * r]),
  target: normal([batch, planes, cells[0] * r, cells[1] * r]),
});

export const maskedLossSpec: OpSpec<MaskedLossOptions, 'pred' | 'target' | 'mask'> = {
  op: 'masked_loss',
  differentiable: ['pred'],
  run: (ops, { pred, target, mask }, options) => ops.maskedLoss(pred, target, mask, options),
  bf16: [['pred']],
  cases: [
    { name: 'l1', inputs: { ...pair(3, 4, [2, 3]), mask: bits([2, 4, 6], 0.5) }, args: { kind: 'l1' } },
    { name: 'l2', inputs: { ...pair(3, 4, [2, 3]), mask: bits([2, 2, 3], 0.5) }, args: { kind: 'l2' } },
    { name: 'smooth l1 with beta 0.5', inputs: { ...pair(2, 3, [3, 2]), mask: bits([2, 9, 6], 0.5) }, args: { kind: 'smooth_l1', beta: 0.5 } },
    { name: 'mask cells larger than prediction cells', inputs: { ...pair(1, 2, [4, 4]), mask: bits([2, 2, 2], 0.5) }, args: { kind: 'l1' } },
    { name: 'nothing hidden: 0', inputs: { ...pair(3, 2, [2, 2]), mask: constant([2, 2, 2], 0) }, args: { kind: 'l1' } },
    { name: 'equal images: the derivative of l1 at 0 is 0', inputs: { pred: constant([1, 2, 2, 12], 0.5), target: constant([1, 3, 4, 4], 0.5), mask: constant([1, 2, 2], 1) }, args: { kind: 'l1' }, smooth: false },
    { name: 'one pixel', inputs: { pred: normal([1, 1, 1, 1]), target: normal([1, 1, 1, 1]), mask: constant([1, 1, 1], 1) }, args: { kind: 'l2' } },
  ],
  bad: [
    { name: 'unknown kind', call: (ops, tf) => ops.maskedLoss(tf.ones([1, 2, 2, 3]), tf.ones([1, 3, 2, 2]), tf.ones([1, 2, 2]), { kind: 'huber' as never }), message: "kind is 'huber', expected one of l1, l2, smooth_l1" },
    { name: 'beta 0', call: (ops, tf) => ops.maskedLoss(tf.ones([1, 2, 2, 3]), tf.ones([1, 3, 2, 2]), tf.ones([1, 2, 2]), { kind: 'smooth_l1', beta: 0 }), message: 'beta is 0, expected a number at least' },
    { name: 'features that do not make the pixels', call: (ops, tf) => ops.maskedLoss(tf.ones([1, 2, 2, 11]), tf.ones([1, 3, 4, 4]), tf.ones([1, 2, 2]), { kind: 'l1' }), message: 'pred has 11 features, expected 12 = I * r² with I = 3 and r = 2' },
    { name: 'a mask that does not cover the image in squares', call: (ops, tf) => ops.maskedLoss(tf.ones([1, 2, 2, 12]), tf.ones([1, 3, 4, 4]), tf.ones([1, 2, 4]), { kind: 'l1' }), message: 'mask has a 2 x 4 map, expected one whose cells are equal squares of the 4 x 4 target' },
    { name: 'another batch', call: (ops, tf) => ops.maskedLoss(tf.ones([2, 2, 2, 12]), tf.ones([1, 3, 4, 4]), tf.ones([1, 2, 2]), { kind: 'l1' }), message: 'pred has 2 samples, expected 1 as target' },
  ],
};
