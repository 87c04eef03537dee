import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as converter from '@tensorflow/tfjs-converter';
import * as tf from '@tensorflow/tfjs-core';
import * as tfData from '@tensorflow/tfjs-data';
import * as layers from '@tensorflow/tfjs-layers';
import '../../ts/node';
import { FLOAT, INT, SAME, artifacts, floats, integers, list, placeholder, text } from './graph';
import type { Program, Source } from './program';

/** A graph model: convolution, bias, ReLU, max pooling, mean over the map. */
function featureGraph(data: Source): tf.io.IOHandler {
  const kernel = floats('kernel', [3, 3, 3, 6], data.floats(3 * 3 * 3 * 6, (_, rng) => rng.normal() * 0.3));
  const bias = floats('bias', [6], data.floats(6, (_, rng) => rng.normal() * 0.1));
  const axes = integers('axes', [1, 2]);
  const nodes = [
    placeholder('image', [-1, 8, 8, 3]),
    kernel.node,
    bias.node,
    axes.node,
    { name: 'conv', op: 'Conv2D', input: ['image', 'kernel'], attr: { ...SAME, strides: list(1, 1, 1, 1), dilations: list(1, 1, 1, 1), explicit_paddings: list() } },
    { name: 'biased', op: 'BiasAdd', input: ['conv', 'bias'], attr: { T: FLOAT, data_format: text('NHWC') } },
    { name: 'relu', op: 'Relu', input: ['biased'], attr: { T: FLOAT } },
    { name: 'pool', op: 'MaxPool', input: ['relu'], attr: { ...SAME, ksize: list(1, 2, 2, 1), strides: list(1, 2, 2, 1) } },
    { name: 'features', op: 'Mean', input: ['pool', 'axes'], attr: { T: FLOAT, Tidx: INT, keep_dims: { b: false } } },
  ];
  return tf.io.fromMemory(artifacts(nodes, [kernel, bias, axes])) as tf.io.IOHandler;
}

/** Features of a frozen graph model, and a dense head trained on them. */
export const transfer: Program = {
  name: 'transfer learning from a graph model (converter and layers)',
  async run(data) {
    const graph = await converter.loadGraphModel(featureGraph(data));
    const images = tf.tensor4d(data.floats(20 * 8 * 8 * 3, (i, rng) => rng.uniform() * (Math.floor(i / 192) % 2 ? 1 : 0.5)), [20, 8, 8, 3]);
    const ys = tf.tensor2d(Float32Array.from({ length: 20 }, (_, n) => n % 2), [20, 1]);
    const features = graph.predict(images) as tf.Tensor;
    const inside = graph.execute(images, ['relu']) as tf.Tensor;
    const head = layers.sequential({ layers: [layers.layers.dense({ inputShape: [6], units: 1, activation: 'sigmoid', kernelInitializer: 'zeros' })] });
    const optimizer = tf.train.adagrad(0.5);
    head.compile({ optimizer, loss: 'binaryCrossentropy' });
    const { history } = await head.fit(features, ys, { epochs: 4, batchSize: 20, shuffle: false, verbose: 0 });
    const outcome = { features: features.dataSync(), inside: inside.dataSync(), loss: history.loss as number[] };
    optimizer.dispose();
    head.dispose();
    graph.dispose();
    tf.dispose([images, ys, features, inside]);
    return outcome;
  },
};

/** A pole on a cart: one Euler step of 20 ms; the force is 10 N to either side. */
function pushed([x, v, angle, spin]: [number, number, number, number], right: boolean): [number, number, number, number] {
  const force = ((right ? 10 : -10) + 0.05 * spin * spin * Math.sin(angle)) / 1.1;
  const acceleration = (9.8 * Math.sin(angle) - Math.cos(angle) * force) / (0.5 * (4 / 3 - (0.1 * Math.cos(angle) ** 2) / 1.1));
  const pull = force - (0.05 * acceleration * Math.cos(angle)) / 1.1;
  return [x + 0.02 * v, v + 0.02 * pull, angle + 0.02 * spin, spin + 0.02 * acceleration];
}

