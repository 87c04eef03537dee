import { compiledOps, normal, type OpBench, take } from './op_bench';

export const gradNormBench: OpBench = {
  op: 'grad_norm',
  cases: [{ name: '16 M gradients', case: { elements: 1 << 24 } }],
  flops: (c) => 2 * (take(c, 'elements')[0] ?? 0),
  bytes: (c) => 4 * (take(c, 'elements')[0] ?? 0),
  job(c) {
    const [elements = 0] = take(c, 'elements');
    const { gradNorm } = compiledOps();
    const flat = normal([elements]);
    return () => {
      gradNorm(flat).dispose();
      return null;
    };
  },
};
