import { compiledOps, differentiated, normal, type OpBench, take } from './op_bench';

export const attentionBench: OpBench = {
  op: 'attention',
  half: true,
  cases: [
    { name: 'vit_base 224', case: { batch: 8, tokens: 197, channels: 768, heads: 12 } },
    { name: 'vit_small 224', case: { batch: 8, tokens: 197, channels: 384, heads: 6 } },
  ],
  flops: (c, backward) => {
    const [batch = 0, tokens = 0, channels = 0] = take(c, 'batch', 'tokens', 'channels');
    return 4 * batch * tokens * tokens * channels * (backward ? 3.5 : 1);
  },
  bytes: (c, backward) => {
    const [batch = 0, tokens = 0, channels = 0] = take(c, 'batch', 'tokens', 'channels');
    return 4 * batch * tokens * channels * (backward ? 11 : 4);
  },
  job(c, backward, storage) {
    const [batch = 0, tokens = 0, channels = 0, heads = 1] = take(c, 'batch', 'tokens', 'channels', 'heads');
    const { attention } = compiledOps();
    return differentiated(([qkv, bias]) => attention(qkv as never, bias as never, { heads, scale: (channels / heads) ** -0.5 }), [normal([batch, tokens, 3 * channels], 1, storage), normal([heads, tokens, tokens], 2)], backward);
  },
};
