import { normal, type OpSpec } from '../helpers/op_cases';

export const patchEmbedSpec: OpSpec<object, 'images' | 'weight' | 'bias'> = {
  op: 'patch_embed',
  differentiable: ['weight', 'bias'],
  run: (ops, { images, weight, bias }) => ops.patchEmbed(images, weight, bias),
  bf16: [['weight']],
  cases: [
    { name: 'three planes', inputs: { images: normal([2, 3, 8, 12]), weight: normal([5, 3, 4, 4], 0.2), bias: normal([5]) }, args: {} },
    { name: 'one plane, odd patches', inputs: { images: normal([3, 1, 9, 6]), weight: normal([7, 1, 3, 3]), bias: normal([7]) }, args: {} },
    { name: 'patches of one pixel', inputs: { images: normal([1, 2, 3, 5]), weight: normal([4, 2, 1, 1]), bias: normal([4]) }, args: {} },
    { name: 'one patch', inputs: { images: normal([1, 3, 4, 4]), weight: normal([1, 3, 4, 4]), bias: normal([1]) }, args: {} },
    { name: 'no images', inputs: { images: normal([0, 3, 8, 8]), weight: normal([6, 3, 4, 4]), bias: normal([6]) }, args: {} },
  ],
  bad: [
    { name: 'a side that patches do not divide', call: (ops, tf) => ops.patchEmbed(tf.ones([1, 3, 10, 8]), tf.ones([5, 3, 4, 4]), tf.ones([5])), message: 'height of images is 10, expected a multiple of 4: patches are 4 x 4' },
    { name: 'planes that differ', call: (ops, tf) => ops.patchEmbed(tf.ones([1, 1, 8, 8]), tf.ones([5, 3, 4, 4]), tf.ones([5])), message: 'weight has shape [5, 3, 4, 4], expected [C, 1, p, p]: images have 1 planes' },
    { name: 'patches that are not square', call: (ops, tf) => ops.patchEmbed(tf.ones([1, 3, 8, 8]), tf.ones([5, 3, 4, 2]), tf.ones([5])), message: 'weight has shape [5, 3, 4, 2], expected square patches [C, I, p, p]' },
    { name: 'bias of another length', call: (ops, tf) => ops.patchEmbed(tf.ones([1, 3, 8, 8]), tf.ones([5, 3, 4, 4]), tf.ones([4])), message: 'bias has shape [4], expected [5] = one for each of the C filters of weight' },
    { name: 'images of another rank', call: (ops, tf) => ops.patchEmbed(tf.ones([3, 8, 8]), tf.ones([5, 3, 4, 4]), tf.ones([5])), message: 'images has shape [3, 8, 8], expected 4 dimensions [B, I, H, W]' },
  ],
};
