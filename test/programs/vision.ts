import * as tf from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import type { Program, Source } from './program';

const SIZE = 12;
const CLASSES = 3;

/** Pictures of a horizontal bar, a vertical bar or a square, with noise. */
function shapes(data: Source, count: number): { xs: tf.Tensor4D; ys: tf.Tensor2D } {
  const labels = data.integers(count, (_, rng) => rng.uniform() * CLASSES);
  const at = data.integers(count, (_, rng) => 2 + rng.uniform() * (SIZE - 6));
  const pixels = data.floats(count * SIZE * SIZE, (i, rng) => {
    const image = Math.floor(i / (SIZE * SIZE));
    const [row, column] = [Math.floor(i / SIZE) % SIZE, i % SIZE].map((v) => v - (at[image] as number)) as [number, number];
    const [inRow, inColumn] = [row >= 0 && row < 3, column >= 0 && column < 3];
    const lit = labels[image] === 0 ? inRow : labels[image] === 1 ? inColumn : inRow && inColumn;
    return (lit ? 0.8 : 0.1) + 0.1 * rng.uniform();
  });
  return { xs: tf.tensor4d(pixels, [count, SIZE, SIZE, 1]), ys: tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d(labels, 'int32'), CLASSES), 'float32') as tf.Tensor2D) };
}

const init = (seed: number): ReturnType<typeof layers.initializers.heNormal> => layers.initializers.heNormal({ seed });

/** A convolutional classifier with batch normalisation and dropout, trained by model.fit, as the MNIST examples are. */
export const convnet: Program = {
  name: 'convolutional classifier (layers)',
  async run(data) {
    const { xs, ys } = shapes(data, 32);
    const model = layers.sequential({
      layers: [
        layers.layers.conv2d({ inputShape: [SIZE, SIZE, 1], filters: 8, kernelSize: 3, activation: 'relu', kernelInitializer: init(1) }),
        layers.layers.batchNormalization(),
        layers.layers.maxPooling2d({ poolSize: 2 }),
        layers.layers.separableConv2d({ filters: 8, kernelSize: 3, padding: 'same', activation: 'relu', depthwiseInitializer: init(2), pointwiseInitializer: init(3) }),
        layers.layers.globalAveragePooling2d({}),
        layers.layers.dropout({ rate: 0.25, seed: 4 }),
        layers.layers.dense({ units: CLASSES, activation: 'softmax', kernelInitializer: init(5) }),
      ],
    });
    const optimizer = tf.train.adam(0.02);
    model.compile({ optimizer, loss: 'categoricalCrossentropy', metrics: ['accuracy'] });
    const { history } = await model.fit(xs, ys, { epochs: 3, batchSize: 16, shuffle: false, verbose: 0 });
    const evaluated = tf.tidy(() => (model.evaluate(xs, ys, { verbose: 0 }) as tf.Scalar[]).map((t) => t.dataSync()[0] as number));
    const predicted = tf.tidy(() => (model.predict(xs) as tf.Tensor).dataSync());
    const outcome = { loss: history.loss as number[], evaluated, predicted };
    optimizer.dispose();
    model.dispose();
    tf.dispose([xs, ys]);
    return outcome;
  },
};

