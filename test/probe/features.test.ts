import * as tf from '@tensorflow/tfjs-core';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import '../../ts/backend';
import { openImageFolder, openPipeline, type ImageDataset } from '../../ts/data';
import { readNpy } from '../../ts/formats/npy';
import { readSafetensors, toFloat32 } from '../../ts/formats/safetensors';
import { createEncoder, encoderFromConfig, featurePyramid, loadPretrained, pyramidLevels, readWeights, type Encoder, type ModelConfig } from '../../ts/models';
import { namedParameters } from '../../ts/nn/module';
import { openEncoder } from '../../ts/probe/encoder_source';
import { extractFeatures } from '../../ts/probe/feature_set';
import { chooseLayers, forwardLayers, layersOf, patchTokens, pooled } from '../../ts/probe/layers';
import { RowWriter } from '../../ts/probe/row_file';
import { Rng } from '../../ts/rng';
import { goldenDir } from '../helpers/golden';

const golden = (path: string): string => join(goldenDir(), path);

const dir = mkdtempSync(join(tmpdir(), 'simmim-features-'));
let set: ImageDataset;
beforeAll(async () => {
  await tf.setBackend('simmim-cpu');
  const rng = new Rng(3);
  for (const name of ['ant', 'bee']) {
    mkdirSync(join(dir, 'set', name), { recursive: true });
    for (let i = 0; i < 5; i++) writeFileSync(join(dir, 'set', name, `${i}.png`), await sharp(Uint8Array.from({ length: 16 * 16 * 3 }, () => rng.below(256)), { raw: { width: 16, height: 16, channels: 3 } }).png().toBuffer());
  }
  writeFileSync(join(dir, 'set/ant/2.png'), 'broken');
  set = openImageFolder(join(dir, 'set'));
});
afterAll(() => rmSync(dir, { recursive: true }));

const ENCODERS: [string, () => Encoder, string[]][] = [
  ['vit', () => createEncoder('vit_small', { imageSize: 16, patchSize: 4, embedDim: 8, depth: 2, heads: 2 }), ['tokens', 'blocks.0', 'blocks.1', 'norm']],
  ['swin', () => createEncoder('swin_tiny', { imageSize: 16, patchSize: 2, embedDim: 8, depths: [1, 2], heads: [1, 2], windowSize: 4 }), ['tokens', 'layers.0.blocks.0', 'layers.1.blocks.0', 'layers.1.blocks.1', 'norm']],
  ['swinv2', () => createEncoder('swinv2_tiny', { imageSize: 16, patchSize: 2, embedDim: 8, depths: [1, 1], heads: [1, 2], windowSize: 4 }), ['tokens', 'layers.0.blocks.0', 'layers.1.blocks.0', 'norm']],
];
const images = (count: number): tf.Tensor4D => {
  const rng = new Rng(6);
  return tf.tensor4d(Float32Array.from({ length: count * 3 * 256 }, () => rng.normal()), [count, 3, 16, 16]);
};

describe.each(ENCODERS)('%s', (_, make, names) => {
  test('has these layers, of these widths, and each gives its output', () => {
    const encoder = make();
    const layers = layersOf(encoder);
    expect(layers.map((l) => l.name)).toEqual(names);
    const before = tf.memory().numTensors;
    const x = images(2);
    const found = forwardLayers(encoder, x, layers, (output) => pooled(output, 'mean'));
    for (const layer of layers) expect(found.get(layer.name)?.shape).toEqual([2, layer.channels]);
    tf.tidy(() => {
      const context = { training: false, precision: 'f32' as const, clock: tf.zeros([4], 'int32') };
      const means = tf.mean(encoder.forward(x, null, context), [1, 2]).dataSync();
      found.get('norm')?.dataSync().forEach((v, i) => expect(Math.abs(v - (means[i] as number))).toBeLessThan(1e-5));
    });
    tf.dispose([x, ...found.values()]);
    expect(tf.memory().numTensors).toBe(before + [...namedParameters(encoder).values()].filter((p) => p.allocated).length + constants(encoder));
  });

  test('the pyramid is the stages, or blocks, at their strides', () => {
    const encoder = make();
    const x = images(2);
    tf.tidy(() => {
      const context = { training: false, precision: 'f32' as const, clock: tf.zeros([4], 'int32') };
      const all = encoder.features(x, context);
      const levels = pyramidLevels(encoder, { levels: all.map((_, i) => i) });
      const maps = featurePyramid(encoder, x, context, { levels: all.map((_, i) => i) });
      maps.forEach((map, i) => {
        expect(map.shape).toEqual([2, ...(levels[i]?.size ?? []), levels[i]?.channels]);
        expect(map.shape[1]).toBe(16 / (levels[i]?.stride ?? 1));
        expect([...map.dataSync()]).toEqual([...(all[i]?.dataSync() ?? [])]);
      });
    });
    x.dispose();
    expect(() => pyramidLevels(encoder, { levels: [9] })).toThrow(/featurePyramid: level 9 does not exist/);
  });
});

