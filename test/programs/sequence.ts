import * as tf from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import { drawWeights, type Program, type Source } from './program';

const WORDS = 20;
const LENGTH = 10;

/** Sequences of word numbers; the label says whether the first word comes again. */
function sentences(data: Source, count: number): { words: Int32Array; labels: Float32Array } {
  const words = data.integers(count * LENGTH, (_, rng) => 1 + rng.uniform() * (WORDS - 1));
  const labels = Float32Array.from({ length: count }, (_, n) => (words.subarray(n * LENGTH + 1, (n + 1) * LENGTH).includes(words[n * LENGTH] as number) ? 1 : 0));
  return { words, labels };
}

/** An embedding, a bidirectional LSTM and a GRU with dropout, trained by model.fit. */
export const recurrent: Program = {
  name: 'recurrent text classifier (layers)',
  async run(data) {
    const { words, labels } = sentences(data, 24);
    const xs = tf.tensor2d(Float32Array.from(words), [24, LENGTH]);
    const ys = tf.tensor2d(labels, [24, 1]);
    const glorot = layers.initializers.glorotUniform({ seed: 1 });
    const orthogonal = layers.initializers.orthogonal({ seed: 2, gain: 1 });
    const cell = { kernelInitializer: glorot, recurrentInitializer: orthogonal };
    const model = layers.sequential({
      layers: [
        layers.layers.embedding({ inputDim: WORDS, outputDim: 6, inputLength: LENGTH, embeddingsInitializer: layers.initializers.randomUniform({ minval: -0.5, maxval: 0.5, seed: 3 }) }),
        layers.layers.bidirectional({ layer: layers.layers.lstm({ units: 5, returnSequences: true, ...cell }) as unknown as layers.RNN, mergeMode: 'concat' }),
        layers.layers.gru({ units: 4, ...cell }),
        layers.layers.dense({ units: 1, activation: 'sigmoid', kernelInitializer: glorot }),
      ],
    });
    drawWeights(model, data);
    const optimizer = tf.train.adam(0.02);
    model.compile({ optimizer, loss: 'binaryCrossentropy' });
    const { history } = await model.fit(xs, ys, { epochs: 2, batchSize: 12, shuffle: false, verbose: 0 });
    const outcome = { loss: history.loss as number[], predicted: tf.tidy(() => (model.predict(xs) as tf.Tensor).dataSync()) };
    optimizer.dispose();
    model.dispose();
    tf.dispose([xs, ys]);
    return outcome;
  },
};

const WIDTH = 16;
const HEADS = 2;

/** One transformer block of core ops. x [B, T, C] -> [B, T, C], each position seeing the ones before it. */
function block(x: tf.Tensor, w: Record<string, tf.Tensor>): tf.Tensor {
  const [batch, time] = x.shape as [number, number];
  const dense = (t: tf.Tensor, matrix: tf.Tensor | undefined): tf.Tensor => tf.reshape(tf.matMul(tf.reshape(t, [batch * time, -1]) as tf.Tensor2D, matrix as tf.Tensor2D), [batch, time, -1]);
  const normalised = (t: tf.Tensor): tf.Tensor => {
    const { mean, variance } = tf.moments(t, -1, true);
    return tf.mul(tf.sub(t, mean), tf.rsqrt(tf.add(variance, 1e-5)));
  };
  const heads = (t: tf.Tensor): tf.Tensor => tf.transpose(tf.reshape(t, [batch, time, HEADS, WIDTH / HEADS]), [0, 2, 1, 3]);
  const [q, k, v] = tf.split(dense(normalised(x), w.qkv), 3, 2).map(heads) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const scores = tf.mul(tf.einsum('bhid,bhjd->bhij', q, k), 1 / Math.sqrt(WIDTH / HEADS));
  const causal = tf.linalg.bandPart(tf.ones([time, time]), -1, 0);
  const weights = tf.softmax(tf.where(tf.cast(tf.broadcastTo(causal, scores.shape), 'bool'), scores, tf.fill(scores.shape, -1e9)));
  const attended = tf.reshape(tf.transpose(tf.matMul(weights, v), [0, 2, 1, 3]), [batch, time, WIDTH]);
  const y = tf.add(x, dense(attended, w.project));
  const wide = dense(normalised(y), w.up);
  const gelu = tf.mul(tf.mul(wide, 0.5), tf.add(tf.erf(tf.div(wide, Math.SQRT2)), 1));
  return tf.add(y, dense(gelu, w.down));
}

