import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as converter from '@tensorflow/tfjs-converter';
import * as tf from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import '../../ts/node';
import { FLOAT, INT, SAME, type Weight, artifacts, floats, integers, list, placeholder, quantised, texts } from './graph';
import type { Program, Source } from './program';

const SIZE = 12;
const init = (seed: number): ReturnType<typeof layers.initializers.heNormal> => layers.initializers.heNormal({ seed });

/** Expand, filter each channel, project; added to the input where the shapes agree. */
function inverted(x: layers.SymbolicTensor, filters: number, strides: number, seed: number): layers.SymbolicTensor {
  const channels = x.shape[3] as number;
  const then = (t: layers.SymbolicTensor, ...all: layers.layers.Layer[]): layers.SymbolicTensor => all.reduce((y, layer) => layer.apply(y) as layers.SymbolicTensor, t);
  const y = then(x,
    layers.layers.conv2d({ filters: 3 * channels, kernelSize: 1, useBias: false, kernelInitializer: init(seed) }), layers.layers.batchNormalization(), layers.layers.reLU({ maxValue: 6 }),
    layers.layers.zeroPadding2d({ padding: [[1, 1], [1, 1]] }),
    layers.layers.depthwiseConv2d({ kernelSize: 3, strides, useBias: false, depthwiseInitializer: init(seed + 1) }), layers.layers.batchNormalization(), layers.layers.reLU({ maxValue: 6 }),
    layers.layers.conv2d({ filters, kernelSize: 1, useBias: false, kernelInitializer: init(seed + 2) }), layers.layers.batchNormalization());
  return strides === 1 && filters === channels ? layers.layers.add().apply([x, y]) as layers.SymbolicTensor : y;
}

function mobileNet(): layers.LayersModel {
  const image = layers.input({ shape: [SIZE, SIZE, 3] });
  const entered = layers.layers.conv2d({ filters: 6, kernelSize: 3, strides: 2, padding: 'same', useBias: false, kernelInitializer: init(1), name: 'enter' }).apply(image) as layers.SymbolicTensor;
  const features = inverted(inverted(entered, 6, 1, 10), 8, 2, 20);
  const pooled = layers.layers.globalAveragePooling2d({}).apply(features) as layers.SymbolicTensor;
  const [box, name] = [layers.layers.dense({ units: 4, name: 'box', kernelInitializer: init(31) }), layers.layers.dense({ units: 2, activation: 'sigmoid', name: 'name', kernelInitializer: init(32) })];
  return layers.model({ inputs: image, outputs: [box.apply(pooled), name.apply(pooled)] as layers.SymbolicTensor[] });
}

/** A small MobileNet that names an object and draws a box round it; first the heads are trained, then all of it with a smaller rate. */
export const mobile: Program = {
  name: 'object detector in two phases (layers)',
  async run(data) {
    const count = 12;
    const at = data.integers(2 * count, (_, rng) => rng.uniform() * (SIZE - 4));
    const pixels = data.floats(count * SIZE * SIZE * 3, (i, rng) => {
      const [n, row, column] = [Math.floor(i / (SIZE * SIZE * 3)), Math.floor(i / (SIZE * 3)) % SIZE, Math.floor(i / 3) % SIZE];
      const inside = [row - (at[2 * n] as number), column - (at[2 * n + 1] as number)].every((d) => d >= 0 && d < 4);
      return (inside && i % 3 === n % 3 ? 1 : 0.2) + 0.2 * rng.uniform();
    });
    const xs = tf.tensor4d(pixels, [count, SIZE, SIZE, 3]);
    const boxes = tf.tensor2d(Float32Array.from({ length: count * 4 }, (_, i) => ((at[2 * (i >> 2) + (i % 2)] as number) + (i % 4 < 2 ? 0 : 4)) / SIZE), [count, 4]);
    const names = tf.tensor2d(Float32Array.from({ length: count * 2 }, (_, i) => ((i >> 1) % 3 === i % 2 ? 1 : 0)), [count, 2]);
    const model = mobileNet();
    const distance = (truth: tf.Tensor, guess: tf.Tensor): tf.Tensor => tf.tidy(() => tf.losses.huberLoss(truth, guess, undefined, 0.3, tf.Reduction.MEAN));
    const losses: number[] = [];
    const optimizers = [tf.train.rmsprop(0.01), tf.train.sgd(0.02)];
    for (const [phase, optimizer] of optimizers.entries()) {
      for (const layer of model.layers) layer.trainable = phase === 1 || layer.name === 'box' || layer.name === 'name';
      model.compile({ optimizer, loss: { box: distance, name: 'binaryCrossentropy' } as never });
      losses.push(...(await model.fit(xs, [boxes, names], { epochs: 2, batchSize: 6, shuffle: false, verbose: 0 })).history.loss as number[]);
    }
    const outcome = tf.tidy(() => {
      const [box, name] = model.predict(xs) as [tf.Tensor, tf.Tensor];
      return { losses, box: box.dataSync(), name: name.dataSync(), enter: (model.getLayer('enter').getWeights()[0] as tf.Tensor).dataSync() };
    });
    for (const made of [...optimizers, model]) made.dispose();
    tf.dispose([xs, boxes, names]);
    return outcome;
  },
};

