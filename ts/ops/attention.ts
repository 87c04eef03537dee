import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { requireInteger, requireMultiple, requireNumber, requireRank, requireShape } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'attention';

export interface AttentionOptions {
  heads: number;
  /** Factor of the scores, usually 1 / sqrt(d). */
  scale: number;
}

interface Inputs {
  qkv: tf.Tensor; // [B, L, 3C]
  bias: tf.Tensor | null; // [heads, L, L]
}

const attentionOp = fusedOp<Inputs, AttentionOptions>({
  name: 'Attention',
  composed({ qkv, bias }, { heads, scale }) {
    const [batch, length, tripled] = qkv.shape as [number, number, number];
    const channels = tripled / 3;
    const byHead = (x: tf.Tensor): tf.Tensor => tf.transpose(tf.reshape(x, [batch, length, heads, channels / heads]), [0, 2, 1, 3]);
    const [q, k, v] = tf.split(qkv, 3, -1).map(byHead) as [tf.Tensor, tf.Tensor, tf.Tensor]; // [B, heads, L, d]
    let scores: tf.Tensor = tf.matMul(tf.mul(q, scale), k, false, true); // [B, heads, L, L]
    if (bias) scores = tf.add(scores, bias);
    const mixed = tf.matMul(tf.softmax(scores), v);
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [batch, length, channels]);
  },
  native: {
    kernel(b, { qkv, bias }, { heads, scale }) {
      const [batch, length, tripled] = qkv.shape as [number, number, number];
      const y = b.outputLike(qkv, [batch, length, tripled / 3]);
      kernels.attention({ qkv: b.ref(qkv), bias: bias && b.ref(bias), y: b.outRef(y), heads, scale });
      return [y];
    },
    differentiable: ['qkv', 'bias'],
    save: ['qkv', 'bias'],
    gradient(b, dy, { inputs }, { heads, scale }) {
      const { qkv, bias } = inputs as { qkv: tf.Tensor; bias?: tf.Tensor };
      const dqkv = b.outputLike(qkv);
      const dbias = bias && b.output(bias.shape);
      kernels.attentionGrad({
        dy: b.ref(dy),
        qkv: b.ref(qkv),
        bias: bias && b.ref(bias),
        dqkv: b.outRef(dqkv),
        dbias: dbias && b.outRef(dbias),
        heads,
        scale,
      });
      return { qkv: dqkv, bias: dbias };
    },
  },
});

/**
 * Global multi-head attention softmax(scale q kᵀ + bias) v (Vaswani et al. 2017; official SimMIM
 * vision_transformer.py with its relative position bias).
 *
 * qkv [B, L, 3C] in the order q | k | v, then head, then d; bias [heads, L, L] or null -> [B, L, C].
 * Differentiable in both. Throws `invalid_argument` for shapes that do not fit.
 */
export function attention(qkv: tf.Tensor, bias: tf.Tensor | null, options: AttentionOptions): tf.Tensor {
  const { heads, scale } = options;
  requireRank(OP, 'qkv', qkv, '[B, L, 3C]');
  const [, length, tripled] = qkv.shape as [number, number, number];
  requireInteger(OP, 'heads', heads, 1);
  requireMultiple(OP, 'last dimension of qkv', tripled, 3 * heads, `it holds q, k and v of ${heads} heads`);
  requireNumber(OP, 'scale', scale, -Infinity, Infinity);
  if (bias) requireShape(OP, 'bias', bias, [heads, length, length], '[heads, L, L]');
  return attentionOp({ qkv, bias }, { heads, scale });
}
