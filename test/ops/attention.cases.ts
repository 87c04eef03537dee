import { normal, type InputSpec, type OpSpec } from '../helpers/op_cases';

interface Args {
  heads: number;
  scale: number;
}

function tokens(batch: number, length: number, dim: number, heads: number, biased: boolean): { inputs: { qkv: InputSpec; bias?: InputSpec }; args: Args } {
  const qkv = normal([batch, length, 3 * dim]);
  return { inputs: biased ? { qkv, bias: normal([heads, length, length]) } : { qkv }, args: { heads, scale: (dim / heads) ** -0.5 } };
}

export const attentionSpec: OpSpec<Args, 'qkv' | 'bias'> = {
  op: 'attention',
  differentiable: ['qkv', 'bias'],
  run: (ops, { qkv, bias }, args) => ops.attention(qkv, bias ?? null, args),
  bf16: [['qkv']],
  cases: [
    { name: 'with bias', ...tokens(2, 13, 8, 2, true) },
    { name: 'without bias', ...tokens(2, 13, 8, 2, false) },
    { name: 'head of 64, more tokens than a block', ...tokens(1, 145, 128, 2, true) },
    { name: 'head of an odd size', ...tokens(1, 9, 15, 3, true) },
    { name: 'size 1 everywhere', ...tokens(1, 1, 1, 1, true) },
    { name: 'no samples', ...tokens(0, 4, 8, 2, true) },
  ],
  bad: [
    { name: 'heads that do not divide', call: (ops, tf) => ops.attention(tf.ones([1, 4, 12]), null, { heads: 3, scale: 1 }), message: 'last dimension of qkv is 12, expected a multiple of 9: it holds q, k and v of 3 heads' },
    { name: 'bias of another length', call: (ops, tf) => ops.attention(tf.ones([1, 4, 12]), tf.ones([2, 4, 5]), { heads: 2, scale: 1 }), message: 'bias has shape [2, 4, 5], expected [2, 4, 4] = [heads, L, L]' },
    { name: 'qkv of another rank', call: (ops, tf) => ops.attention(tf.ones([4, 12]), null, { heads: 2, scale: 1 }), message: 'qkv has shape [4, 12], expected 3 dimensions [B, L, 3C]' },
    { name: 'infinite scale', call: (ops, tf) => ops.attention(tf.ones([1, 4, 12]), null, { heads: 2, scale: Infinity }), message: 'scale is Infinity, expected a finite number' },
  ],
};
