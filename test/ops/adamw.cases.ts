import type { AdamwHyper } from '../../ts/ops';
import { constant, integers, normal, uniform, type InputSpec, type OpsApi, type OpSpec, type TfApi } from '../helpers/op_cases';

type Names = 'weights' | 'm' | 'v' | 'gradient' | 'ends' | 'lrScale' | 'decayScale';

const HYPER: AdamwHyper = { lr: 1e-2, weightDecay: 0.05, beta1: 0.9, beta2: 0.999, eps: 1e-8, t: 3, clip: 5 };

function buffers(n: number, ends: number[]): Record<Names, InputSpec> {
  const s = ends.length;
  return {
    weights: normal([n]),
    m: normal([n], 0.1),
    v: uniform([n], 0.01, 0.1),
    gradient: normal([n]),
    ends: integers(...ends),
    lrScale: uniform([s], 0.1, 2),
    decayScale: s > 1 ? uniform([s], 0, 1) : constant([s], 1),
  };
}

/** A call on four elements in one segment, with some argument replaced. */
function refused(change: (tf: TfApi) => { m?: unknown; gradient?: unknown; norm?: unknown; ends?: unknown; lrScale?: unknown; hyper?: unknown }) {
  return (ops: OpsApi, tf: TfApi): void => {
    const given = { m: tf.ones([4]), gradient: tf.ones([4]), norm: tf.scalar(1), ends: tf.tensor1d([4], 'int32'), lrScale: tf.ones([1]), hyper: tf.ones([8]), ...change(tf) } as Readonly<Record<string, unknown>>;
    ops.adamw({ weights: tf.ones([4]) as never, m: given.m as never, v: tf.ones([4]) as never }, given.gradient as never, given.norm as never, { ends: given.ends as never, lrScale: given.lrScale as never, decayScale: tf.ones([1]) }, given.hyper as never);
  };
}

export const adamwSpec: OpSpec<AdamwHyper, Names> = {
  op: 'adamw',
  differentiable: [],
  run(ops, { weights, m, v, gradient, ends, lrScale, decayScale }, hyper, tf) {
    const own = [weights, m, v].map((x) => tf.variable(tf.add(x, 0))); // copies: the op changes them in place
    const [w, first, second] = own as [(typeof own)[number], (typeof own)[number], (typeof own)[number]];
    ops.adamw({ weights: w, m: first, v: second }, gradient, ops.gradNorm(gradient), { ends, lrScale, decayScale }, tf.tensor1d(ops.hyperValues(hyper)));
    const after = tf.concat(own);
    tf.dispose(own);
    return after;
  },
  cases: [
    { name: 'segments of odd lengths, clipped', inputs: buffers(1031, [3, 500, 501, 1031]), args: HYPER },
    { name: 'one segment, not clipped', inputs: buffers(64, [64]), args: { ...HYPER, clip: 0 } },
    { name: 'norm below the limit', inputs: buffers(33, [16, 33]), args: { ...HYPER, clip: 1e6 } },
    { name: 'an empty segment', inputs: buffers(20, [7, 7, 20]), args: HYPER },
    { name: 'one element, first step', inputs: buffers(1, [1]), args: { ...HYPER, t: 1 } },
  ],
  bad: [
    { name: 'a moment of another length', call: refused((tf) => ({ m: tf.ones([3]) })), message: 'm has shape [3], expected [4] = the shape of weights' },
    { name: 'a gradient of another length', call: refused((tf) => ({ gradient: tf.ones([5]) })), message: 'gradient has shape [5], expected [4] = the shape of weights' },
    { name: 'a norm that is no scalar', call: refused((tf) => ({ norm: tf.ones([1]) })), message: 'norm has shape [1], expected [] = a scalar' },
    { name: 'a scale too many', call: refused((tf) => ({ lrScale: tf.ones([2]) })), message: 'lrScale has shape [2], expected [1] = one for each segment' },
    { name: 'float ends', call: refused((tf) => ({ ends: tf.ones([1]) })), message: 'ends has dtype float32, expected int32' },
    { name: 'short hyper', call: refused((tf) => ({ hyper: tf.ones([7]) })), message: 'hyper has shape [7], expected [8] = the numbers of hyperValues' },
  ],
};