/** Kept index tables and the like, which a model makes on its first use. */
function constants(encoder: Encoder): number {
  let count = 0;
  const seen = new Set<object>();
  const walk = (node: object): void => {
    if (seen.has(node)) return;
    seen.add(node);
    for (const value of Object.values(node)) if (typeof value === 'object' && value !== null && !(value instanceof tf.Tensor)) walk(value as object);
    if ('make' in node && (node as { tensor?: unknown }).tensor) count++;
  };
  walk(encoder);
  return count;
}

test("a ViT's pyramid: four quarters, and resampled to strides p/4 to 2p", () => {
  const encoder = createEncoder('vit_small', { imageSize: 16, patchSize: 4, embedDim: 8, depth: 8, heads: 2 });
  expect(pyramidLevels(encoder).map((l) => l.name)).toEqual(['blocks.1', 'blocks.3', 'blocks.5', 'blocks.7']);
  const x = images(1);
  const maps = tf.tidy(() => featurePyramid(encoder, x, { training: false, precision: 'f32', clock: tf.zeros([4], 'int32') }, { resample: true }));
  expect(maps.map((m) => m.shape)).toEqual([[1, 16, 16, 8], [1, 8, 8, 8], [1, 4, 4, 8], [1, 2, 2, 8]]);
  expect(pyramidLevels(encoder, { resample: true }).map((l) => l.stride)).toEqual([1, 2, 4, 8]);
  tf.dispose([x, ...maps]);
  expect(() => pyramidLevels(encoder, { resample: true, levels: [0] })).toThrow(/needs four levels and a patch size that 4 divides, got 1 levels/);
  expect(() => pyramidLevels(createEncoder('swin_tiny'), { resample: true })).toThrow(/resample is for plain encoders/);
});

test('layers are chosen by number, name and word', () => {
  const encoder = createEncoder('swin_tiny', { imageSize: 16, patchSize: 2, embedDim: 8, depths: [1, 2], heads: [1, 2], windowSize: 4 });
  expect(chooseLayers(encoder, '2, norm,last,tokens').map((l) => l.name)).toEqual(['layers.1.blocks.0', 'norm', 'layers.1.blocks.1', 'tokens']);
  expect(() => chooseLayers(encoder, '4')).toThrow(/there is no block 4: swin_tiny has blocks 1 to 3/);
  expect(() => chooseLayers(encoder, 'nrm')).toThrow(/unknown layer 'nrm'; did you mean 'norm'/);
  expect(() => pooled(tf.zeros([1, 2, 2, 3]), 'cls')).toThrow(/only a ViT has a class token/);
  expect([...patchTokens(tf.tensor3d([[[1], [2], [3]]])).dataSync()]).toEqual([2, 3]);
});

