import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireMultiple, requireRank, requireShape, shapeText } from './arguments';
import { fusedOp } from './fused_op';

const OP = 'patch_embed';

interface Inputs {
  images: tf.Tensor; // [B, I, H, W]
  weight: tf.Tensor; // [C, I, p, p]
  bias: tf.Tensor; // [C]
}

/** [C, I, p, p] read as the matrix [C, I p p]. */
function flattened(weight: tf.TensorInfo): number[] {
  return [weight.shape[0] as number, weight.shape.slice(1).reduce((a, b) => a * b, 1)];
}

const patchEmbedOp = fusedOp<Inputs, { patch: number }>({
  name: 'PatchEmbed',
  composed({ images, weight, bias }, { patch }) {
    const [batch, planes, height, width] = images.shape as [number, number, number, number];
    const channels = weight.shape[0] as number;
    const [rows, columns] = [height / patch, width / patch];
    const inner = planes * patch * patch;
    const cells = tf.transpose(tf.reshape(images, [batch, planes, rows, patch, columns, patch]), [0, 2, 4, 1, 3, 5]);
    const tokens = tf.matMul(tf.reshape(cells, [batch * rows * columns, inner]), tf.reshape(weight, [channels, inner]), false, true);
    return tf.reshape(tf.add(tokens, bias), [batch, rows, columns, channels]);
  },
  native: {
    kernel(b, { images, weight, bias }, { patch }) {
      const [batch, , height, width] = images.shape as [number, number, number, number];
      const y = b.outputLike(weight, [batch, height / patch, width / patch, weight.shape[0] as number]);
      kernels.patchEmbed({ images: b.ref(images), weight: b.ref(weight, flattened(weight)), bias: b.ref(bias), y: b.outRef(y), patch });
      return [y];
    },
    differentiable: ['weight', 'bias'],
    save: ['images', 'weight'],
    gradient(b, dy, { inputs, out }, { patch }) {
      const { images, weight } = inputs as { images: tf.Tensor; weight: tf.Tensor };
      const [dweight, dbias] = [out('weight', weight.shape), out('bias', [weight.shape[0] as number])];
      const flat = flattened(weight);
      kernels.patchEmbedGrad({
        dy: b.ref(dy),
        images: b.ref(images),
        weight: b.ref(weight, flat),
        dweight: b.outRef(dweight, flat),
        dbias: b.outRef(dbias),
        patch,
      });
      return { weight: dweight, bias: dbias };
    },
  },
});

/**
 * Cuts images into patches and embeds each linearly: torch's Conv2d with kernel = stride = p (ViT, section 3.1).
 *
 * images [B, I, H, W] planar, weight [C, I, p, p], bias [C] -> [B, H/p, W/p, C], stored as the weight is.
 * Differentiable in weight and bias; images are data. Throws `invalid_argument` for shapes that do not fit.
 */
export function patchEmbed(images: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor): tf.Tensor {
  requireRank(OP, 'images', images, '[B, I, H, W]');
  requireRank(OP, 'weight', weight, '[C, I, p, p]');
  const [, planes, height, width] = images.shape as [number, number, number, number];
  const [channels, inner, patch, patchWidth] = weight.shape as [number, number, number, number];
  if (patch !== patchWidth || patch < 1) refuse(OP, `weight has shape ${shapeText(weight.shape)}, expected square patches [C, I, p, p]`);
  if (inner !== planes) refuse(OP, `weight has shape ${shapeText(weight.shape)}, expected [C, ${planes}, p, p]: images have ${planes} planes`);
  requireShape(OP, 'bias', bias, [channels], 'one for each of the C filters of weight');
  requireMultiple(OP, 'height of images', height, patch, `patches are ${patch} x ${patch}`);
  requireMultiple(OP, 'width of images', width, patch, `patches are ${patch} x ${patch}`);
  return patchEmbedOp({ images, weight, bias }, { patch });
}
