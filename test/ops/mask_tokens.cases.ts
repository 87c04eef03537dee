import { bits, constant, normal, type OpSpec } from '../helpers/op_cases';

export const maskTokensSpec: OpSpec<object, 'x' | 'token' | 'mask' | 'classToken' | 'positions'> = {
  op: 'mask_tokens',
  differentiable: ['x', 'token', 'classToken', 'positions'],
  run: (ops, { x, ...options }) => ops.maskTokens(x, options),
  bf16: [['x']],
  cases: [
    { name: 'some hidden', inputs: { x: normal([2, 12, 7]), token: normal([7]), mask: bits([2, 12], 0.6) }, args: {} },
    { name: 'all hidden', inputs: { x: normal([1, 5, 8]), token: normal([8]), mask: constant([1, 5], 1) }, args: {} },
    { name: 'none hidden', inputs: { x: normal([1, 5, 8]), token: normal([8]), mask: constant([1, 5], 0) }, args: {} },
    { name: 'a soft mask', inputs: { x: normal([2, 3, 5]), token: normal([5]), mask: constant([2, 3], 0.25) }, args: {} },
    { name: 'size 1', inputs: { x: normal([1, 1, 1]), token: normal([1]), mask: constant([1, 1], 1) }, args: {} },
    { name: 'no samples', inputs: { x: normal([0, 3, 5]), token: normal([5]), mask: constant([0, 3], 1) }, args: {} },
    { name: 'more tokens than a chunk', inputs: { x: normal([3, 200, 4]), token: normal([4]), mask: bits([3, 200], 0.5) }, args: {} },
    { name: 'a class token and positions', inputs: { x: normal([3, 12, 20]), token: normal([20]), mask: bits([3, 12], 0.6), classToken: normal([20]), positions: normal([13, 20]) }, args: {} },
    { name: 'positions without a class token', inputs: { x: normal([2, 70, 9]), token: normal([9]), mask: bits([2, 70], 0.6), positions: normal([70, 9]) }, args: {} },
    { name: 'a class token, nothing hidden', inputs: { x: normal([2, 5, 17]), classToken: normal([17]) }, args: {} },
    { name: 'no samples, a class token and positions', inputs: { x: normal([0, 3, 5]), classToken: normal([5]), positions: normal([4, 5]) }, args: {} },
    { name: 'nothing at all', inputs: { x: normal([2, 3, 5]) }, args: {} },
  ],
  bad: [
    { name: 'mask of another length', call: (ops, tf) => ops.maskTokens(tf.ones([2, 4, 3]), { token: tf.ones([3]), mask: tf.ones([2, 5]) }), message: 'mask has shape [2, 5], expected [2, 4] = [B, L] of x' },
    { name: 'token of another length', call: (ops, tf) => ops.maskTokens(tf.ones([2, 4, 3]), { token: tf.ones([4]), mask: tf.ones([2, 4]) }), message: 'token has shape [4], expected [3] = one for each of the C channels of x' },
    { name: 'an integer mask', call: (ops, tf) => ops.maskTokens(tf.ones([2, 4, 3]), { token: tf.ones([3]), mask: tf.ones([2, 4], 'int32') }), message: 'mask has dtype int32, expected float32' },
    { name: 'a token without a mask', call: (ops, tf) => ops.maskTokens(tf.ones([2, 4, 3]), { token: tf.ones([3]) }), message: 'mask is missing: token and mask come together' },
    { name: 'positions that leave the class token out', call: (ops, tf) => ops.maskTokens(tf.ones([2, 4, 3]), { classToken: tf.ones([3]), positions: tf.ones([4, 3]) }), message: 'positions has shape [4, 3], expected [5, 3] = [1 + L, C] of x and the class token' },
  ],
};
