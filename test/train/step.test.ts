import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { flatBuffers, type FlatBuffers } from '../../ts/train/flat_buffers';
import { pretrainGroups } from '../../ts/train/param_groups';
import { type StepOptions, TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';
import { ToyModel, ToySource, toyMasks, toyParameters } from '../helpers/toy_run';


const OPTIONS: StepOptions = { accumulation: 1, clip: null, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.05 };

function setUp(options: Partial<StepOptions> = {}) {
  const model = new ToyModel();
  const parameters = toyParameters(model);
  const shapes = [...parameters].map(([name, p]) => ({ name, shape: p.shape }));
  const buffers = flatBuffers(parameters, pretrainGroups(shapes, 0.05), 0.05);
  const state = new StepState(7);
  return { model, buffers, state, step: new TrainingStep(model, buffers, state, { ...OPTIONS, ...options }) };
}

async function images(source: ToySource): Promise<tf.Tensor> {
  const batch = await source.next();
  return tf.tensor(batch.images, [batch.files.length, 3, 8, 8]);
}

function weights(buffers: FlatBuffers): Map<string, Float32Array> {
  return new Map(buffers.names.map((name, i) => [name, buffers.read('weights', i)]));
}

/** AdamW in float64 as PyTorch defines it, on one parameter. */
function reference(w: Float32Array, gradients: Float64Array[], lr: number, decay: number): Float64Array {
  const [m, v, out] = [new Float64Array(w.length), new Float64Array(w.length), Float64Array.from(w)];
  gradients.forEach((g, step) => {
    for (let i = 0; i < w.length; i++) {
      m[i] = 0.9 * m[i]! + 0.1 * g[i]!;
      v[i] = 0.999 * v[i]! + 0.001 * g[i]! ** 2;
      const denominator = Math.sqrt(v[i]! / (1 - 0.999 ** (step + 1))) + 1e-8;
      out[i] = out[i]! * (1 - lr * decay) - (lr * m[i]!) / (1 - 0.9 ** (step + 1)) / denominator;
    }
  });
  return out;
}

describe.each([CPU_BACKEND, 'cpu'])('on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
  });

  test('updates equal AdamW in float64 fed with tf.variableGrads', async () => {
    const { model, buffers, state, step } = setUp();
    const before = weights(buffers);
    const gradients = new Map(buffers.names.map((name): [string, Float64Array[]] => [name, []]));
    const source = new ToySource();
    const lr = 1e-2;
    for (let t = 1; t <= 3; t++) {
      state.writeClock(t, 0);
      const x = await images(source);
      const mask = toyMasks(state.clock, 2);
      const taped = tf.variableGrads(() => model.loss(x, mask, state), buffers.variables);
      buffers.names.forEach((name, i) => gradients.get(name)?.push(Float64Array.from((taped.grads[buffers.variables[i]!.name] as tf.Tensor).dataSync())));
      step.begin();
      const { loss } = step.micro(x, toyMasks);
      expect(loss).toBe(taped.value.dataSync()[0]);
      const result = step.apply(lr, t);
      const norm = Math.sqrt([...gradients.values()].reduce((sum, g) => sum + g[t - 1]!.reduce((s, y) => s + y * y, 0), 0));
      expect(result.applied).toBe(true);
      expect(Math.abs(result.gradientNorm - norm)).toBeLessThan(1e-6 * norm);
    }
    for (const [name, w] of weights(buffers)) {
      const expected = reference(before.get(name)!, gradients.get(name)!, lr, name === 'bias' || name === 'mask_token' ? 0 : 0.05);
      w.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(2e-6));
    }
  });

  test('two micro steps of half the batch are one step of the whole batch', async () => {
    const whole = setUp();
    const halves = setUp({ accumulation: 2 });
    const source = new ToySource();
    const x = await images(source);
    const masks = (_: tf.Tensor, batch: number): tf.Tensor => tf.tensor(new Float32Array(batch * 4).map((__, i) => i % 2), [batch, 2, 2]);
    whole.step.begin();
    const { loss } = whole.step.micro(x, masks);
    whole.step.apply(1e-2, 1);
    halves.step.begin();
    const parts = [0, 1].map((i) => halves.step.micro(tf.slice(x, [i, 0, 0, 0], [1, 3, 8, 8]), masks).loss);
    halves.step.apply(1e-2, 1);
    expect((parts[0]! + parts[1]!) / 2).toBeCloseTo(loss, 6);
    const expected = weights(whole.buffers);
    for (const [name, w] of weights(halves.buffers)) w.forEach((value, i) => expect(Math.abs(value - expected.get(name)![i]!)).toBeLessThan(1e-5));
  });

  test('clipping: once after accumulation by default, after every micro step as a quirk', async () => {
    const clip = 0.05;
    const norms: (number | null)[][] = [];
    const firstMoments: Float32Array[] = [];
    for (const clipEveryMicroStep of [false, true]) {
      const { buffers, step } = setUp({ accumulation: 2, clip, clipEveryMicroStep });
      const source = new ToySource();
      step.begin();
      norms.push([step.micro(await images(source), toyMasks).gradientNorm, step.micro(await images(source), toyMasks).gradientNorm]);
      expect(step.apply(1e-3, 1).applied).toBe(true);
      const m = buffers.names.map((_, i) => buffers.read('m', i));
      firstMoments.push(Float32Array.from(m.flatMap((part) => [...part])));
    }
    expect(norms[0]).toEqual([null, null]);
    expect(norms[1]?.every((n) => n !== null && n > clip)).toBe(true);
    for (const m of firstMoments) expect(Math.sqrt(m.reduce((s, x) => s + x * x, 0)) / 0.1).toBeCloseTo(clip, 5); // m = 0.1 * clipped gradient
    expect(firstMoments[0]).not.toEqual(firstMoments[1]);
  });

  test('a value that is not finite changes nothing and is told', async () => {
    const { model, buffers, state, step } = setUp();
    model.poison = (update) => (update === 1 ? NaN : 1);
    const before = weights(buffers);
    state.writeClock(1, 0);
    step.begin();
    expect(step.micro(await images(new ToySource()), toyMasks).loss).toBeNaN();
    expect(step.apply(1e-2, 1).applied).toBe(false);
    expect(weights(buffers)).toEqual(before);
    expect(Object.values(buffers.gradientNorms()).some((n) => Number.isNaN(n))).toBe(true);
  });

  test('no tensor is left behind by a step', async () => {
    const { step, state } = setUp({ accumulation: 2, clip: 1, clipEveryMicroStep: true });
    const source = new ToySource();
    const counts: number[] = [];
    for (let t = 1; t <= 4; t++) {
      step.begin();
      for (const micro of [0, 1]) {
        state.writeClock(t, micro);
        const x = await images(source);
        step.micro(x, toyMasks);
        x.dispose();
      }
      step.apply(1e-3, t);
      counts.push(tf.memory().numTensors);
    }
    expect(new Set(counts.slice(1)).size).toBe(1);
  });

  test('groups must cover the model exactly', () => {
    const parameters = toyParameters(new ToyModel());
    const group = (params: string[]) => [{ name: 'all', lrScale: 1, weightDecay: 0.05, params }];
    const all = [...parameters.keys()];
    expect(() => flatBuffers(parameters, group(all.slice(1)), 0.05)).toThrow(`parameter '${all[0]!}' is in no group`);
    expect(() => flatBuffers(parameters, group([...all, all[0]!]), 0.05)).toThrow('a parameter is in two groups');
    expect(() => flatBuffers(parameters, group(['nothing']), 0.05)).toThrow("group 'all' names 'nothing'");
  });
});