test.each(['npy', 'safetensors'] as const)('extracted to %s: the rows are those of each picture alone, broken ones are left out', async (format) => {
  const encoder = createEncoder('vit_small', { imageSize: 16, patchSize: 4, embedDim: 8, depth: 1, heads: 2 });
  const layers = layersOf(encoder).slice(1);
  const open = (batchSize: number): ReturnType<typeof openPipeline> => openPipeline(set, { batchSize, seed: 0, workers: 0, shuffle: false, dropLast: false, maxBrokenShare: 0.5, onBroken: () => undefined, transform: { size: [16, 16], crop: 'center', resizeRatio: 1 } });
  const source = open(4);
  const folder = join(dir, format);
  const found = await extractFeatures(encoder, source, layers, folder, { format });
  await source.close();
  expect(found.files).toEqual(set.samples.map((s) => s.name).filter((n) => n !== 'ant/2.png'));
  expect([...found.labels]).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 1]);
  expect(found.broken).toEqual(['ant/2.png']);
  expect(readFileSync(join(folder, 'files.csv'), 'utf8').split('\n').slice(0, 2)).toEqual(['file,index,label', 'ant/0.png,0,ant']);
  const file = join(folder, `blocks.0.${format}`);
  const stored = format === 'npy' ? readNpy(file) : readSafetensors(file).tensors.get('features');
  expect(stored?.shape).toEqual([9, 8]);
  const values = toFloat32(stored ?? { dtype: 'F32', shape: [0], data: new Uint8Array() });
  const single = open(1);
  single.restore({ epoch: 0, step: 6, broken: [] });
  const batch = await single.next();
  await single.close();
  const x = tf.tensor4d(batch.images, [1, 3, 16, 16]);
  const alone = forwardLayers(encoder, x, layers, (output) => pooled(output, 'mean')).get('blocks.0')?.dataSync() ?? [];
  expect(batch.files).toEqual(['bee/1.png']);
  for (let c = 0; c < 8; c++) expect(Math.abs((values[5 * 8 + c] as number) - (alone[c] as number))).toBeLessThan(1e-5);
  if (format === 'npy') expect([...found.set(layers[0] ?? { name: '', label: '', channels: 8 }).read(5, 1)]).toEqual([...values.subarray(40, 48)]);
});

test('a row file that is given up leaves nothing behind', () => {
  const writer = new RowWriter(join(dir, 'x.npy'), [2], 10);
  expect(() => writer.append(new Float32Array(3))).toThrow(/no whole number of rows of 2/);
  writer.abandon();
  writer.abandon();
  expect(() => readFileSync(join(dir, 'x.npy'))).toThrow(/ENOENT/);
  expect(() => new RowWriter(join(dir, 'nowhere/x.npy'), [2], 10)).toThrow(/features: cannot write '.*nowhere\/x.npy'/);
});

test('encoders by preset and what does not exist', () => {
  const preset = openEncoder('vit_small', { imageSize: 32, seed: 4 });
  expect(preset.description).toBe('vit_small at its random start (seed 4)');
  expect(preset.encoder.imageSize).toEqual([32, 32]);
  expect(() => openEncoder(join(dir, 'nowhere'))).toThrow(/encoder: '.*nowhere' does not exist: expected a run, a checkpoint, a file of weights, or a preset/);
});

test.each(['hf_swin_mim', 'hf_swinv2_mim', 'hf_vit_mim', 'timm_swin', 'timm_vit', 'checkpoints_pth/ckpt_zip.pth'])('an encoder of another code is read: %s', (path) => {
  const { encoder, statistics } = openEncoder(golden(path));
  const weights = readWeights(golden(path));
  const own = encoderFromConfig(weights.config as ModelConfig);
  loadPretrained(namedParameters(own), weights.state);
  const [height, width] = encoder.imageSize;
  const rng = new Rng(1);
  const x = tf.tensor4d(Float32Array.from({ length: 3 * height * width }, () => rng.normal()), [1, 3, height, width]);
  tf.tidy(() => {
    const context = { training: false, precision: 'f32' as const, clock: tf.zeros([4], 'int32') };
    expect([...encoder.forward(x, null, context).dataSync()]).toEqual([...own.forward(x, null, context).dataSync()]);
  });
  x.dispose();
  expect(statistics.mean).toHaveLength(3);
});
