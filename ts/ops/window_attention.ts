import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireInteger, requireMultiple, requireNumber, requireRank, requireShape, shapeText } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'window_attention';

/** Weight of a key that lies in the padding: so low that its softmax weight is exactly 0 in float32. */
const EXCLUDED = -1e30;
/** Added to the scores of keys in another region of the shifted map (official attn_mask). */
const OTHER_REGION = -100;

export interface WindowAttentionOptions {
  heads: number;
  /** [wh, ww], rows and columns of a window. */
  window: readonly [number, number];
  /** [sh, sw], how far the map is rolled up and left before cutting; below the window, 0 = not at all. */
  shift: readonly [number, number];
  /** Cosine attention (Swin v2); needs a scale tensor. Default false. */
  cosine?: boolean;
}

/** The geometry of one call, all in cells. */
interface Geometry {
  heads: number;
  window: readonly [number, number];
  shift: readonly [number, number];
  cosine: boolean;
}

interface Inputs {
  qkv: tf.Tensor; // [B, H, W, 3C]
  table: tf.Tensor; // [(2wh-1)(2ww-1), heads]
  scale: tf.Tensor | null; // [heads], cosine attention only
}

interface Attrs extends Geometry {
  factor: number; // scale of plain attention, 1 with cosine attention
}

/** Entry of the bias table for query i and key j of a window: (yi-yj+wh-1)(2ww-1) + (xi-xj+ww-1). Row-major [N, N], N = wh ww. */
export function relativePositionIndex([rows, columns]: readonly [number, number]): Int32Array {
  const n = rows * columns;
  const index = new Int32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const dy = Math.floor(i / columns) - Math.floor(j / columns) + rows - 1;
      const dx = (i % columns) - (j % columns) + columns - 1;
      index[i * n + j] = dy * (2 * columns - 1) + dx;
    }
  }
  return index;
}

/** Region of each cell of a padded axis after the roll, and whether the cell is real: what may attend to what. */
function axisCells(size: number, window: number, shift: number): { region: number; real: boolean }[] {
  const padded = Math.ceil(size / window) * window;
  return Array.from({ length: padded }, (_, i) => ({
    region: shift === 0 || i < padded - window ? 0 : i < padded - shift ? 1 : 2,
    real: (i + shift) % padded < size,
  }));
}

/**
 * What is added to the scores of each window: 0, OTHER_REGION, or EXCLUDED for keys in the padding.
 * Row-major [windows, N, N]; null when every entry is 0.
 */
export function windowMask([height, width]: readonly [number, number], window: readonly [number, number], shift: readonly [number, number]): Float32Array | null {
  const rows = axisCells(height, window[0], shift[0]);
  const columns = axisCells(width, window[1], shift[1]);
  if (shift[0] === 0 && shift[1] === 0 && rows.length === height && columns.length === width) return null;
  const n = window[0] * window[1];
  const mask = new Float32Array(rows.length * columns.length * n);
  let at = 0;
  for (let top = 0; top < rows.length; top += window[0]) {
    for (let left = 0; left < columns.length; left += window[1]) {
      const cells = Array.from({ length: n }, (_, i) => {
        const row = rows[top + Math.floor(i / window[1])] as { region: number; real: boolean };
        const column = columns[left + (i % window[1])] as { region: number; real: boolean };
        return { region: row.region * 3 + column.region, real: row.real && column.real };
      });
      for (const query of cells) {
        for (const key of cells) mask[at++] = !key.real ? EXCLUDED : key.region === query.region ? 0 : OTHER_REGION;
      }
    }
  }
  return mask;
}

/** torch.roll by -shift along one axis: cell i of the result is cell (i + shift) mod size of x. */
function roll(x: tf.Tensor, shift: number, axis: number): tf.Tensor {
  const size = x.shape[axis] as number;
  const start = ((shift % size) + size) % size;
  if (start === 0) return x;
  const [first, second] = tf.split(x, [start, size - start], axis) as [tf.Tensor, tf.Tensor];
  return tf.concat([second, first], axis);
}

