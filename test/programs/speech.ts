import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import '../../ts/node';
import type { Program, Source } from './program';

const SAMPLES = 1024;
const init = (seed: number): ReturnType<typeof layers.initializers.glorotNormal> => layers.initializers.glorotNormal({ seed });

/** Clips of rising, steady or falling tones, told apart by `kind`: their normalised log spectrograms [N, 15, 65, 1]. */
function clips(data: Source, kinds: number[]): { xs: tf.Tensor4D; ys: tf.Tensor2D } {
  const bends = [0.5, 0, -0.5, 1];
  const wave = data.floats(kinds.length * SAMPLES, (i, rng) => {
    const [clip, t] = [Math.floor(i / SAMPLES), (i % SAMPLES) / SAMPLES];
    return Math.sin(SAMPLES * (1 + (bends[kinds[clip] as number] as number) * (t - 0.5)) * t) + 0.2 * rng.uniform();
  });
  return tf.tidy(() => {
    const spectra = (tf.unstack(tf.tensor2d(wave, [kinds.length, SAMPLES])) as tf.Tensor1D[]).map((clip) => tf.log(tf.add(tf.abs(tf.signal.stft(clip, 128, 64, 128, tf.signal.hannWindow)), 1e-2)));
    const all = tf.stack(spectra);
    const { mean, variance } = tf.moments(all, [1, 2], true);
    const known = [...new Set(kinds)];
    return {
      xs: tf.expandDims(tf.div(tf.sub(all, mean), tf.sqrt(variance)), 3) as tf.Tensor4D,
      ys: tf.cast(tf.oneHot(tf.tensor1d(kinds.map((kind) => known.indexOf(kind)), 'int32'), known.length), 'float32') as tf.Tensor2D,
    };
  });
}

function recogniser(): layers.Sequential {
  return layers.sequential({
    layers: [
      layers.layers.conv2d({ inputShape: [15, 65, 1], filters: 6, kernelSize: [2, 8], activation: 'relu', kernelInitializer: init(1) }),
      layers.layers.maxPooling2d({ poolSize: [2, 2], strides: [2, 2] }),
      layers.layers.conv2d({ filters: 8, kernelSize: [2, 4], activation: 'relu', kernelInitializer: init(2) }),
      layers.layers.maxPooling2d({ poolSize: [2, 2], strides: [1, 2] }),
      layers.layers.flatten(),
      layers.layers.dense({ units: 10, activation: 'relu', name: 'features', kernelInitializer: init(3) }),
      layers.layers.dense({ units: 3, activation: 'softmax', kernelInitializer: init(4) }),
    ],
  });
}

/** A recogniser of sounds: trained, saved, loaded; then, its layers frozen, a new head for other sounds, trained, saved, loaded. */
export const speech: Program = {
  name: 'speech commands with transfer learning (core and layers)',
  async run(data) {
    const folder = mkdtempSync(join(tmpdir(), 'simmim-program-'));
    const [first, second] = [clips(data, [0, 1, 2, 0, 1, 2, 0, 1, 2]), clips(data, [0, 3, 0, 3, 0, 3])];
    const model = recogniser();
    const optimizer = tf.train.adam(0.01);
    model.compile({ optimizer, loss: 'categoricalCrossentropy', metrics: ['accuracy'] });
    const fit = async (m: layers.LayersModel, { xs, ys }: typeof first): Promise<number[]> => (await m.fit(xs, ys, { epochs: 2, batchSize: 3, shuffle: false, verbose: 0 })).history.loss as number[];
    const loss = await fit(model, first);
    await model.save(`file://${folder}/base`);
    const base = await layers.loadLayersModel(`file://${folder}/base/model.json`);
    const inside = base.getLayer('features');
    for (const layer of base.layers) layer.trainable = false;
    const head = layers.layers.dense({ units: 2, activation: 'softmax', name: 'head', kernelInitializer: init(5) });
    const whole = layers.model({ inputs: base.inputs, outputs: head.apply(inside.output) as layers.SymbolicTensor });
    const headOptimizer = tf.train.sgd(0.1);
    whole.compile({ optimizer: headOptimizer, loss: 'categoricalCrossentropy' });
    const headLoss = await fit(whole, second);
    await whole.save(`file://${folder}/whole`);
    const again = await layers.loadLayersModel(`file://${folder}/whole/model.json`);
    rmSync(folder, { recursive: true });
    const values = (m: layers.LayersModel, x: tf.Tensor): ArrayLike<number> => tf.tidy(() => (m.predict(x) as tf.Tensor).dataSync());
    const outcome = { spectrograms: first.xs.dataSync(), loss, base: values(base, first.xs), headLoss, whole: values(whole, second.xs), again: values(again, second.xs), frozen: (inside.getWeights()[0] as tf.Tensor).dataSync() };
    for (const made of [optimizer, headOptimizer, model, base, again]) made.dispose();
    tf.dispose([head.getWeights(), first, second]);
    return outcome;
  },
};
