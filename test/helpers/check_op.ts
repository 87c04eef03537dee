import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import * as ops from '../../ts/ops';
import { Rng } from '../../ts/rng';
import { EPS32, firstBitDifference, maxAbs } from './compare';
import { CUDA_BACKEND } from '../../ts/backend';
import { activate, alikeDevices, allocated, COMPOSED, lacking, nativeDevices, OWN, OWN_BACKEND, type Device } from './devices';
import { checkBf16 } from './check_bf16';
import { maxAbsDiff } from './golden';
import { drawInputs, type InputSpec, type OpCase, type OpSpec, type OpsApi, type TfApi } from './op_cases';
import { parts, tidied, weightsOf, type Outcome, type Values } from './outcome';
import { reference64 } from './reference64';

function inputTensors<A, N extends string>(api: TfApi, spec: OpSpec<A, N>, opCase: OpCase<A, N>, replace: Record<string, ArrayLike<number>> = {}): Record<N, tf.Tensor> {
  const values = drawInputs(opCase.inputs, `${spec.op} ${opCase.name}`);
  return Object.fromEntries(
    Object.entries<InputSpec | undefined>(opCase.inputs).map(([key, made]) => {
      const { shape, dtype } = made as InputSpec;
      return [key, api.tensor((replace[key] ?? values[key]) as Float32Array, [...shape], dtype)];
    }),
  ) as Record<N, tf.Tensor>;
}

/** The float32 inputs of a case, each moved up or down by one ulp. */
function movedInputs<A, N extends string>(spec: OpSpec<A, N>, opCase: OpCase<A, N>): Record<string, ArrayLike<number>> {
  const rng = new Rng(13);
  const drawn = Object.entries(drawInputs(opCase.inputs, `${spec.op} ${opCase.name}`));
  return Object.fromEntries(drawn.map(([key, values]) => [key, values instanceof Int32Array ? values : Array.from(values, (x) => x * (1 + (rng.uniform() < 0.5 ? 2 : -2) * EPS32))]));
}

export function evaluate<A, N extends string>(api: TfApi, opsApi: OpsApi, spec: OpSpec<A, N>, opCase: OpCase<A, N>, replace: Record<string, ArrayLike<number>> = {}): Outcome {
  return tidied(api, () => {
    const inputs = inputTensors(api, spec, opCase, replace);
    const result = spec.run(opsApi, inputs, opCase.args, api);
    const weights = api.tensor(weightsOf(result.size), result.shape, 'float32');
    const given = spec.differentiable.filter((key) => key in inputs);
    const gradients: Record<string, Values> = {};
    if (given.length > 0) {
      const loss = (...xs: tf.Tensor[]): tf.Tensor => {
        const replaced = Object.fromEntries(given.map((key, i) => [key, xs[i] as tf.Tensor]));
        return api.sum(api.mul(spec.run(opsApi, { ...inputs, ...replaced }, opCase.args, api), weights));
      };
      const tensors = api.grads(loss)(given.map((key) => inputs[key] as tf.Tensor));
      given.forEach((key, i) => (gradients[key] = (tensors[i] as tf.Tensor).dataSync().slice() as Values));
    }
    return { shape: result.shape, result: result.dataSync().slice() as Values, gradients };
  });
}

/** What one case is held to: the truth in float64, the composed form in float32, and float64 with inputs moved by one ulp. */
interface Expected {
  truth: Outcome;
  composed: Outcome;
  moved: Outcome;
}

/**
 * The error that a correct float32 implementation may have, by the rule of the golden fixtures: 8 times the largest
 * deviation of the composed float32 form and of float64 with inputs moved by one ulp, but at least 4 ulps of the
 * largest value.
 */
function allowances(opCase: OpCase<unknown, string>, { truth, composed, moved }: Expected): Map<string, number> {
  const [a, b] = [new Map(parts(composed)), new Map(parts(moved))];
  return new Map(
    parts(truth).map(([name, values]) => {
      const deviation = Math.max(maxAbsDiff(a.get(name) as Values, values), maxAbsDiff(b.get(name) as Values, values));
      return [name, Math.max(8 * deviation, 8 * EPS32 * Math.max(maxAbs(values), opCase.terms ?? 0))];
    }),
  );
}

function expectClose(got: Outcome, opCase: OpCase<unknown, string>, expected: Expected): void {
  expect(got.shape).toEqual(expected.truth.shape);
  const allowed = allowances(opCase, expected);
  const exact = new Map(parts(expected.truth));
  for (const [name, values] of parts(got)) {
    expect(maxAbsDiff(values, exact.get(name) as Values), name).toBeLessThanOrEqual(allowed.get(name) as number);
  }
}

/** Slopes along a random direction of each input, by central differences in float64, against the gradient. */
function checkSlopes<A, N extends string>(spec: OpSpec<A, N>, opCase: OpCase<A, N>, truth: Outcome): void {
  const reference = reference64();
  const drawn = drawInputs(opCase.inputs, `${spec.op} ${opCase.name}`);
  const weights = weightsOf(truth.result.length);
  const lossAt = (key: string, values: number[]): number =>
    tidied(reference.tf, () => {
      const result = spec.run(reference.ops, inputTensors(reference.tf, spec, opCase, { [key]: values }), opCase.args, reference.tf).dataSync();
      return weights.reduce((sum, w, i) => sum + w * (result[i] as number), 0);
    });
  for (const [key, gradient] of Object.entries(truth.gradients)) {
    const direction = weightsOf(gradient.length + 1).slice(1);
    const along = (step: number): number => lossAt(key, direction.map((d, i) => ((drawn[key] as Float32Array)[i] as number) + step * d));
    // Error of the difference: O(h²) from the third derivative, 1e-16 / h from rounding; h = 1e-5 balances them near 1e-10.
    const slope = (along(1e-5) - along(-1e-5)) / 2e-5;
    const wanted = direction.reduce((sum, d, i) => sum + d * (gradient[i] as number), 0);
    const scale = direction.reduce((sum, d, i) => sum + Math.abs(d * (gradient[i] as number)), 1);
    expect(Math.abs(slope - wanted) / scale, `slope along ${key}`).toBeLessThan(1e-7);
  }
}