const filter = (data: Source, name: string, ...shape: [number, number, number, number]): Weight => quantised(name, shape, data.floats(shape.reduce((a, b) => a * b, 1), (_, rng) => rng.normal() / Math.sqrt(shape[0] * shape[1] * shape[2])));

/** A pose network as the converter leaves it: convolutions fused with bias and ReLU6, two heads; its filters in bytes. */
function poseGraph(data: Source): tf.io.ModelArtifacts {
  const bias = (name: string, count: number): Weight => floats(name, [count], data.floats(count, (_, rng) => rng.normal() * 0.1));
  const weights = [filter(data, 'w1', 3, 3, 3, 8), bias('b1', 8), filter(data, 'w2', 3, 3, 8, 1), bias('b2', 8), filter(data, 'w3', 1, 1, 8, 5), bias('b3', 5), filter(data, 'w4', 1, 1, 8, 10)];
  const window = (step: number): object => ({ ...SAME, strides: list(1, step, step, 1), dilations: list(1, 1, 1, 1), explicit_paddings: list() });
  const fused = (...ops: string[]): object => ({ num_args: { i: '1' }, epsilon: { f: 0 }, fused_ops: texts(...ops) });
  const nodes = [
    placeholder('image', [1, 24, 24, 3]),
    ...weights.map(({ node }) => node),
    { name: 'enter', op: '_FusedConv2D', input: ['image', 'w1', 'b1'], attr: { ...window(2), ...fused('BiasAdd', 'Relu6') } },
    { name: 'inside', op: 'FusedDepthwiseConv2dNative', input: ['enter', 'w2', 'b2'], attr: { ...window(2), ...fused('BiasAdd', 'Relu6') } },
    { name: 'heat', op: '_FusedConv2D', input: ['inside', 'w3', 'b3'], attr: { ...window(1), ...fused('BiasAdd') } },
    { name: 'heatmap', op: 'Sigmoid', input: ['heat'], attr: { T: FLOAT } },
    { name: 'offset', op: 'Conv2D', input: ['inside', 'w4'], attr: window(1) },
  ];
  return artifacts(nodes, weights);
}

