import { compiledOps, type OpBench, take } from './op_bench';

/** A normal law cut at 100 deviations, as Swin's weights start; PyTorch's is torch.nn.init.trunc_normal_. */
export const randomValuesBench: OpBench = {
  op: 'random_values',
  cases: [{ name: 'swin_base fc1 stage 3', case: { elements: 2048 * 512 } }, { name: 'swin_base fc1 stage 4', case: { elements: 4096 * 1024 } }],
  flops: (c) => {
    const [elements = 0] = take(c, 'elements');
    return 40 * elements;
  },
  bytes: (c) => {
    const [elements = 0] = take(c, 'elements');
    return 4 * elements;
  },
  job(c) {
    const [elements = 0] = take(c, 'elements');
    const { randomValues } = compiledOps();
    return () => {
      randomValues([elements], { seed: 0, site: 0, law: 'normal', low: 0, high: 1, scale: 0.02 }).dispose();
      return null;
    };
  },
};
