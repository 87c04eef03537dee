import { compiledOps, differentiated, normal, type OpBench, SWIN_B_STAGES, take } from './op_bench';

export const linearBench: OpBench = {
  op: 'linear',
  half: true,
  cases: [
    ...SWIN_B_STAGES.flatMap(({ side, channels: c }, i) => [
      { name: `swin_base stage ${i + 1} qkv`, case: { rows: 8 * side * side, in: c, out: 3 * c } },
      { name: `swin_base stage ${i + 1} fc2`, case: { rows: 8 * side * side, in: 4 * c, out: c } },
    ]),
    { name: 'vit_base fc2', case: { rows: 1576, in: 3072, out: 768 } },
  ],
  flops: (c, backward) => {
    const [rows = 0, input = 0, output = 0] = take(c, 'rows', 'in', 'out');
    return 2 * rows * input * output * (backward ? 3 : 1);
  },
  bytes: (c, backward) => {
    const [rows = 0, input = 0, output = 0] = take(c, 'rows', 'in', 'out');
    return 4 * (rows * (input + output) + input * output) * (backward ? 3 : 1);
  },
  job(c, backward, storage) {
    const [rows = 0, input = 0, output = 0] = take(c, 'rows', 'in', 'out');
    const { linear } = compiledOps();
    return differentiated(([x, w, b]) => linear(x as never, w as never, b as never), [normal([rows, input], 1, storage), normal([output, input], 2, storage), normal([output], 3)], backward);
  },
};