/** REINFORCE on a cart with a pole: actions drawn from a policy network, its gradient weighted by discounted returns. */
export const policyGradient: Program = {
  name: 'policy gradient (core)',
  async run(data) {
    const policy = layers.sequential({ layers: [layers.layers.dense({ inputShape: [4], units: 8, activation: 'tanh', kernelInitializer: layers.initializers.glorotUniform({ seed: 8 }) }), layers.layers.dense({ units: 1, kernelInitializer: layers.initializers.glorotUniform({ seed: 9 }) })] });
    const optimizer = tf.train.adam(0.05);
    const draws = data.floats(400, (_, rng) => rng.uniform());
    let drawn = 0;
    const returns: number[] = [];
    for (let episode = 0; episode < 4; episode++) {
      const [states, actions]: [number[][], number[]] = [[], []];
      let state: [number, number, number, number] = [0, 0, 0.02 * (episode + 1), 0];
      while (Math.abs(state[2]) < 0.2 && states.length < 60) {
        const probability = tf.tidy(() => tf.sigmoid(policy.predict(tf.tensor2d([state])) as tf.Tensor).dataSync()[0] as number);
        const right = (draws[drawn++] as number) < probability;
        states.push(state);
        actions.push(right ? 1 : 0);
        state = pushed(state, right);
      }
      const discounted = actions.map(() => 0);
      for (let i = actions.length - 1, sum = 0; i >= 0; i--) discounted[i] = sum = 1 + 0.95 * sum;
      const loss = optimizer.minimize(() => {
        const logits = policy.apply(tf.tensor2d(states)) as tf.Tensor;
        const logProbability = tf.neg(tf.losses.sigmoidCrossEntropy(tf.tensor2d(actions, [actions.length, 1]), logits, undefined, 0, tf.Reduction.NONE));
        return tf.neg(tf.mean(tf.mul(tf.reshape(logProbability, [-1]), tf.tensor1d(discounted)))) as tf.Scalar;
      }, true, policy.getWeights(true) as tf.Variable[]) as tf.Scalar;
      returns.push(actions.length, (await loss.data())[0] as number);
      loss.dispose();
    }
    const outcome = { returns, policy: (policy.getWeights()[0] as tf.Tensor).dataSync() };
    optimizer.dispose();
    policy.dispose();
    return outcome;
  },
};

/** Training saved to a folder with its optimizer and continued from there, beside training without the break. */
export const resumed: Program = {
  name: 'saving and loading with the optimizer (layers)',
  async run(data) {
    const folder = mkdtempSync(join(tmpdir(), 'simmim-program-'));
    const xs = tf.tensor2d(data.floats(40, (_, rng) => rng.normal()), [10, 4]);
    const ys = tf.tensor2d(data.floats(10, (_, rng) => rng.normal()), [10, 1]);
    const model = layers.sequential({ layers: [layers.layers.dense({ inputShape: [4], units: 6, activation: 'selu', kernelInitializer: layers.initializers.leCunNormal({ seed: 10 }) }), layers.layers.dense({ units: 1, kernelInitializer: layers.initializers.leCunNormal({ seed: 11 }) })] });
    const optimizer = tf.train.adam(0.05);
    model.compile({ optimizer, loss: 'meanSquaredError' });
    const fit = async (m: layers.LayersModel, epochs: number): Promise<number[]> => (await m.fit(xs, ys, { epochs, shuffle: false, verbose: 0 })).history.loss as number[];
    const first = await fit(model, 3);
    await model.save(`file://${folder}`, { includeOptimizer: true });
    const again = await layers.loadLayersModel(`file://${folder}/model.json`);
    rmSync(folder, { recursive: true });
    const outcome = { first, whole: await fit(model, 3), resumed: await fit(again, 3) };
    again.optimizer.dispose();
    again.dispose();
    optimizer.dispose();
    model.dispose();
    tf.dispose([xs, ys]);
    return outcome;
  },
};

