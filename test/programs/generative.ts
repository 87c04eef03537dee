import * as tf from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import type { Program } from './program';

const SIZE = 8;
const LATENT = 6;
const CLASSES = 3;

const init = (seed: number): ReturnType<typeof layers.initializers.glorotNormal> => layers.initializers.glorotNormal({ seed });

/** Noise and a class -> a picture [8, 8, 1]. */
function generator(): layers.LayersModel {
  const [noise, label] = [layers.input({ shape: [LATENT] }), layers.input({ shape: [1] })];
  const embedded = layers.layers.embedding({ inputDim: CLASSES, outputDim: LATENT, embeddingsInitializer: init(1) }).apply(label) as layers.SymbolicTensor;
  const seed = layers.layers.multiply().apply([noise, layers.layers.flatten().apply(embedded) as layers.SymbolicTensor]) as layers.SymbolicTensor;
  const body = layers.sequential({
    layers: [
      layers.layers.dense({ inputShape: [LATENT], units: 2 * 2 * 12, activation: 'relu', kernelInitializer: init(2) }),
      layers.layers.reshape({ targetShape: [2, 2, 12] }),
      layers.layers.conv2dTranspose({ filters: 8, kernelSize: 5, strides: 2, padding: 'same', activation: 'relu', kernelInitializer: init(3) }),
      layers.layers.batchNormalization(),
      layers.layers.conv2dTranspose({ filters: 1, kernelSize: 5, strides: 2, padding: 'same', activation: 'tanh', kernelInitializer: init(4) }),
    ],
  });
  return layers.model({ inputs: [noise, label], outputs: body.apply(seed) as layers.SymbolicTensor });
}

/** A picture -> whether it is a real one, and its class. */
function discriminator(): layers.LayersModel {
  const body = layers.sequential({
    layers: [
      layers.layers.conv2d({ inputShape: [SIZE, SIZE, 1], filters: 6, kernelSize: 3, strides: 2, padding: 'same', kernelInitializer: init(5) }),
      layers.layers.leakyReLU({ alpha: 0.2 }),
      layers.layers.dropout({ rate: 0.3, seed: 6 }),
      layers.layers.conv2d({ filters: 8, kernelSize: 3, padding: 'same', kernelInitializer: init(7) }),
      layers.layers.leakyReLU({ alpha: 0.2 }),
      layers.layers.flatten(),
    ],
  });
  const image = layers.input({ shape: [SIZE, SIZE, 1] });
  const features = body.apply(image) as layers.SymbolicTensor;
  const head = (units: number, activation: 'sigmoid' | 'softmax', seed: number): layers.SymbolicTensor => layers.layers.dense({ units, activation, kernelInitializer: init(seed) }).apply(features) as layers.SymbolicTensor;
  return layers.model({ inputs: image, outputs: [head(1, 'sigmoid', 8), head(CLASSES, 'softmax', 9)] });
}

/** A generator against a discriminator that also names the class: two models, two optimizers, trained in turns batch by batch. */
export const adversaries: Program = {
  name: 'generative adversarial networks with classes (layers)',
  async run(data) {
    const batch = 6;
    const loss = ['binaryCrossentropy', 'sparseCategoricalCrossentropy'];
    const [critic, maker] = [discriminator(), generator()];
    const optimizers = [tf.train.adam(0.01, 0.5), tf.train.adam(0.01, 0.5)] as const;
    critic.compile({ optimizer: optimizers[0], loss });
    const [noise, label] = [layers.input({ shape: [LATENT] }), layers.input({ shape: [1] })];
    critic.trainable = false;
    const outputs = critic.apply(maker.apply([noise, label]) as layers.SymbolicTensor) as layers.SymbolicTensor[];
    const combined = layers.model({ inputs: [noise, label], outputs });
    combined.compile({ optimizer: optimizers[1], loss });
    critic.trainable = true;
    const losses: number[] = [];
    for (let step = 0; step < 3; step++) {
      const drawn = data.integers(2 * batch, (_, rng) => rng.uniform() * CLASSES);
      const real = tf.tensor4d(data.floats(batch * SIZE * SIZE, (i, rng) => ((drawn[Math.floor(i / (SIZE * SIZE))] as number) - 1) * 0.8 + 0.2 * rng.uniform()), [batch, SIZE, SIZE, 1]);
      const latent = tf.tensor2d(data.floats(batch * LATENT, (_, rng) => 2 * rng.uniform() - 1), [batch, LATENT]);
      const classes = tf.tensor2d(Float32Array.from(drawn), [2 * batch, 1]);
      const made = tf.tidy(() => maker.predict([latent, tf.slice(classes, batch)]) as tf.Tensor);
      const [images, realness, some, yes] = tf.tidy(() => [tf.concat([real, made]), tf.concat([tf.mul(tf.ones([batch, 1]), 0.95), tf.zeros([batch, 1])]), tf.slice(classes, batch), tf.ones([batch, 1])]) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      losses.push(...(await critic.trainOnBatch(images, [realness, classes]) as number[]));
      losses.push(...(await combined.trainOnBatch([latent, some], [yes, some]) as number[]));
      tf.dispose([real, latent, classes, made, images, realness, some, yes]);
    }
    const pictures = tf.tidy(() => (maker.predict([tf.fill([CLASSES, LATENT], 0.5), tf.tensor2d([0, 1, 2], [CLASSES, 1])]) as tf.Tensor).dataSync());
    for (const made of [...optimizers, critic, maker]) made.dispose();
    return { losses, pictures };
  },
};

