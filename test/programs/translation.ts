import * as tf from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import { drawWeights, type Outcome, type Program, type Source } from './program';

const SYMBOLS = 12;
const LENGTH = 6;
const UNITS = 8;

const glorot = (seed: number): ReturnType<typeof layers.initializers.glorotUniform> => layers.initializers.glorotUniform({ seed });
const cell = (seed: number): object => ({ units: UNITS, kernelInitializer: glorot(seed), recurrentInitializer: layers.initializers.orthogonal({ seed: seed + 1, gain: 1 }), returnSequences: true });

/** Rows of symbols 1 .. SYMBOLS - 1, and the same rows backwards: what is to be learnt. */
function backwards(data: Source, count: number): { given: Int32Array; wanted: Int32Array } {
  const given = data.integers(count * LENGTH, (_, rng) => 1 + rng.uniform() * (SYMBOLS - 1));
  const wanted = given.map((_, i) => given[i - (i % LENGTH) + LENGTH - 1 - (i % LENGTH)] as number);
  return { given, wanted };
}

const oneHot = (symbols: Int32Array, count: number): tf.Tensor3D => tf.tidy(() => tf.cast(tf.oneHot(tf.tensor2d(symbols, [count, LENGTH], 'int32'), SYMBOLS), 'float32') as tf.Tensor3D);

/** The last step of a sequence [B, T, C] -> [B, C]: a layer of the user's own. */
class LastStep extends layers.layers.Layer {
  static readonly className = 'LastStep';
  override computeOutputShape(shape: layers.Shape | layers.Shape[]): layers.Shape {
    const [batch, , channels] = shape as layers.Shape;
    return [batch as number, channels as number];
  }
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const x = Array.isArray(inputs) ? (inputs[0] as tf.Tensor) : inputs;
    return tf.tidy(() => tf.squeeze(tf.gather(x, [(x.shape[1] as number) - 1], 1), [1]));
  }
}
tf.serialization.registerClass(LastStep);

/** An encoder, a decoder that starts from the encoder's last state, and attention of one to the other. */
function translator(): layers.LayersModel {
  const embedding = (seed: number): layers.layers.Layer => layers.layers.embedding({ inputDim: SYMBOLS, outputDim: 5, inputLength: LENGTH, embeddingsInitializer: layers.initializers.randomUniform({ minval: -0.5, maxval: 0.5, seed }) });
  const [source, target] = [layers.input({ shape: [LENGTH] }), layers.input({ shape: [LENGTH] })];
  const encoded = layers.layers.lstm(cell(11) as never).apply(embedding(1).apply(source)) as layers.SymbolicTensor;
  const last = new LastStep({ name: 'last' }).apply(encoded) as layers.SymbolicTensor;
  const decoded = layers.layers.lstm(cell(21) as never).apply(embedding(2).apply(target) as layers.SymbolicTensor, { initialState: [last, last] }) as layers.SymbolicTensor;
  const scores = layers.layers.dot({ axes: [2, 2] }).apply([decoded, encoded]) as layers.SymbolicTensor;
  const attention = layers.layers.activation({ activation: 'softmax', name: 'attention' }).apply(scores) as layers.SymbolicTensor;
  const context = layers.layers.dot({ axes: [2, 1] }).apply([attention, encoded]) as layers.SymbolicTensor;
  const both = layers.layers.concatenate().apply([context, decoded]) as layers.SymbolicTensor;
  const dense = (units: number, activation: 'tanh' | 'softmax', seed: number): layers.layers.Layer => layers.layers.timeDistributed({ layer: layers.layers.dense({ units, activation, kernelInitializer: glorot(seed) }) });
  return layers.model({ inputs: [source, target], outputs: dense(SYMBOLS, 'softmax', 32).apply(dense(UNITS, 'tanh', 31).apply(both)) as layers.SymbolicTensor });
}

/** Symbols written one after the other, each fed back. */
function written(model: layers.LayersModel, given: tf.Tensor2D): Outcome {
  const [count] = given.shape;
  const target = tf.buffer([count, LENGTH], 'float32');
  for (let step = 0; step < LENGTH - 1; step++) {
    const next = tf.tidy(() => tf.argMax(model.predict([given, target.toTensor()]) as tf.Tensor, -1).arraySync() as number[][]);
    next.forEach((row, n) => target.set(row[step] as number, n, step + 1));
  }
  const probabilities = tf.tidy(() => (model.predict([given, target.toTensor()]) as tf.Tensor).dataSync());
  return { symbols: target.values, probabilities };
}

export const attention: Program = {
  name: 'sequence to sequence with attention (layers)',
  async run(data) {
    const count = 12;
    const { given, wanted } = backwards(data, count);
    const source = tf.tensor2d(Float32Array.from(given), [count, LENGTH]);
    const shifted = tf.tensor2d(Float32Array.from(wanted, (_, i) => (i % LENGTH ? (wanted[i - 1] as number) : 0)), [count, LENGTH]);
    const labels = oneHot(wanted, count);
    const model = translator();
    drawWeights(model, data);
    const optimizer = tf.train.adam(0.02);
    model.compile({ optimizer, loss: 'categoricalCrossentropy' });
    const { history } = await model.fit([source, shifted], labels, { epochs: 3, batchSize: 6, shuffle: false, verbose: 0 });
    const outcome = { loss: history.loss as number[], ...written(model, source) };
    for (const made of [optimizer, model]) made.dispose();
    tf.dispose([source, shifted, labels]);
    return outcome;
  },
};

/** The whole sequence is read into one vector, which is repeated and spelt out: the addition examples. */
export const speller: Program = {
  name: 'sequence through one vector (layers)',
  async run(data) {
    const count = 16;
    const { given, wanted } = backwards(data, count);
    const [xs, ys] = [oneHot(given, count), oneHot(wanted, count)];
    const { returnSequences: _, ...reading } = cell(41) as { returnSequences: boolean };
    const model = layers.sequential({
      layers: [
        layers.layers.simpleRNN({ inputShape: [LENGTH, SYMBOLS], ...reading } as never),
        layers.layers.repeatVector({ n: LENGTH }),
        layers.layers.gru({ ...cell(51), resetAfter: false } as never),
        layers.layers.timeDistributed({ layer: layers.layers.dense({ units: SYMBOLS, activation: 'softmax', kernelInitializer: glorot(61) }) }),
      ],
    });
    drawWeights(model, data);
    const optimizer = tf.train.rmsprop(0.01);
    model.compile({ optimizer, loss: 'categoricalCrossentropy', metrics: ['accuracy'] });
    const { history } = await model.fit(xs, ys, { epochs: 3, batchSize: 8, shuffle: false, validationSplit: 0.25, verbose: 0 });
    const outcome = { loss: history.loss as number[], validation: history.val_loss as number[], spelt: tf.tidy(() => (model.predict(xs) as tf.Tensor).dataSync()) };
    for (const made of [optimizer, model]) made.dispose();
    tf.dispose([xs, ys]);
    return outcome;
  },
};