/** A picture through a graph model that is loaded from files, saved and loaded again: five points of a body, each where its map is hottest. */
export const pose: Program = {
  name: 'pose estimation from a graph model in files (converter)',
  async run(data) {
    const folder = mkdtempSync(join(tmpdir(), 'simmim-program-'));
    const { weightData, weightSpecs, ...model } = poseGraph(data);
    writeFileSync(join(folder, 'model.json'), JSON.stringify({ ...model, weightsManifest: [{ paths: ['weights.bin'], weights: weightSpecs }] }));
    writeFileSync(join(folder, 'weights.bin'), Buffer.from(weightData as ArrayBuffer));
    const first = await converter.loadGraphModel(`file://${folder}/model.json`);
    await first.save(`file://${folder}/again`);
    const again = await converter.loadGraphModel(`file://${folder}/again/model.json`);
    rmSync(folder, { recursive: true });
    const photo = tf.tensor3d(data.integers(40 * 30 * 3, (i, rng) => 127 + 100 * Math.sin(i / 50) + 20 * rng.uniform()), [40, 30, 3], 'int32');
    const image = tf.tidy(() => tf.expandDims(tf.sub(tf.div(tf.image.resizeBilinear(photo, [24, 24]), 127.5), 1)));
    const [heatmap, offset] = again.execute(image, ['heatmap', 'offset']) as [tf.Tensor4D, tf.Tensor4D];
    const predicted = first.predict({ image }) as tf.Tensor[];
    const outcome = tf.tidy(() => {
      const hottest = tf.argMax(tf.reshape(heatmap, [36, 5]), 0);
      const row = tf.floorDiv(hottest, tf.scalar(6, 'int32'));
      const column = tf.mod(hottest, tf.scalar(6, 'int32'));
      const part = tf.range(0, 5, 1, 'int32');
      const moved = [0, 5].map((axis) => tf.gatherND(tf.squeeze(offset, [0]), tf.stack([row, column, tf.add(part, tf.scalar(axis, 'int32'))], 1)));
      const points = tf.add(tf.mul(tf.stack([row, column], 1), 4), tf.stack(moved, 1));
      return { heatmap: heatmap.dataSync(), points: points.dataSync(), ...Object.fromEntries(predicted.map((t, i) => [`predicted${i}`, t.dataSync()])) };
    });
    for (const made of [first, again]) made.dispose();
    tf.dispose([photo, image, heatmap, offset, predicted]);
    return outcome;
  },
};

/** while (i < n) x = tanh(x w), i = i + 1 */
function loopGraph(data: Source): tf.io.ModelArtifacts {
  const one = integers('one', [1], []);
  const weights = [floats('w', [4, 4], data.floats(16, (_, rng) => rng.normal() / 2)), integers('zero', [0], []), integers('n', [5], [])];
  const argument = (name: string, type: string): object => ({ name, type });
  const inputs = [argument('i', 'DT_INT32'), argument('x', 'DT_FLOAT'), argument('w', 'DT_FLOAT'), argument('n', 'DT_INT32')];
  const condition = { signature: { name: 'goes_on', inputArg: inputs, outputArg: [argument('less', 'DT_BOOL')] }, nodeDef: [{ name: 'Less', op: 'Less', input: ['i', 'n'], attr: { T: INT } }], ret: { less: 'Less:z:0' } };
  const body = {
    signature: { name: 'step', inputArg: inputs, outputArg: [argument('i1', 'DT_INT32'), argument('x1', 'DT_FLOAT'), argument('w1', 'DT_FLOAT'), argument('n1', 'DT_INT32')] },
    nodeDef: [
      one.node,
      { name: 'next', op: 'AddV2', input: ['i', 'one'], attr: { T: INT } },
      { name: 'product', op: 'MatMul', input: ['x', 'w'], attr: { T: FLOAT, transpose_a: { b: false }, transpose_b: { b: false } } },
      { name: 'tanh', op: 'Tanh', input: ['product'], attr: { T: FLOAT } },
    ],
    ret: { i1: 'next:z:0', x1: 'tanh:y:0', w1: 'w', n1: 'n' },
  };
  const loop = { name: 'loop', op: 'StatelessWhile', input: ['zero', 'x', 'w', 'n'], attr: { T: { list: { type: ['DT_INT32', 'DT_FLOAT', 'DT_FLOAT', 'DT_INT32'] } }, cond: { func: { name: 'goes_on' } }, body: { func: { name: 'step' } } } };
  const nodes = [placeholder('x', [-1, 4]), ...weights.map(({ node }) => node), loop, { name: 'result', op: 'Identity', input: ['loop:1'], attr: { T: FLOAT } }, { name: 'steps', op: 'Identity', input: ['loop:0'], attr: { T: INT } }];
  return artifacts(nodes, [...weights, one], { function: [condition, body] });
}

/** A graph model with a loop, whose condition is read at each step. */
export const loop: Program = {
  name: 'graph model with control flow (converter)',
  async run(data) {
    const model = await converter.loadGraphModel(tf.io.fromMemory(loopGraph(data)) as tf.io.IOHandler);
    const x = tf.tensor2d(data.floats(12, (_, rng) => rng.normal()), [3, 4]);
    const [result, steps] = await model.executeAsync({ x }, ['result', 'steps']) as [tf.Tensor, tf.Tensor];
    const outcome = { result: await result.data(), steps: await steps.data() };
    model.dispose();
    tf.dispose([x, result, steps]);
    return outcome;
  },
};