type Weights = Record<'enter' | 'inner' | 'leave', tf.Variable<tf.Rank.R4>>;

/** Zero mean and unit variance in each channel of each picture. */
function normalised(x: tf.Tensor4D): tf.Tensor4D {
  const { mean, variance } = tf.moments(x, [1, 2], true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-3)));
}

/** Pictures [B, 12, 12, 3] -> pictures: down, a residual block, up again, each convolution over mirrored borders. */
function painted(x: tf.Tensor4D, w: Weights): tf.Tensor4D {
  const mirrored = (t: tf.Tensor4D): tf.Tensor4D => tf.mirrorPad(t, [[0, 0], [1, 1], [1, 1], [0, 0]], 'reflect');
  const small = tf.relu(normalised(tf.conv2d(mirrored(x), w.enter, 2, 'valid')));
  const block = tf.add(small, normalised(tf.conv2d(mirrored(small), w.inner, 1, 'valid'))) as tf.Tensor4D;
  const large = tf.image.resizeNearestNeighbor(block, [12, 12]);
  return tf.mul(tf.add(tf.tanh(tf.conv2d(mirrored(large), w.leave, 1, 'valid')), 1), 0.5);
}

/** Products of channels, summed over the picture: what its style is. [B, H, W, C] -> [B, C, C] */
function gram(x: tf.Tensor4D): tf.Tensor {
  const [batch, height, width, channels] = x.shape;
  const flat = tf.reshape(x, [batch, height * width, channels]) as tf.Tensor3D;
  return tf.div(tf.matMul(flat, flat, true), height * width);
}

/** A network that paints pictures in the style of another one, judged by features of a fixed convolution. */
export const painter: Program = {
  name: 'style transfer (core)',
  async run(data) {
    const filter = (...shape: [number, number, number, number]): tf.Tensor4D => tf.tensor4d(data.floats(shape.reduce((a, b) => a * b, 1), (_, rng) => rng.normal() / Math.sqrt(shape[0] * shape[1] * shape[2])), shape);
    const w = tf.tidy(() => ({ enter: tf.variable(filter(3, 3, 3, 6)), inner: tf.variable(filter(3, 3, 6, 6)), leave: tf.variable(filter(3, 3, 6, 3)) }));
    const judge = filter(3, 3, 3, 5);
    // One picture: for several, the cpu backend takes the gradient of resizeNearestNeighbor from the wrong ones.
    const [content, style] = [5, 8].map((period) => tf.tensor4d(data.floats(12 * 12 * 3, (i, rng) => 0.5 + 0.3 * Math.sin(i / period) + 0.2 * rng.uniform()), [1, 12, 12, 3])) as [tf.Tensor4D, tf.Tensor4D];
    const seen = (x: tf.Tensor4D): tf.Tensor4D => tf.avgPool(tf.elu(tf.conv2d(x, judge, 1, 'same')), 2, 2, 'valid');
    const optimizer = tf.train.momentum(0.05, 0.9, true);
    const losses: number[] = [];
    for (let step = 0; step < 5; step++) {
      const loss = optimizer.minimize(() => {
        const made = painted(content, w);
        const differences = tf.sub(tf.slice(made, [0, 1, 0, 0], [-1, 11, -1, -1]), tf.slice(made, [0, 0, 0, 0], [-1, 11, -1, -1]));
        const parts = [tf.losses.meanSquaredError(seen(content), seen(made)), tf.losses.meanSquaredError(gram(seen(style)), gram(seen(made))), tf.mul(tf.mean(tf.abs(differences)), 0.01)];
        return tf.addN(parts) as tf.Scalar;
      }, true) as tf.Scalar;
      losses.push((await loss.data())[0] as number);
      loss.dispose();
    }
    const outcome = { losses, pictures: tf.tidy(() => tf.clipByValue(painted(content, w), 0, 1).dataSync()) };
    optimizer.dispose();
    tf.dispose([judge, content, style, Object.values(w)]);
    return outcome;
  },
};
