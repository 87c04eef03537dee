import { compiledOps, differentiated, normal, type OpBench, SWIN_B_STAGES, take } from './op_bench';

export const layerNormBench: OpBench = {
  op: 'layer_norm',
  half: true,
  cases: [...SWIN_B_STAGES.map(({ side, channels }, i) => ({ name: `swin_base stage ${i + 1}`, case: { rows: 8 * side * side, channels } })), { name: 'vit_base', case: { rows: 1576, channels: 768 } }],
  flops: (c, backward) => {
    const [rows = 0, channels = 0] = take(c, 'rows', 'channels');
    return rows * channels * (backward ? 24 : 8);
  },
  bytes: (c, backward) => {
    const [rows = 0, channels = 0] = take(c, 'rows', 'channels');
    return 4 * rows * channels * (backward ? 5 : 2);
  },
  job(c, backward, storage) {
    const [rows = 0, channels = 0] = take(c, 'rows', 'channels');
    const { layerNorm } = compiledOps();
    return differentiated(([x, g, b]) => layerNorm(x as never, g as never, b as never, 1e-5), [normal([rows, channels], 1, storage), normal([channels], 2), normal([channels], 3)], backward);
  },
};