/** [B, H, W, D] -> [B * windows, N, D], windows row by row, images outermost; pads bottom and right, rolls by the shift. */
function partition(x: tf.Tensor, window: readonly [number, number], shift: readonly [number, number]): tf.Tensor {
  const [batch, height, width, depth] = x.shape as [number, number, number, number];
  const [rows, columns] = [Math.ceil(height / window[0]), Math.ceil(width / window[1])];
  const [below, right] = [rows * window[0] - height, columns * window[1] - width];
  const padded = below + right > 0 ? tf.pad(x, [[0, 0], [0, below], [0, right], [0, 0]]) : x;
  const rolled = roll(roll(padded, shift[0], 1), shift[1], 2);
  const cut = tf.reshape(rolled, [batch, rows, window[0], columns, window[1], depth]);
  return tf.reshape(tf.transpose(cut, [0, 1, 3, 2, 4, 5]), [batch * rows * columns, window[0] * window[1], depth]);
}

/** The inverse of partition; drops the padding. */
function reverse(windows: tf.Tensor, [batch, height, width]: [number, number, number], window: readonly [number, number], shift: readonly [number, number]): tf.Tensor {
  const depth = windows.shape[2] as number;
  const [rows, columns] = [Math.ceil(height / window[0]), Math.ceil(width / window[1])];
  const cut = tf.reshape(windows, [batch, rows, columns, window[0], window[1], depth]);
  const rolled = tf.reshape(tf.transpose(cut, [0, 1, 3, 2, 4, 5]), [batch, rows * window[0], columns * window[1], depth]);
  const padded = roll(roll(rolled, -shift[0], 1), -shift[1], 2);
  return tf.slice(padded, [0, 0, 0, 0], [batch, height, width, depth]);
}

/** x / max(|x|, 1e-12) over the last dimension (torch F.normalize); clamped under the root, so that 0 has a finite gradient. */
function normalize(x: tf.Tensor): tf.Tensor {
  return tf.mul(x, tf.rsqrt(tf.maximum(tf.sum(tf.square(x), -1, true), 1e-24)));
}

const windowAttentionOp = fusedOp<Inputs, Attrs>({
  name: 'WindowAttention',
  composed({ qkv, table, scale }, { heads, window, shift, cosine, factor }) {
    const [batch, height, width, tripled] = qkv.shape as [number, number, number, number];
    const channels = tripled / 3;
    const n = window[0] * window[1];
    const byHead = (x: tf.Tensor): tf.Tensor => tf.transpose(tf.reshape(x, [-1, n, heads, channels / heads]), [0, 2, 1, 3]);
    const [q, k, v] = tf.split(partition(qkv, window, shift), 3, -1).map(byHead) as [tf.Tensor, tf.Tensor, tf.Tensor]; // [B windows, heads, N, d]
    let scores: tf.Tensor = cosine ? tf.matMul(normalize(q), normalize(k), false, true) : tf.matMul(tf.mul(q, factor), k, false, true);
    if (scale) scores = tf.mul(scores, tf.reshape(scale, [heads, 1, 1]));
    const index = tf.tensor1d(relativePositionIndex(window), 'int32');
    const bias = tf.transpose(tf.reshape(tf.gather(table, index), [n, n, heads]), [2, 0, 1]);
    scores = tf.add(scores, bias); // [B windows, heads, N, N]
    const mask = windowMask([height, width], window, shift);
    if (mask) {
      const windows = mask.length / (n * n);
      const cut = tf.reshape(scores, [batch, windows, heads, n, n]);
      scores = tf.reshape(tf.add(cut, tf.tensor(mask, [1, windows, 1, n, n])), scores.shape);
    }
    const mixed = tf.matMul(tf.softmax(scores), v); // [B windows, heads, N, d]
    return reverse(tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, n, channels]), [batch, height, width], window, shift);
  },
  native: {
    kernel(b, { qkv, table, scale }, { heads, window, shift, factor }) {
      const [batch, height, width, tripled] = qkv.shape as [number, number, number, number];
      const y = b.outputLike(qkv, [batch, height, width, tripled / 3]);
      kernels.windowAttention({ qkv: b.ref(qkv), table: b.ref(table), scales: scale && b.ref(scale), y: b.outRef(y), heads, scale: factor, window, shift });
      return [y];
    },
    differentiable: ['qkv', 'table', 'scale'],
    save: ['qkv', 'table', 'scale'],
    gradient(b, dy, { inputs, out }, { heads, window, shift, factor }) {
      const { qkv, table, scale } = inputs as { qkv: tf.Tensor; table: tf.Tensor; scale?: tf.Tensor };
      const [dqkv, dtable] = [b.outputLike(qkv), out('table', table.shape)];
      const dscale = scale && b.output(scale.shape);
      kernels.windowAttentionGrad({
        dy: b.ref(dy),
        qkv: b.ref(qkv),
        table: b.ref(table),
        scales: scale && b.ref(scale),
        dqkv: b.outRef(dqkv),
        dtable: b.outRef(dtable),
        dscales: dscale && b.outRef(dscale),
        heads,
        scale: factor,
        window,
        shift,
      });
      return { qkv: dqkv, table: dtable, scale: dscale };
    },
  },
});

