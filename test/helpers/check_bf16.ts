import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadAddon } from '../../ts/native';
import * as ops from '../../ts/ops';
import { EPS_BF16, firstBitDifference, maxAbs, toBf16 } from './compare';
import { activate, alikeDevices, allocated, nativeDevices } from './devices';
import { maxAbsDiff } from './golden';
import { drawInputs, type InputSpec, type OpCase, type OpSpec, type OpsApi, type TfApi } from './op_cases';
import { parts, tidied, weightsOf, type Outcome } from './outcome';
import { reference64 } from './reference64';

/** The inputs of a case; those that the op stores in bf16 hold values that bf16 can. */
function roundedInputs<A, N extends string>(api: TfApi, spec: OpSpec<A, N>, opCase: OpCase<A, N>, half: readonly N[]): Record<N, tf.Tensor> {
  const values = drawInputs(opCase.inputs, `${spec.op} ${opCase.name}`);
  return Object.fromEntries(
    Object.entries<InputSpec | undefined>(opCase.inputs).map(([key, made]) => {
      const { shape, dtype } = made as InputSpec;
      const rounded = half.includes(key as N) ? Array.from(values[key] as Float32Array, toBf16) : values[key];
      return [key, api.tensor(rounded as Float32Array, [...shape], dtype)];
    }),
  ) as Record<N, tf.Tensor>;
}

/** Result and gradients with the inputs `half` stored in bf16 (where the backend can) and an incoming gradient that bf16 holds exactly. */
export function evaluateBf16<A, N extends string>(api: TfApi, opsApi: OpsApi, spec: OpSpec<A, N>, opCase: OpCase<A, N>, half: readonly N[]): Outcome {
  return tidied(api, () => {
    const inputs = roundedInputs(api, spec, opCase, half);
    const stored = (given: Record<N, tf.Tensor>): Record<N, tf.Tensor> => ({
      ...given,
      ...Object.fromEntries(half.filter((key) => key in given).map((key) => [key, opsApi.inStorage(given[key], 'bf16')])),
    });
    const run = (given: Record<N, tf.Tensor>): tf.Tensor => opsApi.inStorage(spec.run(opsApi, stored(given), opCase.args, api), 'f32');
    const result = run(inputs);
    const weights = api.tensor(weightsOf(result.size).map(toBf16), result.shape, 'float32');
    const keys = spec.differentiable.filter((key) => key in inputs);
    const tensors = api.grads((...xs: tf.Tensor[]) => run({ ...inputs, ...Object.fromEntries(keys.map((key, i) => [key, xs[i] as tf.Tensor])) }))(
      keys.map((key) => inputs[key]),
      weights,
    );
    const gradients = Object.fromEntries(keys.map((key, i) => [key, (tensors[i] as tf.Tensor).dataSync().slice() as Float32Array]));
    return { shape: result.shape, result: result.dataSync().slice() as Float32Array, gradients };
  });
}

/**
 * The op with activations in bf16, at every instruction-set level: its error may be at most twice that of the composed form
 * in a framework that stores every intermediate in bf16, or two roundings of the largest value, whatever is larger; 1, 2 and
 * 5 threads (on a GPU: every order of its emulation) give equal bits; nothing on the way is copied to f32 because a kernel could not read it.
 */
export function checkBf16<A, N extends string>(spec: OpSpec<A, N>, half: readonly N[]): void {
  const expected = new Map<string, { truth: Outcome; allowed: Map<string, number> }>();
  beforeAll(() => {
    const { tf: tf64, ops: ops64, inBf16 } = reference64();
    for (const opCase of spec.cases) {
      const truth = evaluateBf16(tf64, ops64, spec, opCase, half);
      const composed = new Map(parts(inBf16(() => evaluateBf16(tf64, ops64, spec, opCase, half))));
      const allowed = parts(truth).map(([name, values]): [string, number] => [name, 2 * Math.max(maxAbsDiff(composed.get(name) as Float32Array, values), EPS_BF16 * Math.max(maxAbs(values), opCase.terms ?? 0))]);
      expected.set(opCase.name, { truth, allowed: new Map(allowed) });
    }
  });
  describe.each(nativeDevices())(`${spec.op} with ${half.join(', ')} in bf16: $name`, (device) => {
    test.each(spec.cases)('$name', async (opCase) => {
      await activate(device);
      const { truth, allowed } = expected.get(opCase.name) as { truth: Outcome; allowed: Map<string, number> };
      evaluateBf16(tf, ops, spec, opCase, half);
      const before = { ...allocated(), widenings: loadAddon().stats().widenings };
      const got = evaluateBf16(tf, ops, spec, opCase, half);
      expect({ ...allocated(), widenings: loadAddon().stats().widenings }, 'left behind, or copied to f32').toEqual(before);
      const exact = new Map(parts(truth));
      for (const [name, values] of parts(got)) expect(maxAbsDiff(values, exact.get(name) as Float32Array), name).toBeLessThanOrEqual(allowed.get(name) as number);
      for (const other of alikeDevices(device, [2, 5])) {
        await activate(other);
        const again = new Map(parts(evaluateBf16(tf, ops, spec, opCase, half)));
        for (const [name, values] of parts(got)) expect(firstBitDifference(values as Float32Array, again.get(name) as Float32Array), `${name} with ${other.name}`).toBeNull();
      }
    });
  });
}
