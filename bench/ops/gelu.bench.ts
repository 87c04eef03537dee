import { compiledOps, differentiated, normal, type OpBench, SWIN_B_STAGES, take } from './op_bench';

/** The hidden activations of the MLPs, which have their GELU in the product's epilogue; here it stands alone. */
export const geluBench: OpBench = {
  op: 'gelu',
  cases: [...SWIN_B_STAGES.map(({ side, channels }, i) => ({ name: `swin_base stage ${i + 1}`, case: { rows: 8 * side * side, channels: 4 * channels } })), { name: 'vit_base', case: { rows: 1576, channels: 3072 } }],
  flops: (c, backward) => {
    const [rows = 0, channels = 0] = take(c, 'rows', 'channels');
    return rows * channels * (backward ? 50 : 20);
  },
  bytes: (c, backward) => {
    const [rows = 0, channels = 0] = take(c, 'rows', 'channels');
    return 4 * rows * channels * (backward ? 5 : 2);
  },
  job(c, backward) {
    const { gelu } = compiledOps();
    return differentiated(([x]) => gelu(x as never), [normal(take(c, 'rows', 'channels'))], backward);
  },
};
