import { compiledOps, differentiated, normal, type OpBench, SWIN_B_STAGES, take } from './op_bench';

export const mlpBench: OpBench = {
  op: 'mlp',
  half: true,
  cases: [
    ...SWIN_B_STAGES.map(({ side, channels }, i) => ({ name: `swin_base stage ${i + 1}`, case: { rows: 8 * side * side, channels, hidden: 4 * channels } })),
    { name: 'vit_base', case: { rows: 1576, channels: 768, hidden: 3072 } },
  ],
  flops: (c, backward) => {
    const [rows = 0, channels = 0, hidden = 0] = take(c, 'rows', 'channels', 'hidden');
    return 4 * rows * channels * hidden * (backward ? 3 : 1);
  },
  bytes: (c, backward) => {
    const [rows = 0, channels = 0, hidden = 0] = take(c, 'rows', 'channels', 'hidden');
    const weights = 2 * channels * hidden;
    // Forward: x, residual, y. With the gradient also pre written and read, x and dy read, dx written.
    return 4 * (backward ? rows * (6 * channels + 2 * hidden) + 3 * weights : 3 * rows * channels + weights);
  },
  job(c, backward, storage) {
    const [rows = 0, channels = 0, hidden = 0] = take(c, 'rows', 'channels', 'hidden');
    const { mlp } = compiledOps();
    const inputs = [normal([rows, channels], 1, storage), normal([hidden, channels], 2, storage), normal([hidden], 3), normal([channels, hidden], 4, storage), normal([channels], 5), normal([rows, channels], 6, storage)];
    return differentiated(([x, w1, b1, w2, b2, residual]) => mlp(x as never, w1 as never, b1 as never, w2 as never, b2 as never, { residual: residual as never }), inputs, backward);
  },
};
