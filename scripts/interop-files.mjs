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
const { encoderFromConfig, inferConfig, loadPretrained, readWeights, writeWeights } = require('../dist/models');
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
for (const { name, state, config } of models()) {
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