/** A CSV file through tf.data: columns, map, filter, shuffle, batches, prefetch, into model.fitDataset. */
export const pipeline: Program = {
  name: 'data pipeline (data and layers)',
  async run(data) {
    const folder = mkdtempSync(join(tmpdir(), 'simmim-program-'));
    const values = data.floats(40 * 2, (_, rng) => rng.uniform());
    const rows = Array.from({ length: 40 }, (_, n) => [values[2 * n], values[2 * n + 1], (values[2 * n] as number) * 2 - (values[2 * n + 1] as number)].join(','));
    writeFileSync(join(folder, 'table.csv'), ['a,b,y', ...rows].join('\n'));
    const table = tfData.csv(`file://${folder}/table.csv`, { columnConfigs: { y: { isLabel: true } } });
    const examples = table
      .filter((row) => ((row as unknown as { xs: { a: number } }).xs.a) > 0.1)
      .map((row) => {
        const { xs, ys } = row as unknown as { xs: { a: number; b: number }; ys: { y: number } };
        return { xs: [xs.a, xs.b], ys: [ys.y] };
      })
      .shuffle(16, '12')
      .batch(8)
      .prefetch(2);
    const model = layers.sequential({ layers: [layers.layers.dense({ inputShape: [2], units: 1, kernelInitializer: 'zeros' })] });
    const optimizer = tf.train.adamax(0.2);
    model.compile({ optimizer, loss: 'meanAbsoluteError' });
    const { history } = await model.fitDataset(examples as tfData.Dataset<never>, { epochs: 3, verbose: 0 });
    rmSync(folder, { recursive: true });
    const outcome = { loss: history.loss as number[], weights: (model.getWeights()[0] as tf.Tensor).dataSync() };
    optimizer.dispose();
    model.dispose();
    return outcome;
  },
};

/** A snake of length one on a 5 x 5 board: a picture of itself and its food. */
const board = (at: number, food: number): Float32Array => Float32Array.from({ length: 50 }, (_, i) => (i % 2 ? (i >> 1 === food ? 1 : 0) : i >> 1 === at ? 1 : 0));

/** Q-learning of moves from remembered ones: an online network, a target network that follows it, gradients applied by hand. */
export const deepQ: Program = {
  name: 'deep Q-learning (core and layers)',
  async run(data) {
    const network = (seed: number): layers.Sequential => layers.sequential({
      layers: [
        layers.layers.conv2d({ inputShape: [5, 5, 2], filters: 6, kernelSize: 3, activation: 'relu', kernelInitializer: layers.initializers.heNormal({ seed }) }),
        layers.layers.flatten(),
        layers.layers.dense({ units: 4, kernelInitializer: layers.initializers.heNormal({ seed: seed + 1 }) }),
      ],
    });
    const [online, target] = [network(12), network(14)];
    target.setWeights(online.getWeights());
    target.trainable = false;
    const optimizer = tf.train.adam(0.01);
    const moves = [-5, 5, -1, 1];
    const count = 64;
    const states = data.integers(count * 2, (_, rng) => rng.uniform() * 25);
    const actions = data.integers(count, (_, rng) => rng.uniform() * 4);
    const after = actions.map((a, n) => ((states[2 * n] as number) + (moves[a] as number) + 25) % 25);
    const pictures = (places: ArrayLike<number>, from: number): tf.Tensor4D => tf.tensor4d(Float32Array.from({ length: 8 * 50 }, (_, i) => board(places[Math.floor(i / 50)] as number, states[2 * (from + Math.floor(i / 50)) + 1] as number)[i % 50] as number), [8, 5, 5, 2]);
    const losses: number[] = [];
    for (let step = 0; step < 8; step++) {
      const rows = Array.from({ length: 8 }, (_, i) => 8 * step + i);
      const { value, grads } = tf.variableGrads(() => {
        const taken = tf.oneHot(tf.tensor1d(rows.map((n) => actions[n] as number), 'int32'), 4);
        const values = tf.sum(tf.mul(online.apply(pictures(rows.map((n) => states[2 * n] as number), 8 * step), { training: true }) as tf.Tensor, taken), -1);
        const best = tf.max(target.predict(pictures(rows.map((n) => after[n] as number), 8 * step)) as tf.Tensor, -1);
        const reward = tf.tensor1d(rows.map((n) => (after[n] === states[2 * n + 1] ? 10 : -0.2)));
        const over = tf.cast(tf.greater(reward, 0), 'float32');
        return tf.losses.meanSquaredError(tf.add(reward, tf.mul(best, tf.mul(tf.sub(1, over), 0.9))), values);
      }, online.getWeights(true) as tf.Variable[]);
      optimizer.applyGradients(Object.entries(grads).map(([name, tensor]) => ({ name, tensor })));
      losses.push((await value.data())[0] as number);
      tf.dispose([value, grads]);
      if (step % 4 === 3) target.setWeights(online.getWeights());
    }
    const outcome = { losses, weights: (target.getWeights()[0] as tf.Tensor).dataSync() };
    for (const made of [optimizer, online, target]) made.dispose();
    return outcome;
  },
};

