import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as converter from '@tensorflow/tfjs-converter';
import * as tf from '@tensorflow/tfjs-core';
import * as tfData from '@tensorflow/tfjs-data';
import * as layers from '@tensorflow/tfjs-layers';
import '../../ts/node';
import type { Program, Source } from './program';

/** A graph model as the converter writes them: convolution, bias, ReLU, max pooling, mean over the map. */
function featureGraph(data: Source): tf.io.IOHandler {
  const text = (s: string): { s: string } => ({ s: Buffer.from(s).toString('base64') });
  const list = (...i: number[]): object => ({ list: { i: i.map(String) } });
  const float = { type: 'DT_FLOAT' };
  const shape = (dims: number[]): object => ({ dim: dims.map((size) => ({ size: String(size) })) });
  const constant = (name: string, dims: number[], dtype: 'DT_FLOAT' | 'DT_INT32'): object => ({ name, op: 'Const', attr: { dtype: { type: dtype }, value: { tensor: { dtype, tensorShape: shape(dims) } } } });
  const window = { padding: text('SAME'), data_format: text('NHWC'), T: float };
  const node = [
    { name: 'image', op: 'Placeholder', attr: { dtype: float, shape: { shape: shape([-1, 8, 8, 3]) } } },
    constant('kernel', [3, 3, 3, 6], 'DT_FLOAT'),
    constant('bias', [6], 'DT_FLOAT'),
    constant('axes', [2], 'DT_INT32'),
    { name: 'conv', op: 'Conv2D', input: ['image', 'kernel'], attr: { ...window, strides: list(1, 1, 1, 1), dilations: list(1, 1, 1, 1), explicit_paddings: list() } },
    { name: 'biased', op: 'BiasAdd', input: ['conv', 'bias'], attr: { T: float, data_format: text('NHWC') } },
    { name: 'relu', op: 'Relu', input: ['biased'], attr: { T: float } },
    { name: 'pool', op: 'MaxPool', input: ['relu'], attr: { ...window, ksize: list(1, 2, 2, 1), strides: list(1, 2, 2, 1) } },
    { name: 'features', op: 'Mean', input: ['pool', 'axes'], attr: { T: float, Tidx: { type: 'DT_INT32' }, keep_dims: { b: false } } },
  ];
  const [kernel, bias] = [data.floats(3 * 3 * 3 * 6, (_, rng) => rng.normal() * 0.3), data.floats(6, (_, rng) => rng.normal() * 0.1)];
  const weightData = Buffer.concat([kernel, bias, Int32Array.of(1, 2)].map((a) => Buffer.from(a.buffer)));
  return tf.io.fromMemory({
    modelTopology: { node, versions: { producer: 1 } },
    weightSpecs: [
      { name: 'kernel', shape: [3, 3, 3, 6], dtype: 'float32' },
      { name: 'bias', shape: [6], dtype: 'float32' },
      { name: 'axes', shape: [2], dtype: 'int32' },
    ],
    weightData: weightData.buffer.slice(weightData.byteOffset, weightData.byteOffset + weightData.length) as ArrayBuffer,
  }) as tf.io.IOHandler;
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
