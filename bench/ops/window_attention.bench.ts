import { compiledOps, differentiated, normal, type OpBench, SWIN_B_STAGES, take } from './op_bench';

const WINDOW = 6;

export const windowAttentionBench: OpBench = {
  op: 'window_attention',
  half: true,
  cases: [
    ...SWIN_B_STAGES.flatMap(({ side, channels, heads }, i) =>
      [0, 3].filter((shift) => shift === 0 || side > WINDOW).map((shift) => ({ name: `swin_base stage ${i + 1}${shift ? ' shifted' : ''}`, case: { batch: 8, height: side, width: side, channels, heads, window: WINDOW, shift } })),
    ),
    ...[7, 8, 12].map((window) => ({ name: `window ${window} shifted`, case: { batch: 8, height: 4 * window, width: 4 * window, channels: 256, heads: 8, window, shift: window >> 1 } })),
  ],
  flops: (c, backward) => {
    const [batch = 0, h = 0, w = 0, channels = 0, window = 0] = take(c, 'batch', 'height', 'width', 'channels', 'window');
    return 4 * batch * h * w * window * window * channels * (backward ? 3.5 : 1);
  },
  bytes: (c, backward) => {
    const [batch = 0, h = 0, w = 0, channels = 0] = take(c, 'batch', 'height', 'width', 'channels');
    return 4 * batch * h * w * channels * (backward ? 11 : 4);
  },
  job(c, backward, storage) {
    const [batch = 0, h = 0, w = 0, channels = 0, heads = 1, window = 1, shift = 0] = take(c, 'batch', 'height', 'width', 'channels', 'heads', 'window', 'shift');
    const { windowAttention } = compiledOps();
    const options = { heads, window: [window, window], shift: [shift, shift] } as const;
    const inputs = [normal([batch, h, w, 3 * channels], 1, storage), normal([(2 * window - 1) ** 2, heads], 2)];
    return differentiated(([qkv, table]) => windowAttention(qkv as never, table as never, (channels / heads) ** -0.5, options), inputs, backward);
  },
};
