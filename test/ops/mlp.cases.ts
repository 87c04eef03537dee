import { bits, constant, normal, type OpSpec } from '../helpers/op_cases';

/** Inputs of an mlp over rows of `leading` shape: I inputs, H hidden, O outputs. */
const inputs = (leading: number[], i: number, h: number, o: number, scale = 0.4) => ({
  x: normal([...leading, i]),
  w1: normal([h, i], scale),
  b1: normal([h]),
  w2: normal([o, h], scale),
  b2: normal([o]),
});

export const mlpSpec: OpSpec<object, 'x' | 'w1' | 'b1' | 'w2' | 'b2' | 'residual' | 'rows' | 'fill'> = {
  op: 'mlp',
  differentiable: ['x', 'w1', 'b1', 'w2', 'b2', 'residual', 'fill'],
  run: (ops, { x, w1, b1, w2, b2, residual, rows, fill }) => ops.mlp(x, w1, b1, w2, b2, { residual, rows, fill }),
  bf16: [['x', 'w1', 'w2', 'residual'], ['x', 'w1', 'w2']],
  cases: [
    { name: 'with a residual', inputs: { ...inputs([2, 3, 5], 8, 32, 8), residual: normal([2, 3, 5, 8]) }, args: {} },
    { name: 'without a residual', inputs: inputs([3, 7], 6, 13, 5), args: {} },
    { name: 'one vector', inputs: { ...inputs([], 9, 4, 3), residual: normal([3]) }, args: {} },
    { name: 'size 1 everywhere', inputs: { ...inputs([1], 1, 1, 1), residual: normal([1, 1]) }, args: {} },
    { name: 'no rows', inputs: { ...inputs([0], 4, 6, 3), residual: normal([0, 3]) }, args: {} },
    { name: 'larger than a tile', inputs: inputs([130], 35, 67, 33, 0.1), args: {} },
    { name: 'some rows', inputs: { ...inputs([3, 7], 6, 13, 5), rows: bits([3, 7], 0.6) }, args: {} },
    { name: 'some rows with a residual', inputs: { ...inputs([2, 3, 5], 8, 32, 8), residual: normal([2, 3, 5, 8]), rows: bits([2, 3, 5], 0.6) }, args: {} },
    { name: 'some rows with a residual and factors, the others filled', inputs: { ...inputs([2, 3, 5], 8, 32, 8), residual: normal([2, 3, 5, 8]), rows: bits([2, 3, 5], 0.6, 1.25), fill: normal([8]) }, args: {} },
    { name: 'some rows with factors, the others filled', inputs: { ...inputs([37], 8, 32, 5), rows: bits([37], 0.6, 0.5), fill: normal([5]) }, args: {} },
    { name: 'none of the rows', inputs: { ...inputs([4], 3, 5, 2), residual: normal([4, 2]), rows: constant([4], 0) }, args: {} },
    { name: 'some rows of several blocks, less than one block', inputs: { ...inputs([2, 1025], 3, 5, 2), residual: normal([2, 1025, 2]), rows: bits([2, 1025], 0.9) }, args: {} },
    { name: 'several blocks of rows', inputs: { ...inputs([2, 2100], 3, 5, 2), residual: normal([2, 2100, 2]) }, args: {} },
  ],
  bad: [
    { name: 'inner sizes differ', call: (ops, tf) => ops.mlp(tf.ones([2, 3]), tf.ones([4, 5]), tf.ones([4]), tf.ones([3, 4]), tf.ones([3])), message: 'w1 has shape [4, 5], expected [H, 3]: x has 3 features' },
    { name: 'hidden sizes differ', call: (ops, tf) => ops.mlp(tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([4]), tf.ones([3, 5]), tf.ones([3])), message: 'w2 has shape [3, 5], expected [O, 4]: w1 has 4 rows' },
    { name: 'first bias of another length', call: (ops, tf) => ops.mlp(tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([3]), tf.ones([3, 4]), tf.ones([3])), message: 'b1 has shape [3], expected [4] = one for each of the H rows of w1' },
    { name: 'second bias of another length', call: (ops, tf) => ops.mlp(tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([4]), tf.ones([3, 4]), tf.ones([4])), message: 'b2 has shape [4], expected [3] = one for each of the O rows of w2' },
    { name: 'residual of another shape', call: (ops, tf) => ops.mlp(tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([4]), tf.ones([5, 4]), tf.ones([5]), { residual: tf.ones([2, 3]) }), message: 'residual has shape [2, 3], expected [2, 5] = the shape of the result [..., O]' },
    { name: 'rows of another shape', call: (ops, tf) => ops.mlp(tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([4]), tf.ones([5, 4]), tf.ones([5]), { rows: tf.ones([2, 1]) }), message: 'rows has shape [2, 1], expected [2] = the leading dimensions of x' },
    { name: 'fill without rows', call: (ops, tf) => ops.mlp(tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([4]), tf.ones([5, 4]), tf.ones([5]), { fill: tf.ones([5]) }), message: 'fill is given without rows' },
    { name: 'fill of another length', call: (ops, tf) => ops.mlp(tf.ones([2, 3]), tf.ones([4, 3]), tf.ones([4]), tf.ones([5, 4]), tf.ones([5]), { rows: tf.ones([2]), fill: tf.ones([4]) }), message: 'fill has shape [4], expected [5] = one for each of the O rows of w2' },
    { name: 'a scalar', call: (ops, tf) => ops.mlp(tf.scalar(1), tf.ones([4, 3]), tf.ones([4]), tf.ones([3, 4]), tf.ones([3])), message: 'x is a scalar, expected at least one dimension [..., I]' },
    { name: 'integers', call: (ops, tf) => ops.mlp(tf.ones([2, 3], 'int32'), tf.ones([4, 3]), tf.ones([4]), tf.ones([3, 4]), tf.ones([3])), message: 'x has dtype int32, expected float32' },
  ],
};