/** A causal language model: token and position embeddings, one block, the embedding again as the output layer. */
export const transformer: Program = {
  name: 'transformer language model (core)',
  async run(data) {
    const { words } = sentences(data, 8);
    const tokens = tf.tensor2d(words, [8, LENGTH], 'int32');
    const weight = (rows: number, columns: number): tf.Variable => tf.tidy(() => tf.variable(tf.tensor2d(data.floats(rows * columns, (_, rng) => rng.normal() / Math.sqrt(rows)), [rows, columns])));
    const w = { words: weight(WORDS, WIDTH), positions: weight(LENGTH, WIDTH), qkv: weight(WIDTH, 3 * WIDTH), project: weight(WIDTH, WIDTH), up: weight(WIDTH, 2 * WIDTH), down: weight(2 * WIDTH, WIDTH) };
    const logits = (): tf.Tensor => {
      const x = tf.add(tf.gather(w.words as tf.Tensor, tokens), w.positions);
      return tf.reshape(tf.matMul(tf.reshape(block(x, w), [8 * LENGTH, WIDTH]) as tf.Tensor2D, w.words as unknown as tf.Tensor2D, false, true), [8, LENGTH, WORDS]);
    };
    const optimizer = tf.train.momentum(0.1, 0.9);
    const losses: number[] = [];
    for (let step = 0; step < 5; step++) {
      const loss = optimizer.minimize(() => {
        const next = tf.oneHot(tf.slice(tokens, [0, 1], [8, LENGTH - 1]), WORDS);
        return tf.losses.softmaxCrossEntropy(next, tf.slice(logits(), [0, 0, 0], [8, LENGTH - 1, WORDS]));
      }, true) as tf.Scalar;
      losses.push((await loss.data())[0] as number);
      loss.dispose();
    }
    const outcome = { losses, logits: tf.tidy(() => logits().dataSync()) };
    optimizer.dispose();
    tf.dispose([tokens, Object.values(w)]);
    return outcome;
  },
};

/** Tones told apart by their spectrograms: tf.signal.stft, logarithm, a convolution over time and frequency. */
export const audio: Program = {
  name: 'spectrogram classifier (core and layers)',
  async run(data) {
    const [count, samples] = [12, 512];
    const labels = Float32Array.from({ length: count }, (_, n) => n % 2);
    const wave = data.floats(count * samples, (i, rng) => Math.sin(((i % samples) * (labels[Math.floor(i / samples)] ? 0.9 : 0.3)) + rng.uniform() * 0.1));
    const spectrograms = tf.tidy(() => {
      const clips = tf.unstack(tf.tensor2d(wave, [count, samples])) as tf.Tensor1D[];
      return tf.expandDims(tf.stack(clips.map((clip) => tf.log(tf.add(tf.abs(tf.signal.stft(clip, 64, 32)), 1e-3)))), 3);
    });
    const ys = tf.tensor2d(labels, [count, 1]);
    const model = layers.sequential({
      layers: [
        layers.layers.conv2d({ inputShape: spectrograms.shape.slice(1) as [number, number, number], filters: 4, kernelSize: [3, 5], strides: 2, activation: 'relu', kernelInitializer: layers.initializers.heNormal({ seed: 6 }) }),
        layers.layers.averagePooling2d({ poolSize: [2, 2] }),
        layers.layers.flatten(),
        layers.layers.dense({ units: 1, activation: 'sigmoid', kernelInitializer: layers.initializers.glorotNormal({ seed: 7 }) }),
      ],
    });
    const optimizer = tf.train.sgd(0.02);
    model.compile({ optimizer, loss: 'binaryCrossentropy' });
    const { history } = await model.fit(spectrograms, ys, { epochs: 3, batchSize: 6, shuffle: false, verbose: 0 });
    const outcome = { spectrograms: spectrograms.dataSync(), loss: history.loss as number[], predicted: tf.tidy(() => (model.predict(spectrograms) as tf.Tensor).dataSync()) };
    optimizer.dispose();
    model.dispose();
    tf.dispose([spectrograms, ys]);
    return outcome;
  },
};