/**
 * Attention inside (shifted) windows with relative position bias: Swin (Liu et al. 2021, section 3.2) and, with
 * `cosine`, Swin v2 (section 3.2), as official SimMIM swin_transformer.py and Swin-Transformer swin_transformer_v2.py.
 *
 * The map is rolled up and left by `shift` and cut into windows; per head
 * softmax(scale q kᵀ + bias + mask) v, or softmax(scale cos(q, k) + bias + mask) v. Cells of different
 * regions of the rolled map get -100 between them. A map that the window does not divide is padded at the
 * bottom and right: padding is never attended to and its results are dropped.
 *
 * qkv [B, H, W, 3C] in the order q | k | v, then head, then d; table [(2wh-1)(2ww-1), heads]; scale a number, or
 * with `cosine` a tensor [heads], already exp(min(logit, ln 100)) -> [B, H, W, C]. Differentiable in qkv, table
 * and a scale tensor. A window may not exceed the map: shrink it and set the shift to 0 first.
 * Throws `invalid_argument` for shapes and options that do not fit.
 */
export function windowAttention(qkv: tf.Tensor, table: tf.Tensor, scale: number | tf.Tensor, options: WindowAttentionOptions): tf.Tensor {
  const { heads, window, shift, cosine = false } = options;
  requireRank(OP, 'qkv', qkv, '[B, H, W, 3C]');
  const [, height, width, tripled] = qkv.shape as [number, number, number, number];
  requireInteger(OP, 'heads', heads, 1);
  requireMultiple(OP, 'last dimension of qkv', tripled, 3 * heads, `it holds q, k and v of ${heads} heads`);
  checkAxis('height', height, window[0], shift[0]);
  checkAxis('width', width, window[1], shift[1]);
  const entries = (2 * window[0] - 1) * (2 * window[1] - 1);
  requireRank(OP, 'table', table, '[T, heads]');
  if (table.shape[0] !== entries) {
    refuse(OP, `table has ${table.shape[0]} rows, expected ${entries} = (2*${window[0]}-1) * (2*${window[1]}-1) for window ${shapeText(window)}`);
  }
  requireShape(OP, 'table', table, [entries, heads], 'one column for each head');
  const geometry = { heads, window: [window[0], window[1]] as const, shift: [shift[0], shift[1]] as const, cosine };
  if (scale instanceof tf.Tensor) {
    if (!cosine) refuse(OP, 'scale is a tensor, expected a number: plain attention has one scale for all heads');
    requireShape(OP, 'scale', scale, [heads], 'one for each head');
    return windowAttentionOp({ qkv, table, scale }, { ...geometry, factor: 1 });
  }
  if (cosine) refuse(OP, 'scale is a number, expected a tensor [heads]: cosine attention learns one for each head');
  requireNumber(OP, 'scale', scale, -Infinity, Infinity);
  return windowAttentionOp({ qkv, table, scale: null }, { ...geometry, factor: scale });
}

function checkAxis(axis: string, size: number, window: number, shift: number): void {
  requireInteger(OP, `window (${axis})`, window, 1);
  requireInteger(OP, `shift (${axis})`, shift, 0);
  if (window > size) refuse(OP, `window is ${window}, expected at most ${size}, the ${axis} of qkv: shrink the window and set the shift to 0`);
  if (shift >= window) refuse(OP, `shift is ${shift}, expected less than the window ${window} (${axis})`);
}