/** A series forecast from windows that a generator yields, with validation and an early end. */
export const forecast: Program = {
  name: 'time series from a generator (data and layers)',
  async run(data) {
    const series = data.floats(400, (i, rng) => Math.sin(i / 7) + 0.1 * rng.uniform());
    const windows = (from: number, to: number): tfData.Dataset<tf.TensorContainer> => tfData.generator(function* () {
      for (let at = from; at < to; at++) yield { xs: tf.tensor2d(series.slice(at, at + 12), [12, 1]), ys: tf.tensor1d(series.slice(at + 12, at + 13)) } as tf.TensorContainer;
    } as never).batch(10);
    const model = layers.sequential({
      layers: [
        layers.layers.conv1d({ inputShape: [12, 1], filters: 4, kernelSize: 3, activation: 'relu', kernelInitializer: layers.initializers.heNormal({ seed: 15 }) }),
        layers.layers.gru({ units: 5, kernelInitializer: layers.initializers.glorotUniform({ seed: 16 }), recurrentInitializer: layers.initializers.orthogonal({ seed: 17, gain: 1 }) }),
        layers.layers.dense({ units: 1, kernelInitializer: layers.initializers.glorotUniform({ seed: 18 }), kernelRegularizer: layers.regularizers.l2({ l2: 0.01 }) }),
      ],
    });
    const optimizer = tf.train.rmsprop(0.005);
    model.compile({ optimizer, loss: 'meanAbsoluteError', metrics: ['mse'] });
    const ended: number[] = [];
    const { history } = await model.fitDataset(windows(0, 60) as tfData.Dataset<never>, {
      epochs: 4,
      validationData: windows(300, 330) as tfData.Dataset<never>,
      verbose: 0,
      callbacks: [layers.callbacks.earlyStopping({ monitor: 'val_loss', patience: 3 }), new layers.CustomCallback({ onEpochEnd: async (epoch) => void ended.push(epoch) })],
    });
    const evaluated = await model.evaluateDataset(windows(340, 360) as tfData.Dataset<never>, { batches: 2 }) as tf.Scalar[];
    const outcome = { loss: history.loss as number[], validation: history.val_loss as number[], ended, evaluated: evaluated.map((t) => t.dataSync()[0] as number) };
    tf.dispose(evaluated);
    for (const made of [optimizer, model]) made.dispose();
    return outcome;
  },
};
