import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireNumber, requireRank, shapeText } from './arguments';
import { fusedOp } from './fused_op';
import { pixelShuffle } from './pixel_shuffle';

const OP = 'masked_loss';
const KINDS = ['l1', 'l2', 'smooth_l1'] as const;

export type LossKind = (typeof KINDS)[number];

export interface MaskedLossOptions {
  /** |d|, d², or torch's smooth_l1 with its β. */
  kind: LossKind;
  /** Where smooth_l1 turns from d² / 2β to |d| - β/2; default 1. */
  beta?: number;
}

interface Inputs {
  pred: tf.Tensor; // [B, h, w, I r r]
  target: tf.Tensor; // [B, I, H, W]
  mask: tf.Tensor; // [B, H/p, W/p]
}

/** The elementwise loss of a residual d. Any shape. |d| is d sign(d): its derivative at 0 is 0, as torch's (tfjs's abs has -1). */
export function elementwiseLoss(residual: tf.Tensor, kind: LossKind, beta: number): tf.Tensor {
  if (kind === 'l2') return tf.square(residual);
  const magnitude = tf.mul(residual, tf.sign(residual));
  if (kind === 'l1') return magnitude;
  // With m = min(|d|, β): m (|d| - m/2) / β is d²/2β below β and |d| - β/2 above, without a branch.
  const clipped = tf.minimum(magnitude, beta);
  return tf.div(tf.mul(clipped, tf.sub(magnitude, tf.mul(clipped, 0.5))), beta);
}

const maskedLossOp = fusedOp<Inputs, { kind: LossKind; beta: number; r: number }>({
  name: 'MaskedLoss',
  composed({ pred, target, mask }, { kind, beta, r }) {
    const [batch, planes, height, width] = target.shape as [number, number, number, number];
    const [, rows, columns] = mask.shape as [number, number, number];
    const loss = elementwiseLoss(tf.sub(target, pixelShuffle(pred, r)), kind, beta);
    const cells = tf.reshape(mask, [batch, rows, 1, columns, 1]);
    const pixels = tf.reshape(tf.mul(cells, tf.ones([1, 1, height / rows, 1, width / columns])), [batch, 1, height, width]);
    const masked = tf.sum(tf.mul(loss, pixels));
    return tf.div(tf.div(masked, tf.add(tf.sum(pixels), 1e-5)), planes);
  },
  native: {
    kernel(b, { pred, target, mask }, { kind, beta }) {
      const [loss, scale] = [b.output([]), b.output([])];
      kernels.maskedLoss({ pred: b.ref(pred), target: b.ref(target), mask: b.ref(mask), loss: b.outRef(loss), scale: b.outRef(scale), kind: KINDS.indexOf(kind), beta });
      return [loss, scale];
    },
    differentiable: ['pred'],
    save: ['pred', 'target', 'mask'],
    gradient(b, dy, { inputs, outputs: [scale] }, { kind, beta }) {
      const { pred, target, mask } = inputs as { pred: tf.Tensor; target: tf.Tensor; mask: tf.Tensor };
      const dpred = b.outputLike(pred);
      kernels.maskedLossGrad({
        dy: b.ref(dy),
        pred: b.ref(pred),
        target: b.ref(target),
        mask: b.ref(mask),
        scale: b.ref(scale as tf.Tensor),
        dpred: b.outRef(dpred),
        kind: KINDS.indexOf(kind), // the numbers of native LossKind
        beta,
      });
      return { pred: dpred };
    },
  },
});

/**
 * Regression loss over hidden pixels: sum(loss * m) / (sum(m) + 1e-5) / I, m the mask at pixel size
 * (SimMIM section 3.4; official simmim.py).
 *
 * pred [B, h, w, I r r] with features in PixelShuffle order (c, i, j) and r = H/h, target [B, I, H, W],
 * mask [B, H/p, W/p] with 1 = hidden -> scalar. Differentiable in pred only. Throws `invalid_argument` for
 * shapes that do not fit, an unknown kind, or beta <= 0.
 */
export function maskedLoss(pred: tf.Tensor, target: tf.Tensor, mask: tf.Tensor, options: MaskedLossOptions): tf.Scalar {
  const { kind, beta = 1 } = options;
  requireRank(OP, 'pred', pred, '[B, h, w, I*r*r]');
  requireRank(OP, 'target', target, '[B, I, H, W]');
  requireRank(OP, 'mask', mask, '[B, H/p, W/p]');
  if (!KINDS.includes(kind)) refuse(OP, `kind is '${String(kind)}', expected one of ${KINDS.join(', ')}`);
  requireNumber(OP, 'beta', beta, Number.MIN_VALUE, Infinity);
  const [batch, planes, height, width] = target.shape as [number, number, number, number];
  if (target.size === 0) refuse(OP, `target has shape ${shapeText(target.shape)}, expected at least one pixel`);
  const r = upscale('pred', pred.shape, batch, height, width);
  if (pred.shape[3] !== planes * r * r) {
    refuse(OP, `pred has ${pred.shape[3]} features, expected ${planes * r * r} = I * r² with I = ${planes} and r = ${r}`);
  }
  upscale('mask', mask.shape, batch, height, width);
  return maskedLossOp({ pred, target, mask }, { kind, beta, r }) as tf.Scalar;
}

/** Pixels per cell of a [B, rows, columns, ...] map that covers the target; the same in both directions. */
function upscale(name: string, shape: number[], batch: number, height: number, width: number): number {
  const [rows, columns] = [shape[1] as number, shape[2] as number];
  if (shape[0] !== batch) refuse(OP, `${name} has ${shape[0]} samples, expected ${batch} as target`);
  const size = height / rows;
  if (!Number.isInteger(size) || size !== width / columns) {
    refuse(OP, `${name} has a ${rows} x ${columns} map, expected one whose cells are equal squares of the ${height} x ${width} target`);
  }
  return size;
}
