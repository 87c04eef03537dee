import { compiledOps, differentiated, normal, type OpBench, take } from './op_bench';

export const patchEmbedBench: OpBench = {
  op: 'patch_embed',
  half: true,
  cases: [
    { name: 'swin_base 192', case: { batch: 8, size: 192, patch: 4, channels: 128 } },
    { name: 'vit_base 224', case: { batch: 8, size: 224, patch: 16, channels: 768 } },
  ],
  flops: (c, backward) => {
    const [batch = 0, size = 0, channels = 0] = take(c, 'batch', 'size', 'channels');
    return 2 * batch * size * size * 3 * channels * (backward ? 2 : 1);
  },
  bytes: (c, backward) => {
    const [batch = 0, size = 0, patch = 1, channels = 0] = take(c, 'batch', 'size', 'patch', 'channels');
    return 4 * batch * (3 * size * size + (size / patch) ** 2 * channels) * (backward ? 2 : 1);
  },
  job(c, backward, storage) {
    const [batch = 0, size = 0, patch = 1, channels = 0] = take(c, 'batch', 'size', 'patch', 'channels');
    const { patchEmbed } = compiledOps();
    const images = normal([batch, 3, size, size]);
    return differentiated(([w, b]) => patchEmbed(images, w as never, b as never), [normal([channels, 3, patch, patch], 2, storage), normal([channels], 3)], backward);
  },
};
