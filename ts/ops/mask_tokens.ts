import * as tf from '@tensorflow/tfjs-core';
import { kernels } from '../native';
import { refuse, requireRank, requireShape } from './arguments';
import { fusedOp } from './fused_op';
import { storageOf, type FloatStorage } from './in_storage';

const OP = 'mask_tokens';

interface Inputs {
  x: tf.Tensor; // [B, L, C]
  token: tf.Tensor | null; // [C]
  mask: tf.Tensor | null; // [B, L]
  classToken: tf.Tensor | null; // [C]
  positions: tf.Tensor | null; // [P + L, C]
}

/** Learnt parts of the tokens beside the patches. */
export interface MaskTokensOptions {
  /** Put in place of hidden tokens, [C]; together with `mask`. */
  token?: tf.Tensor | null;
  /** [B, L], 1 = hidden; between 0 and 1 it mixes. Default: nothing is hidden. */
  mask?: tf.Tensor | null;
  /** Put in front of every sample's tokens, [C]; default none. */
  classToken?: tf.Tensor | null;
  /** Added to the tokens, the class token's first, [P + L, C]; default none. */
  positions?: tf.Tensor | null;
  /** How the result is stored; default: as x is. */
  storage?: FloatStorage;
}

const maskTokensOp = fusedOp<Inputs, { from: FloatStorage; to: FloatStorage }>({
  name: 'MaskTokens',
  composed({ x, token, mask, classToken, positions }) {
    const [batch, , channels] = x.shape as [number, number, number];
    let y = x;
    if (token && mask) {
      const hidden = tf.expandDims(mask, -1);
      y = tf.add(tf.mul(x, tf.sub(1, hidden)), tf.mul(hidden, token));
    }
    if (classToken) y = tf.concat([tf.add(tf.zeros([batch, 1, channels]), classToken), y], 1);
    return positions ? tf.add(y, positions) : y === x ? tf.clone(x) : y;
  },
  native: {
    kernel(b, { x, token, mask, classToken, positions }, { to }) {
      const [batch, length, channels] = x.shape as [number, number, number];
      const y = b.output([batch, length + (classToken ? 1 : 0), channels], 'float32', to);
      kernels.maskTokens({
        x: b.ref(x),
        token: token && b.ref(token),
        mask: mask && b.ref(mask),
        classToken: classToken && b.ref(classToken),
        positions: positions && b.ref(positions),
        y: b.outRef(y),
      });
      return [y];
    },
    differentiable: ['x', 'token', 'classToken', 'positions'],
    save: ['mask'],
    gradient(b, dy, { inputs: { mask }, given }, { from }) {
      const [batch, total, channels] = dy.shape as [number, number, number];
      const inFront = given('classToken') ? 1 : 0;
      const dx = b.output([batch, total - inFront, channels], 'float32', from);
      const wanted = (input: keyof Inputs, shape: number[]): tf.TensorInfo | undefined => (given(input) ? b.output(shape) : undefined);
      const [dtoken, dclass, dpositions] = [wanted('token', [channels]), wanted('classToken', [channels]), wanted('positions', [total, channels])];
      kernels.maskTokensGrad({
        dy: b.ref(dy),
        mask: mask && b.ref(mask),
        dx: b.outRef(dx),
        dtoken: dtoken && b.outRef(dtoken),
        dclassToken: dclass && b.outRef(dclass),
        dpositions: dpositions && b.outRef(dpositions),
        inFront,
      });
      return { x: dx, token: dtoken, classToken: dclass, positions: dpositions };
    },
  },
});

/**
 * The tokens that enter a transformer's blocks: hidden ones replaced by the mask token, x (1 - m) + token m (SimMIM
 * section 3.2; official simmim.py), a class token in front (ViT), learnt positions added.
 *
 * x [B, L, C] -> [B, P + L, C], P = 1 with a class token and else 0. Differentiable in x and everything
 * learnt. Throws `invalid_argument` for shapes that do not fit and for a token without a mask or a mask without a token.
 */
export function maskTokens(x: tf.Tensor, options: MaskTokensOptions): tf.Tensor {
  const { token = null, mask = null, classToken = null, positions = null } = options;
  requireRank(OP, 'x', x, '[B, L, C]');
  const [batch, length, channels] = x.shape as [number, number, number];
  if ((token === null) !== (mask === null)) refuse(OP, `${token ? 'mask' : 'token'} is missing: token and mask come together`);
  if (token) requireShape(OP, 'token', token, [channels], 'one for each of the C channels of x');
  if (mask) requireShape(OP, 'mask', mask, [batch, length], '[B, L] of x');
  if (classToken) requireShape(OP, 'classToken', classToken, [channels], 'one for each of the C channels of x');
  const total = length + (classToken ? 1 : 0);
  if (positions) requireShape(OP, 'positions', positions, [total, channels], classToken ? '[1 + L, C] of x and the class token' : '[L, C] of x');
  const from = storageOf(x);
  return maskTokensOp({ x, token, mask, classToken, positions }, { from, to: options.storage ?? from });
}