async function checkBits<A, N extends string>(spec: OpSpec<A, N>, opCase: OpCase<A, N>, device: Device, once: Outcome): Promise<void> {
  for (const other of alikeDevices(device)) {
    await activate(other);
    const again = new Map(parts(evaluate(tf, ops, spec, opCase)));
    for (const [name, values] of parts(once)) {
      expect(firstBitDifference(values as Float32Array, again.get(name) as Float32Array), `${name} with ${other.name}`).toBeNull();
    }
  }
}

/** Truth, composed form and moved truth of every case, made once before the tests of a file. */
function expectations<A, N extends string>(spec: OpSpec<A, N>): (opCase: OpCase<A, N>) => Expected {
  const made = new Map<string, Expected>();
  beforeAll(async () => {
    await activate(COMPOSED);
    for (const opCase of spec.cases) {
      const { tf: tf64, ops: ops64 } = reference64();
      made.set(opCase.name, {
        truth: evaluate(tf64, ops64, spec, opCase),
        composed: evaluate(tf, ops, spec, opCase),
        moved: evaluate(tf64, ops64, spec, opCase, movedInputs(spec, opCase)),
      });
    }
  });
  return (opCase) => made.get(opCase.name) as Expected;
}

/** The composed form: its gradient against slopes, its float32 against float64, nothing left behind, refusals. */
export function checkComposed<A, N extends string>(spec: OpSpec<A, N>): void {
  const expected = expectations(spec);
  describe(`${spec.op}: composed form`, () => {
    test.each(spec.cases)('$name: gradient agrees with slopes in float64', (opCase) => {
      if (opCase.smooth !== false) checkSlopes(spec, opCase, expected(opCase).truth);
      // Where the op is not smooth, its gradient must still be finite.
      for (const [name, values] of parts(expected(opCase).truth)) expect(Number.isFinite(maxAbs(values)), name).toBe(true);
    });
    test.each(spec.cases)('$name: float32 stays near float64, and nothing is left behind', async (opCase) => {
      await activate(COMPOSED);
      const { truth, composed } = expected(opCase);
      const exact = new Map(parts(truth));
      // 256 half-ulps of the largest value: sums of the cases' few hundred terms; a wrong formula is far off.
      for (const [name, values] of parts(composed)) {
        const wanted = exact.get(name) as Values;
        expect(maxAbsDiff(values, wanted), name).toBeLessThanOrEqual(256 * EPS32 * maxAbs(wanted));
      }
      const before = allocated();
      evaluate(tf, ops, spec, opCase);
      expect(allocated()).toEqual(before);
    });
  });
}

/** Bad arguments are refused with their message, and leave nothing behind. */
function checkRefusals<A, N extends string>(spec: OpSpec<A, N>, devices: Device[]): void {
  describe.each(devices)(`${spec.op}: refusals on $name`, (device) => {
    test.each(spec.bad)('$name', async (bad) => {
      await activate(device);
      const before = allocated();
      expect(() => tidied(tf, () => bad.call(ops, tf))).toThrow(`${spec.op}: ${bad.message}`);
      expect(allocated(), 'left behind').toEqual(before);
    });
  });
}

/** The native kernel in every configuration: within the derived error of the truth, equal bits over thread counts or orders, nothing left behind. */
export function checkNative<A, N extends string>(spec: OpSpec<A, N>): void {
  const missing = lacking(spec.op);
  if (missing) {
    test.skip(`${spec.op}: ${missing}`, () => undefined);
    return;
  }
  const expected = expectations(spec);
  describe.each(nativeDevices())(`${spec.op}: $name`, (device) => {
    test.each(spec.cases)('$name', async (opCase) => {
      await activate(device);
      evaluate(tf, ops, spec, opCase);
      const before = allocated();
      const got = evaluate(tf, ops, spec, opCase);
      expect(allocated(), 'left behind').toEqual(before);
      expectClose(got, opCase, expected(opCase));
      await checkBits(spec, opCase, device, got);
    });
  });
}

/**
 * Declares the tests of an op from its case list. The composed forms in float64 are the truth, pinned to their own
 * slopes by finite differences; float32 results, composed and of every native configuration, are held to errors
 * derived from the composed form's own and from the conditioning of the case. Also: the op on bf16 tensors where its spec
 * names some, equal bits over thread counts (on a GPU: in every order), nothing left in engine or arena, and refusals with their message on every backend.
 */
export function checkOp<A, N extends string>(spec: OpSpec<A, N>): void {
  if (OWN_BACKEND !== CUDA_BACKEND) {
    checkComposed(spec);
    checkRefusals(spec, [COMPOSED, OWN]);
  }
  checkNative(spec);
  for (const half of spec.bf16 ?? []) checkBf16(spec, half);
}
