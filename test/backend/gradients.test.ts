import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { EPS32, maxAbs } from '../helpers/compare';
import { OWN_BACKEND } from '../helpers/devices';
import { reference64 } from '../helpers/reference64';
import { Draw } from './draw';
import { type GradientCase, GRADIENTS, UNREACHABLE } from './gradient_cases';

const CASES = Number(process.env.SIMMIM_GRADIENT_CASES ?? 5);
/** How many times further from the float64 gradient than the cpu backend, or than float32 data can tell. */
const FACTOR = 8;
const STEP = 1e-6;

type TfApi = typeof tf;

const weights = (count: number): number[] => Array.from({ length: count }, (_, i) => Math.sin(1.3 * i + 0.4));

/** sum(w f(x)) + sum(v x): the second part gives every input a gradient, whatever f's is. */
function loss(api: TfApi, c: GradientCase, inputs: tf.Tensor[]): tf.Scalar {
  const y = c.f(api, ...inputs);
  const seen = api.sum(api.mul(api.cast(y, 'float32'), api.tensor(weights(y.size), y.shape)));
  return inputs.reduce((sum, x) => api.add(sum, api.sum(api.mul(x, api.tensor(weights(x.size), x.shape)))), seen as tf.Tensor) as tf.Scalar;
}
function tensors(api: TfApi, c: GradientCase, values: number[][] = c.inputs.map((x) => x.values)): tf.Tensor[] {
  return c.inputs.map((x, i) => api.tensor(values[i] as number[], x.shape, x.dtype));
}
function gradients(api: TfApi, c: GradientCase, values?: number[][]): number[][] {
  return api.tidy(() => api.grads((...inputs: tf.Tensor[]) => loss(api, c, inputs))(tensors(api, c, values)).map((g, i) => {
    expect(g.shape).toEqual(c.inputs[i]?.shape);
    return Array.from(g.dataSync());
  }));
}
const difference = (a: number[][], b: number[][]): number => maxAbs(a.flatMap((g, i) => g.map((v, j) => v - (b[i]?.[j] as number))));

/** Along one direction: (loss(x + h u) - loss(x - h u)) / 2h in float64 against the gradient times u. */
function directional(c: GradientCase, truth: number[][]): { slope: number; expected: number; scale: number } {
  const { tf: tf64 } = reference64();
  const u = c.inputs.map((x) => x.values.map((_, i) => Math.cos(0.7 * i + 0.2)));
  const at = (h: number): number => tf64.tidy(() => loss(tf64, c, tensors(tf64, c, c.inputs.map((x, i) => x.values.map((v, j) => v + h * (u[i]?.[j] as number))))).dataSync()[0] as number);
  const products = truth.flatMap((g, i) => g.map((v, j) => v * (u[i]?.[j] as number)));
  return { slope: (at(STEP) - at(-STEP)) / (2 * STEP), expected: products.reduce((a, b) => a + b, 0), scale: products.reduce((a, b) => a + Math.abs(b), Math.abs(at(0))) };
}

/** Central differences in float64, element by element. */
function differences(c: GradientCase, values: number[][] = c.inputs.map((x) => x.values)): number[][] {
  const { tf: tf64 } = reference64();
  const at = (i: number, j: number, h: number): number => tf64.tidy(() => loss(tf64, c, tensors(tf64, c, values.map((list, k) => (k === i ? list.map((v, l) => (l === j ? v + h : v)) : list)))).dataSync()[0] as number);
  return values.map((list, i) => list.map((_, j) => (at(i, j, STEP) - at(i, j, -STEP)) / (2 * STEP)));
}

describe('gradients on random shapes', () => {
  beforeAll(async () => {
    await reference64().tf.setBackend('cpu');
  });

  it('the table holds every kernel that tfjs-core has a gradient for', () => {
    const { configs } = require('../../dist/backend/core_gradients.cjs') as { configs: { kernelName: string }[] };
    expect([...Object.keys(GRADIENTS), ...UNREACHABLE].sort()).toEqual(configs.map((config) => config.kernelName).sort());
  });

  for (const [name, entry] of Object.entries(GRADIENTS)) {
    it(name, async () => {
      for (let n = 0; n < CASES; n++) {
        const c = entry.draw(new Draw(1000 * n + name.length));
        const label = `${name} case ${n}: ${c.inputs.map((x) => x.label).join(' ')}`;
        const { tf: tf64 } = reference64();
        const exact = (values?: number[][]): number[][] => (entry.mended ? differences(c, values) : gradients(tf64, c, values));
        const truth = exact();
        const moved = exact(c.inputs.map((x) => x.values.map((v, i) => v * (1 + (i % 2 ? 2 : -2) * EPS32))));
        await tf.setBackend('cpu');
        const cpu = gradients(tf, c);
        await tf.setBackend(OWN_BACKEND);
        if (n === 0) expect((await tf.profile(() => loss(tf, c, tensors(tf, c)))).kernelNames, label).toContain(name);
        const tolerance = FACTOR * (difference(cpu, truth) + difference(moved, truth) + EPS32 * maxAbs(truth.flat())) + (entry.mended ? 1e-7 * maxAbs(truth.flat()) : 0);
        expect(difference(gradients(tf, c), truth), label).toBeLessThanOrEqual(tolerance);
        if (entry.differs !== undefined || entry.mended) continue;
        const { slope, expected, scale } = directional(c, truth);
        expect(Math.abs(slope - expected), `${label}: finite differences`).toBeLessThanOrEqual(1e-4 * scale + 1e-6);
      }
    });
  }

  it('gradient functions that no op reaches give what they give on cpu', async () => {
    const call = (name: string, dy: tf.Tensor, saved: tf.Tensor[], attrs: object): Float32Array => tf.tidy(() => {
      const parts = tf.getGradient(name).gradFunc(dy, saved, attrs as tf.NamedAttrMap);
      return (Object.values(parts)[0] as () => tf.Tensor)().dataSync() as Float32Array;
    });
    const all = (): Float32Array[] => [
      call('BroadcastTo', tf.reshape(tf.range(0, 24), [2, 3, 4]), [], { shape: [2, 3, 4], inputShape: [1, 3, 1] }),
      call('LogSoftmax', tf.reshape(tf.range(0, 6), [2, 3]), [tf.log(tf.softmax(tf.tensor2d([[1, 2, 3], [0, 0, 5]])))], { axis: 1 }),
      call('ComplexAbs', tf.tensor1d([1, 2]), [tf.tensor1d([3, -4])], {}),
    ];
    await tf.setBackend('cpu');
    const cpu = all();
    await tf.setBackend(OWN_BACKEND);
    all().forEach((values, i) => expect(maxAbs(values.map((v, j) => v - (cpu[i]?.[j] as number)))).toBeLessThanOrEqual(1e-6 * maxAbs(cpu[i] as Float32Array)));
  });
});