/** A variational autoencoder of dense layers, written with core ops and one optimizer over variables. */
export const autoencoder: Program = {
  name: 'variational autoencoder (core)',
  async run(data) {
    const { xs, ys } = shapes(data, 32);
    const x = tf.reshape(xs, [32, SIZE * SIZE]) as tf.Tensor2D;
    const noise = tf.tensor2d(data.floats(32 * 4, (_, rng) => rng.normal()), [32, 4]);
    const weight = (rows: number, columns: number): tf.Variable => tf.tidy(() => tf.variable(tf.tensor2d(data.floats(rows * columns, (_, rng) => rng.normal() / Math.sqrt(rows)), [rows, columns])));
    const w = { encode: weight(SIZE * SIZE, 24), mean: weight(24, 4), logVariance: weight(24, 4), decode: weight(4, 24), out: weight(24, SIZE * SIZE) };
    const times = (a: tf.Tensor, b: tf.Tensor): tf.Tensor2D => tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D);
    const optimizer = tf.train.rmsprop(0.005);
    const losses: number[] = [];
    for (let step = 0; step < 10; step++) {
      const loss = optimizer.minimize(() => {
        const hidden = tf.elu(times(x, w.encode));
        const [mean, logVariance] = [times(hidden, w.mean), times(hidden, w.logVariance)];
        const z = tf.add(mean, tf.mul(noise, tf.exp(tf.mul(logVariance, 0.5))));
        const logits = times(tf.softplus(times(z, w.decode)), w.out);
        const reconstruction = tf.losses.sigmoidCrossEntropy(x, logits);
        const divergence = tf.mul(tf.mean(tf.sub(tf.add(tf.square(mean), tf.exp(logVariance)), tf.add(logVariance, 1))), 0.05);
        return tf.add(reconstruction, divergence) as tf.Scalar;
      }, true) as tf.Scalar;
      losses.push((await loss.data())[0] as number);
      loss.dispose();
    }
    const outcome = { losses, decoder: w.decode.dataSync() };
    optimizer.dispose();
    tf.dispose([xs, ys, x, noise, Object.values(w)]);
    return outcome;
  },
};

/** What follows an object detector: boxes decoded from anchors, suppression per class, crops of the survivors. */
export const detection: Program = {
  name: 'detection post-processing (core)',
  async run(data) {
    const anchors = 64;
    const raw = tf.tensor2d(data.floats(anchors * 4, (_, rng) => rng.normal() * 0.2), [anchors, 4]);
    const logits = tf.tensor2d(data.floats(anchors * 3, (_, rng) => rng.normal()), [anchors, 3]);
    const image = tf.tensor4d(data.floats(24 * 24 * 3, (_, rng) => rng.uniform()), [1, 24, 24, 3]);
    const centers = tf.tensor2d(Float32Array.from({ length: anchors * 2 }, (_, i) => ((i % 2 ? (i >> 1) % 8 : i >> 4) + 0.5) / 8), [anchors, 2]);
    const { boxes, scores, best } = tf.tidy(() => {
      const [offset, size] = tf.split(raw, 2, 1) as [tf.Tensor2D, tf.Tensor2D];
      const middle = tf.add(centers, tf.mul(offset, 0.1));
      const half = tf.mul(tf.exp(size), 0.1);
      const probabilities = tf.sigmoid(logits);
      return { boxes: tf.clipByValue(tf.concat([tf.sub(middle, half), tf.add(middle, half)], 1), 0, 1) as tf.Tensor2D, scores: tf.max(probabilities, 1) as tf.Tensor1D, best: tf.argMax(probabilities, 1) };
    });
    const kept = await tf.image.nonMaxSuppressionAsync(boxes, scores, 10, 0.3, 0.4);
    const soft = (await tf.image.nonMaxSuppressionWithScoreAsync(boxes, scores, 10, 0.5, 0.2, 0.5)) as { selectedIndices: tf.Tensor1D; selectedScores: tf.Tensor1D };
    const padded = tf.image.nonMaxSuppressionPadded(boxes, scores, 16, 0.3, 0.5, true) as { selectedIndices: tf.Tensor1D; validOutputs: tf.Scalar };
    const crops = tf.tidy(() => tf.image.resizeBilinear(tf.image.cropAndResize(image, tf.gather(boxes, kept), tf.zerosLike(kept), [6, 6]), [4, 4], true));
    const outcome = { kept: kept.dataSync(), softKept: soft.selectedIndices.dataSync(), softScores: soft.selectedScores.dataSync(), padded: padded.selectedIndices.dataSync(), valid: padded.validOutputs.dataSync(), classes: tf.tidy(() => tf.gather(best, kept).dataSync()), crops: crops.dataSync() };
    tf.dispose([raw, logits, image, centers, boxes, scores, best, kept, soft, padded, crops]);
    return outcome;
  },
};
