import { normal, uniform, type InputSpec, type OpSpec } from '../helpers/op_cases';

interface Args {
  heads: number;
  window: [number, number];
  shift: [number, number];
  /** Scale of plain attention; cosine attention takes the input `scale`. */
  factor?: number;
}

interface Geometry {
  batch?: number;
  map: [number, number];
  dim: number;
  heads: number;
  window: [number, number];
  shift?: [number, number];
}

type Inputs = { qkv: InputSpec; table: InputSpec; scale?: InputSpec };

function shapes({ batch = 2, map, dim, heads, window: [h, w] }: Geometry): Inputs {
  return { qkv: normal([batch, ...map, 3 * dim]), table: normal([(2 * h - 1) * (2 * w - 1), heads]) };
}
const plain = (geometry: Geometry): { inputs: Inputs; args: Args } => {
  const { heads, window, dim, shift = [0, 0] } = geometry;
  return { inputs: shapes(geometry), args: { heads, window, shift, factor: (dim / heads) ** -0.5 } };
};
const cosine = (geometry: Geometry): { inputs: Inputs; args: Args } => {
  const { heads, window, shift = [0, 0] } = geometry;
  return { inputs: { ...shapes(geometry), scale: uniform([heads], 1, 20) }, args: { heads, window, shift } };
};

export const windowAttentionSpec: OpSpec<Args, 'qkv' | 'table' | 'scale'> = {
  op: 'window_attention',
  differentiable: ['qkv', 'table', 'scale'],
  run: (ops, { qkv, table, scale }, { factor, ...options }) => ops.windowAttention(qkv, table, factor ?? scale, { ...options, cosine: factor === undefined }),
  bf16: [['qkv']],
  cases: [
    { name: 'windows side by side', ...plain({ map: [6, 9], dim: 8, heads: 2, window: [3, 3] }) },
    { name: 'shifted', ...plain({ map: [6, 6], dim: 12, heads: 3, window: [3, 3], shift: [1, 1] }) },
    { name: 'shifted, as Swin: half of an even window', ...plain({ map: [8, 8], dim: 8, heads: 1, window: [4, 4], shift: [2, 2] }) },
    { name: 'the window is the map', ...plain({ map: [5, 5], dim: 10, heads: 2, window: [5, 5] }) },
    { name: 'padded', ...plain({ map: [5, 7], dim: 6, heads: 2, window: [3, 3] }) },
    { name: 'padded and shifted', ...plain({ map: [5, 7], dim: 6, heads: 2, window: [3, 3], shift: [1, 1] }) },
    { name: 'padded and shifted, large window', ...plain({ batch: 1, map: [5, 9], dim: 4, heads: 1, window: [4, 4], shift: [2, 2] }) },
    { name: 'rectangular windows and shifts', ...plain({ map: [4, 10], dim: 6, heads: 3, window: [2, 5], shift: [1, 2] }) },
    { name: 'shifted along one side', ...plain({ map: [4, 6], dim: 4, heads: 2, window: [4, 3], shift: [0, 1] }) },
    { name: 'as Swin-T: window 7, head of 32', ...plain({ batch: 1, map: [14, 14], dim: 64, heads: 2, window: [7, 7], shift: [3, 3] }) },
    { name: 'head of an odd size', ...plain({ batch: 1, map: [4, 4], dim: 21, heads: 3, window: [2, 2], shift: [1, 1] }) },
    { name: 'window of one cell', ...plain({ map: [2, 3], dim: 4, heads: 2, window: [1, 1] }) },
    { name: 'size 1 everywhere', ...plain({ batch: 1, map: [1, 1], dim: 1, heads: 1, window: [1, 1] }) },
    { name: 'cosine', ...cosine({ map: [6, 6], dim: 8, heads: 2, window: [3, 3] }) },
    { name: 'cosine, shifted', ...cosine({ map: [8, 8], dim: 12, heads: 3, window: [4, 4], shift: [2, 2] }) },
    { name: 'cosine, padded and shifted', ...cosine({ map: [5, 7], dim: 6, heads: 2, window: [3, 3], shift: [1, 1] }) },
    { name: 'cosine, rectangular', ...cosine({ map: [4, 9], dim: 20, heads: 2, window: [4, 3], shift: [0, 1] }) },
    { name: 'no samples', ...plain({ batch: 0, map: [4, 4], dim: 4, heads: 2, window: [2, 2] }) },
  ],
  bad: [
    {
      name: 'a table of another window',
      call: (ops, tf) => ops.windowAttention(tf.ones([1, 7, 7, 12]), tf.ones([121, 2]), 1, { heads: 2, window: [7, 7], shift: [0, 0] }),
      message: 'table has 121 rows, expected 169 = (2*7-1) * (2*7-1) for window [7, 7]',
    },
    {
      name: 'a table of other heads',
      call: (ops, tf) => ops.windowAttention(tf.ones([1, 2, 2, 12]), tf.ones([9, 4]), 1, { heads: 2, window: [2, 2], shift: [0, 0] }),
      message: 'table has shape [9, 4], expected [9, 2] = one column for each head',
    },
    {
      name: 'heads that do not divide the channels',
      call: (ops, tf) => ops.windowAttention(tf.ones([1, 2, 2, 12]), tf.ones([9, 3]), 1, { heads: 3, window: [2, 2], shift: [0, 0] }),
      message: 'last dimension of qkv is 12, expected a multiple of 9: it holds q, k and v of 3 heads',
    },
    {
      name: 'a window beyond the map',
      call: (ops, tf) => ops.windowAttention(tf.ones([1, 4, 8, 12]), tf.ones([81, 2]), 1, { heads: 2, window: [5, 5], shift: [0, 0] }),
      message: 'window is 5, expected at most 4, the height of qkv: shrink the window and set the shift to 0',
    },
    {
      name: 'a shift of a whole window',
      call: (ops, tf) => ops.windowAttention(tf.ones([1, 4, 4, 12]), tf.ones([9, 2]), 1, { heads: 2, window: [2, 2], shift: [1, 2] }),
      message: 'shift is 2, expected less than the window 2 (width)',
    },
    {
      name: 'cosine with one scale',
      call: (ops, tf) => ops.windowAttention(tf.ones([1, 4, 4, 12]), tf.ones([9, 2]), 1, { heads: 2, window: [2, 2], shift: [0, 0], cosine: true }),
      message: 'scale is a number, expected a tensor [heads]: cosine attention learns one for each head',
    },
    {
      name: 'plain with a scale tensor',
      call: (ops, tf) => ops.windowAttention(tf.ones([1, 4, 4, 12]), tf.ones([9, 2]), tf.ones([2]), { heads: 2, window: [2, 2], shift: [0, 0] }),
      message: 'scale is a tensor, expected a number: plain attention has one scale for all heads',
    },
    {
      name: 'scale NaN',
      call: (ops, tf) => ops.windowAttention(tf.ones([1, 4, 4, 12]), tf.ones([9, 2]), NaN, { heads: 2, window: [2, 2], shift: [0, 0] }),
      message: 'scale is NaN',
    },
  ],
};
