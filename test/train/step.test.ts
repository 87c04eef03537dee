import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { flatBuffers, type FlatBuffers } from '../../ts/train/flat_buffers';
import { pretrainGroups } from '../../ts/train/param_groups';
import { MaskedTask } from '../../ts/train/masked_task';
import { type HostBatch, type StepOptions, TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';
import { ToyModel, ToySource, toyMasks, toyParameters } from '../helpers/toy_run';

const SEED = 7;
const OPTIONS: StepOptions = { accumulation: 1, clip: null, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.05 };

function setUp(options: Partial<StepOptions> = {}) {
  const model = new ToyModel();
  const parameters = toyParameters(model);
  const shapes = [...parameters].map(([name, p]) => ({ name, shape: p.shape }));
  const buffers = flatBuffers(parameters, pretrainGroups(shapes, 0.05), 0.05);
  const state = new StepState(SEED);
  const task = new MaskedTask(model, toyMasks, SEED);
  const step = new TrainingStep(task, buffers, state, { ...OPTIONS, ...options });
  /** The inputs of a micro step, whose clock is set. */
  const inputs = async (source: ToySource, update: number, micro: number): Promise<HostBatch> => {
    state.writeClock(update, micro);
    return task.inputs(await source.next(), source.imageShape, update, micro);
  };
  return { model, buffers, state, step, inputs };
}

const tensorOf = (batch: HostBatch, name: string): tf.Tensor => tf.tensor(batch[name]!.values, [...batch[name]!.shape], batch[name]!.dtype);
const loss = async (step: TrainingStep, batch: HostBatch): Promise<number> => (await step.micro(batch).done).loss.dataSync()[0] as number;

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
    const { model, buffers, step, inputs } = setUp();
    const before = weights(buffers);
    const gradients = new Map(buffers.names.map((name): [string, Float64Array[]] => [name, []]));
    const source = new ToySource();
    const lr = 1e-2;
    for (let t = 1; t <= 4; t++) {
      const batch = await inputs(source, t, 0);
      const taped = tf.variableGrads(() => model.loss(tensorOf(batch, 'images'), tensorOf(batch, 'mask')), buffers.variables);
      buffers.names.forEach((name, i) => gradients.get(name)?.push(Float64Array.from((taped.grads[buffers.variables[i]!.name] as tf.Tensor).dataSync())));
      await step.begin();
      const value = await loss(step, batch);
      expect(value).toBe(taped.value.dataSync()[0]);
      const result = await step.apply(lr, t);
      const norm = Math.sqrt([...gradients.values()].reduce((sum, g) => sum + g[t - 1]!.reduce((s, y) => s + y * y, 0), 0));
      expect(result).toMatchObject({ applied: true, loss: value });
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
    const images = (await new ToySource().next()).images;
    const batch = (values: Float32Array): HostBatch => {
      const count = values.length / 192;
      return { images: { shape: [count, 3, 8, 8], dtype: 'float32', values }, mask: { shape: [count, 2, 2], dtype: 'float32', values: new Float32Array(count * 4).map((_, i) => i % 2) } };
    };
    await whole.step.begin();
    const value = await loss(whole.step, batch(images));
    await whole.step.apply(1e-2, 1);
    await halves.step.begin();
    const parts = [await loss(halves.step, batch(images.subarray(0, 192))), await loss(halves.step, batch(images.subarray(192)))];
    const result = await halves.step.apply(1e-2, 1);
    expect(parts[0]! + parts[1]!).toBeCloseTo(value, 6);
    expect(result.loss).toBeCloseTo(value, 6);
    const expected = weights(whole.buffers);
    for (const [name, w] of weights(halves.buffers)) w.forEach((x, i) => expect(Math.abs(x - expected.get(name)![i]!)).toBeLessThan(1e-5));
  });

  test('clipping: once after accumulation by default, after every micro step as a quirk', async () => {
    const clip = 0.05;
    const norms: (number | null)[][] = [];
    const firstMoments: Float32Array[] = [];
    for (const clipEveryMicroStep of [false, true]) {
      const { buffers, step, inputs } = setUp({ accumulation: 2, clip, clipEveryMicroStep });
      const source = new ToySource();
      await step.begin();
      const seen: (number | null)[] = [];
      for (const micro of [0, 1]) seen.push((await step.micro(await inputs(source, 0, micro)).done).gradientNorm?.dataSync()[0] ?? null);
      norms.push(seen);
      const result = await step.apply(1e-3, 1);
      expect(result.applied).toBe(true);
      if (clipEveryMicroStep) expect(result.gradientNorm).toBe(seen[1]);
      const m = buffers.names.map((_, i) => buffers.read('m', i));
      firstMoments.push(Float32Array.from(m.flatMap((part) => [...part])));
    }
    expect(norms[0]).toEqual([null, null]);
    expect(norms[1]?.every((n) => n !== null && n > clip)).toBe(true);
    for (const m of firstMoments) expect(Math.sqrt(m.reduce((s, x) => s + x * x, 0)) / 0.1).toBeCloseTo(clip, 5); // m = 0.1 * clipped gradient
    expect(firstMoments[0]).not.toEqual(firstMoments[1]);
  });

  test.each([1, 2])('a value that is not finite changes nothing and is told (%i micro steps)', async (accumulation) => {
    const { buffers, step, inputs } = setUp({ accumulation });
    const source = new ToySource();
    source.poison = (taken) => (taken === 3 * accumulation ? NaN : 1);
    for (let t = 1; t <= 5; t++) {
      const before = weights(buffers);
      await step.begin();
      for (let micro = 0; micro < accumulation; micro++) await step.micro(await inputs(source, t, micro)).done;
      const result = await step.apply(1e-2, t);
      expect(result.applied).toBe(t !== 4);
      if (t !== 4) continue;
      expect(result.loss).toBeNaN();
      expect(weights(buffers)).toEqual(before);
      expect(Object.values(buffers.gradientNorms()).some((n) => Number.isNaN(n))).toBe(true);
    }
  });

  test('no tensor is left behind by a step, and none by its end', async () => {
    const outside = tf.memory().numTensors;
    const { buffers, state, step, inputs } = setUp({ accumulation: 2, clip: 1, clipEveryMicroStep: true });
    const source = new ToySource();
    const counts: number[] = [];
    for (let t = 1; t <= 5; t++) {
      await step.begin();
      for (const micro of [0, 1]) await step.micro(await inputs(source, t, micro)).done;
      await step.apply(1e-3, t);
      counts.push(tf.memory().numTensors);
    }
    expect(new Set(counts.slice(2)).size).toBe(1);
    const parameters = buffers.variables.length;
    step.dispose();
    buffers.dispose();
    state.dispose();
    expect(tf.memory().numTensors - outside).toBe(parameters);
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

test('on our backend parameters start at multiples of 64 elements; what lies between them stays 0, also after a gradient of NaN', async () => {
  await tf.setBackend(CPU_BACKEND);
  const { buffers, step, inputs } = setUp({ accumulation: 2, clip: 1e-3, clipEveryMicroStep: true });
  const source = new ToySource();
  for (let t = 1; t <= 3; t++) {
    await step.begin();
    for (let micro = 0; micro < 2; micro++) {
      const batch = await inputs(source, t, micro);
      if (t === 2) (batch['images'] as { values: Float32Array }).values.fill(NaN);
      await loss(step, batch);
    }
    expect((await step.apply(1e-2, t)).applied).toBe(t !== 2);
  }
  for (const kind of ['weights', 'm', 'v'] as const) {
    const apart = buffers.names.flatMap((_, i) => {
      const values = buffers.read(kind, i);
      return [...values, ...new Array<number>(-values.length & 63).fill(0)];
    });
    expect([...(buffers.state[kind] as tf.Variable).dataSync()], kind).toEqual(apart);
    expect(apart.length).toBeGreaterThan(buffers.size);
  }
  step.dispose();
  buffers.dispose();
});
