// First half of check-interop.py: writes every golden model in every layout that holds it, with inputs and our outputs.
// Usage: node scripts/interop-files.mjs FOLDER   (needs `npm run build:ts`; golden fixtures in GOLDEN_DIR or ../shared/golden)
import { createRequire } from 'node:module';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const tf = require('@tensorflow/tfjs-core');
require('@tensorflow/tfjs-backend-cpu');
const { encoderFromConfig, inferConfig, loadPretrained, modelConfig, readWeights, writeWeights } = require('../dist/models');
const { Classifier, SimMIM } = require('../dist/simmim');
const { namedParameters } = require('../dist/nn/module');
const { encodeSafetensors, fromFloat32, readSafetensors } = require('../dist/formats/safetensors');

const golden = process.env.GOLDEN_DIR ?? join(root, '../shared/golden');
const out = process.argv[2];
if (!out) throw new Error('usage: interop-files.mjs FOLDER');

/** Every golden model: its name, state in official names and configuration. */
function* models() {
  for (const file of readdirSync(golden).filter((f) => /^(simmim|finetune)_.*\.json$/.test(f))) {
    const name = file.slice(0, -5);
    const { model } = JSON.parse(readFileSync(join(golden, file), 'utf8'));
    const state = new Map();
    for (const [key, tensor] of readSafetensors(join(golden, `${name}.safetensors`)).tensors) if (key.startsWith('param/')) state.set(key.slice(6), tensor);
    const config = inferConfig(state, { imageSize: model.img_size, windowSize: model.window_size, heads: model.num_heads });
    config.encoder.layerNormEps = model.layer_norm_eps;
    if (model.pretrained_window_sizes?.some((w) => w > 0)) config.encoder.pretrainedWindowSizes = model.pretrained_window_sizes.slice(0, model.depths.length);
    yield { name, state, config };
  }
  for (const name of ['hf_swin_mim', 'hf_swinv2_mim', 'hf_vit_mim', 'timm_swin', 'timm_swinv2', 'timm_vit', 'checkpoints_pth/ckpt_zip.pth']) {
    const { state, config } = readWeights(join(golden, name));
    yield { name: name.replace(/.*\//, ''), state, config };
  }
}

/** Shapes that the fixtures lack: rectangles, other channels, no biases, LayerScale and mean pooling in a plain ViT. */
function* variants() {
  const swin = { imageSize: [64, 96], inChannels: 4, embedDim: 8, depths: [2, 2], heads: [1, 2], windowSize: 4, mlpRatio: 2 };
  const vit = { imageSize: [32, 48], patchSize: 8, inChannels: 2, embedDim: 16, depth: 2, heads: 2, relativeBias: 'none', absolutePosition: true, keyBias: true, mlpRatio: 3 };
  const list = {
    swin_rectangle: ['swin', swin, 5], swin_thin: ['swin', { ...swin, imageSize: [32, 64] }, 5], swinv2_thin: ['swinv2', { ...swin, imageSize: [64, 32] }, 5], swin_no_bias: ['swin', { ...swin, imageSize: 32, qkvBias: false }, 0],
    swinv2_rectangle: ['swinv2', { ...swin, pretrainedWindowSizes: [6, 6] }, 5], swinv2_no_bias: ['swinv2', { ...swin, imageSize: 32, qkvBias: false }, 0],
    vit_channels: ['vit', { ...vit, imageSize: 32, layerScale: null, layerNormEps: 1e-12 }, 0], vit_class_token: ['vit', { ...vit, layerScale: null }, 5],
    vit_mean_pooling: ['vit', { ...vit, finalNorm: false }, 5], beit: ['vit', { ...vit, imageSize: 48, keyBias: false, absolutePosition: false, relativeBias: 'per_block', finalNorm: false }, 5],
  };
  for (const [name, [family, options, classes]] of Object.entries(list)) {
    const config = modelConfig(family, { ...options, seed: 3 }, classes);
    const model = classes > 0 ? new Classifier(encoderFromConfig(config), { classes, seed: 4 }) : new SimMIM(encoderFromConfig(config), { seed: 4 });
    const state = new Map();
    // Fresh weights are small and many biases zero: shifted, so that every tensor shows in the output.
    let shift = 0;
    for (const [key, parameter] of namedParameters(model)) {
      const values = Float32Array.from(parameter.value.dataSync(), (v, i) => v + 0.2 * Math.sin(++shift + i));
      state.set(key, fromFloat32(values, [...parameter.shape]));
    }
    yield { name, state, config };
  }
}

/** Outputs of our model on random pictures: reconstruction or logits, and the encoder's map without mask. */
function outputs(state, config) {
  const encoder = encoderFromConfig(config);
  const ctx = { training: false, precision: 'f32', clock: tf.tensor1d([0, 0, 0, 0], 'int32') };
  const [height, width] = encoder.imageSize;
  const images = tf.randomNormal([2, encoder.inChannels, height, width], 0, 1, 'float32', 7);
  const result = { images };
  const pretrained = state.has('decoder.0.weight');
  const model = pretrained ? new SimMIM(encoder) : new Classifier(encoder, { classes: config.classes });
  loadPretrained(namedParameters(model), state, { strict: true });
  if (pretrained) {
    const cells = [2, height / encoder.patchSize, width / encoder.patchSize];
    result.mask = tf.cast(tf.less(tf.randomUniform(cells, 0, 1, 'float32', 8), 0.6), 'float32');
    result.reconstruction = model.reconstruct(images, result.mask, ctx);
  } else result.logits = model.logits(images, ctx);
  // timm's ViT keeps the class token in its features.
  result.features = config.family === 'vit' ? encoder.tokens(images, null, ctx) : encoder.forward(images, null, ctx);
  return Object.entries(result).map(([name, tensor]) => [name, fromFloat32(Float32Array.from(tensor.dataSync()), tensor.shape)]);
}

await tf.setBackend('cpu');
const cases = [];
for (const { name, state, config } of [...models(), ...variants()]) {
  const io = Buffer.concat(encodeSafetensors(outputs(state, config)));
  for (const layout of ['huggingface', 'timm']) {
    const folder = join(out, `${name}.${layout}`);
    try {
      const { notes } = writeWeights(folder, layout, state, config);
      writeFileSync(join(folder, 'io.safetensors'), io);
      cases.push({ name, layout, folder, notes, eps: config.encoder.layerNormEps });
    } catch (error) {
      if (error.name !== 'SimmimError') throw error;
      cases.push({ name, layout, refused: error.message });
    }
  }
}
mkdirSync(out, { recursive: true });
writeFileSync(join(out, 'cases.json'), JSON.stringify(cases, null, 1));
