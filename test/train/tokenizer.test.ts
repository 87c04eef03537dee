import * as tf from '@tensorflow/tfjs-core';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import '../../ts/backend';
import { backward } from '../../ts/autodiff';
import { SimmimError } from '../../ts/errors';
import { fromFloat32, toFloat32, type RawTensor } from '../../ts/formats/raw_tensor';
import { encodeSafetensors, readSafetensors } from '../../ts/formats/safetensors';
import { IMAGENET } from '../../ts/image_statistics';
import { disposeModel, namedParameters } from '../../ts/nn/module';
import { Dvae } from '../../ts/simmim';
import { buildModel } from '../../ts/train/model_build';
import { recipeFromYaml, type Recipe } from '../../ts/train/recipe';
import { simmim } from '../cli/run_cli';
import { drawPictures, trainSome } from '../helpers/train_some';

const folder = mkdtempSync(join(tmpdir(), 'simmim-tokenizer-'));
afterAll(() => rmSync(folder, { recursive: true }));
beforeAll(() => tf.setBackend('simmim-cpu'));

const SIZES = { vocabulary: 12, hidden: 4, blocks: 2, code: 6 };

/** The weights that a new dVAE starts from. */
function drawState(): Map<string, RawTensor> {
  const dvae = Dvae.create(SIZES, IMAGENET, 5);
  const state = new Map([...namedParameters({ encoder: dvae.encoder, decoder: dvae.decoder })].map(([name, p]) => [name, fromFloat32(Float32Array.from(p.value.dataSync(), (v, i) => v + 0.05 * Math.sin(i)), [...p.shape])]));
  disposeModel(dvae);
  return state;
}

interface Volume { channels: number; height: number; width: number; values: Float64Array }

/** The encoder of DALL-E in float64, straight from its definition: convolutions, rectifiers, maxima of 2 x 2. */
function encode(state: ReadonlyMap<string, RawTensor>, image: Volume): Volume {
  const weight = (name: string): { shape: number[]; values: Float32Array } => {
    const raw = state.get(name) as RawTensor;
    return { shape: raw.shape, values: toFloat32(raw) };
  };
  const conv = (x: Volume, name: string): Volume => {
    const { shape: [out = 0, inner = 0, k = 0], values: w } = weight(`${name}.w`);
    const { values: b } = weight(`${name}.b`);
    const y = new Float64Array(out * x.height * x.width);
    const reach = (k - 1) / 2;
    for (let o = 0; o < out; o++) for (let i = 0; i < x.height; i++) for (let j = 0; j < x.width; j++) {
      let sum = b[o] as number;
      for (let c = 0; c < inner; c++) for (let u = 0; u < k; u++) for (let v = 0; v < k; v++) {
        const [row, column] = [i + u - reach, j + v - reach];
        if (row >= 0 && column >= 0 && row < x.height && column < x.width) sum += (w[((o * inner + c) * k + u) * k + v] as number) * (x.values[(c * x.height + row) * x.width + column] as number);
      }
      y[(o * x.height + i) * x.width + j] = sum;
    }
    return { ...x, channels: out, values: y };
  };
  const relu = (x: Volume): Volume => ({ ...x, values: x.values.map((v) => Math.max(0, v)) });
  const pool = (x: Volume): Volume => {
    const [height, width] = [x.height / 2, x.width / 2];
    const at = (c: number, i: number, j: number): number => x.values[(c * x.height + i) * x.width + j] as number;
    const values = Float64Array.from({ length: x.channels * height * width }, (_, n) => {
      const [c, i, j] = [Math.floor(n / height / width), Math.floor(n / width) % height, n % width];
      return Math.max(at(c, 2 * i, 2 * j), at(c, 2 * i + 1, 2 * j), at(c, 2 * i, 2 * j + 1), at(c, 2 * i + 1, 2 * j + 1));
    });
    return { channels: x.channels, height, width, values };
  };
  let h = conv(image, 'encoder.blocks.input');
  for (let g = 1; g <= 4; g++) {
    for (let k = 1; k <= SIZES.blocks; k++) {
      const name = `encoder.blocks.group_${g}.block_${k}`;
      const short = state.has(`${name}.id_path.w`) ? conv(h, `${name}.id_path`) : h;
      const long = [1, 2, 3, 4].reduce((x, i) => conv(relu(x), `${name}.res_path.conv_${i}`), h);
      h = { ...short, values: short.values.map((v, i) => v + (long.values[i] as number) / (4 * SIZES.blocks) ** 2) };
    }
    if (g < 4) h = pool(h);
  }
  return conv(relu(h), 'encoder.blocks.output.conv');
}

describe('a dVAE', () => {
  test("scores tokens as DALL-E's encoder is defined", () => {
    const state = drawState();
    const dvae = Dvae.load(state, IMAGENET, 'weights');
    const [height, width] = [16, 24];
    const unit = Float64Array.from({ length: 3 * height * width }, (_, i) => 0.5 + 0.45 * Math.sin(i * 0.37) * Math.cos(i * 0.011));
    const images = Float32Array.from(unit, (v, i) => (v - (IMAGENET.mean[Math.floor(i / height / width)] as number)) / (IMAGENET.std[Math.floor(i / height / width)] as number));
    const expected = encode(state, { channels: 3, height, width, values: unit.map((v) => 0.8 * v + 0.1) });
    const given = tf.tensor(images, [1, 3, height, width]);
    const scores = tf.tidy(() => tf.transpose(dvae.logits(given), [0, 3, 1, 2]).dataSync());
    const largest = expected.values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    expected.values.forEach((v, i) => expect(Math.abs((scores[i] as number) - v)).toBeLessThan(2e-5 * largest));
    const ids = dvae.tokens(given);
    expect([ids.dtype, ids.shape]).toEqual(['int32', [1, 2, 3]]);
    const best = Array.from({ length: 6 }, (_, n) => Array.from({ length: 12 }, (_, k) => expected.values[k * 6 + n] as number).reduce((m, v, k, all) => (v > (all[m] as number) ? k : m), 0));
    expect(Array.from(ids.dataSync())).toEqual(best);
    expect(dvae.picture(ids).shape).toEqual([1, 3, height, width]);
    disposeModel(dvae);
  });

  test('has the gradients of finite differences, the divergence included', async () => {
    const dvae = Dvae.create({ vocabulary: 6, hidden: 4, blocks: 1, code: 3 }, IMAGENET, 1);
    const parameters = namedParameters({ encoder: dvae.encoder, decoder: dvae.decoder });
    const images = tf.tensor(drawPictures([1, 8, 16], (x, y, c) => Math.sin(x + 2 * y + 3 * c)), [1, 3, 8, 16]);
    const uniform = tf.tensor(Float32Array.from({ length: 12 }, (_, i) => (i + 0.5) / 13), [1, 1, 2, 6]);
    const loss = (): tf.Scalar => dvae.loss(images, uniform, tf.tensor1d([0.8]), 50);
    const gradients: tf.Tensor[] = [];
    const variables = [...parameters.values()].map((p) => p.value);
    backward(loss, variables, (i, g) => void (gradients[i] = tf.keep(tf.clone(g))));
    const value = (): number => tf.tidy(() => loss().dataSync()[0] as number);
    for (const name of ['encoder.blocks.output.conv.b', 'encoder.blocks.group_4.block_1.id_path.b', 'decoder.blocks.input.b', 'decoder.blocks.output.conv.b', 'decoder.blocks.group_2.block_1.res_path.conv_4.b']) {
      const index = [...parameters.keys()].indexOf(name);
      const variable = variables[index] as tf.Variable;
      const at = variable.dataSync().slice();
      const direction = Float32Array.from(at, (_, i) => Math.cos(i * 1.7));
      const moved = (h: number): number => {
        tf.tidy(() => variable.assign(tf.tensor(at.map((v, i) => v + h * (direction[i] as number)), variable.shape)));
        return value();
      };
      const h = 1e-3; // small, for the corners of rectifiers and of |x|
      const numeric = (moved(h) - moved(-h)) / (2 * h);
      moved(0);
      const exact = (gradients[index] as tf.Tensor).dataSync<'float32'>().reduce((sum, g, i) => sum + g * (direction[i] as number), 0);
      expect(Math.abs(exact - numeric), `${name}: ${exact} and ${numeric}`).toBeLessThan(0.03 * Math.abs(exact) + 3e-4);
    }
    disposeModel(dvae);
  });
});

describe('simmim tokenizer', () => {
  const out = join(folder, 'tokens.safetensors');
  const train = (file: string, ...more: string[]): ReturnType<typeof simmim> =>
    simmim('tokenizer', '--recipe', 'demo', '--image-size', '32', '--set', 'data.workers=0', '--set', 'validation.images=16', '--vocabulary', '16', '--hidden', '8', '--code', '8', '--batch', '8', '--updates', '80', '--lr', '1e-2', '--out', file, ...more);
  const recipe = (...more: string[]): Recipe =>
    recipeFromYaml('model: {encoder: vit_small, imageSize: 64, patchSize: 16, embedDim: 32, depth: 1, heads: 2}\nmasking: {patchSize: 16, ratio: 0.5}\nloss: {kind: cross_entropy}\ntarget: {kind: tokens}', 'test', more);

  test('trains, writes the same file for the same command, and pre-training predicts its tokens', async () => {
    const { code, errors, out: printed } = await train(out);
    expect([code, errors]).toEqual([0, []]);
    const [, error, constant, used] = /error (\S+) .*mean colour alone has (\S+) .*; (\d+) of 16 tokens occur/.exec(printed) ?? [];
    expect(Number(error)).toBeLessThan(0.8 * Number(constant));
    expect(Number(used)).toBeGreaterThan(2);
    expect(readFileSync(join(folder, 'tokens.png')).subarray(1, 4).toString()).toBe('PNG');
    const again = join(folder, 'again.safetensors');
    await train(again);
    expect(readFileSync(again).equals(readFileSync(out))).toBe(true);

    const target = recipe(`target.tokenizer=${out}`);
    const built = buildModel(target);
    expect([built.model.target.values, built.model.target.resolution]).toEqual([16, [8, 8]]);
    expect([...built.parameters.keys()].filter((name) => !/^(encoder|decoder)\./.test(name) || /blocks\.input/.test(name))).toEqual([]); // the tokenizer is no part of the model
    const losses = await trainSome(target, drawPictures([4, 64, 64], (x, y, c, b) => Math.sin(x / 5 + b) + Math.cos(y / 7 + c)), { updates: 30, lr: () => 3e-3 });
    expect(losses[0]).toBeGreaterThan(1.5);
    expect(losses[29]).toBeLessThan(0.7 * (losses[0] as number));
  });

  test('a smaller grid of tokens is that of a smaller copy of the image', () => {
    const { model: { target } } = buildModel(recipe(`target.tokenizer=${out}`, 'target.resolution=4'));
    const images = drawPictures([1, 64, 64], (x, y, c) => Math.sin(x / 3 + c) * Math.cos(y / 4));
    const half = drawPictures([1, 32, 32], (x, y, c) => [0, 1, 64, 65].reduce((sum, step) => sum + (images[(c * 64 + 2 * y) * 64 + 2 * x + step] as number) / 4, 0));
    const dvae = Dvae.load(readSafetensors(out).tensors, IMAGENET, out);
    expect(Array.from(target.make(tf.tensor(images, [1, 3, 64, 64])).dataSync())).toEqual(Array.from(dvae.tokens(tf.tensor(half, [1, 3, 32, 32])).dataSync()));
  });

  test("an encoder alone, under DALL-E's bare names, gives the same tokens and no pictures", () => {
    const file = join(folder, 'encoder.safetensors');
    const whole = readSafetensors(out).tensors;
    writeFileSync(file, Buffer.concat(encodeSafetensors([...whole].filter(([name]) => name.startsWith('encoder.')).map(([name, t]): [string, RawTensor] => [name.slice('encoder.'.length), t]))));
    const [alone, both] = [file, out].map((f) => Dvae.load(readSafetensors(f).tensors, IMAGENET, f)) as [Dvae, Dvae];
    const images = tf.tensor(drawPictures([2, 32, 32], (x, y, c, b) => Math.sin(x * y + c + b)), [2, 3, 32, 32]);
    expect(alone.tokens(images).dataSync()).toEqual(both.tokens(images).dataSync());
    expect(() => alone.picture(alone.tokens(images))).toThrow(/has an encoder only: token ids have no picture/);
  });

  test.each<[string, (state: Map<string, RawTensor>) => void, RegExp]>([
    ['one weight missing', (s) => s.delete('encoder.blocks.group_3.block_1.res_path.conv_2.b'), /has no weight 'encoder\.blocks\.group_3\.block_1\.res_path\.conv_2\.b'/],
    ['one of another shape', (s) => s.set('decoder.blocks.output.conv.b', fromFloat32(new Float32Array(5), [5])), /decoder\.blocks\.output\.conv\.b is \[5\], expected \[6\]/],
    ['one too many', (s) => s.set('encoder.blocks.group_5.w', fromFloat32(new Float32Array(1), [1])), /group_5\.w has no place in a dVAE of vocabulary 16/],
    ['another model', (s) => { s.clear(); s.set('patch_embed.proj.weight', fromFloat32(new Float32Array(1), [1])); }, /has no weight 'encoder\.blocks\.output\.conv\.w'/],
  ])('a file with %s is refused in a sentence', (_, change, message) => {
    const state = new Map(readSafetensors(out).tensors);
    change(state);
    const file = join(folder, 'bad.safetensors');
    writeFileSync(file, Buffer.concat(encodeSafetensors(state)));
    expect(() => buildModel(recipe(`target.tokenizer=${file}`))).toThrow(SimmimError);
    expect(() => buildModel(recipe(`target.tokenizer=${file}`))).toThrow(message);
  });

  test.each<[string[], string]>([
    [['--out', 'x.pt'], "--out is 'x.pt', expected a name that ends in .safetensors"],
    [['--hidden', '6'], 'hidden is 6, expected a multiple of 4'],
    [['--vocabulary', '1'], 'has vocabulary 1'],
    [['--image-size', '36'], 'cells of 8 px do not tile an image of 36 x 36'],
  ])('refused in one sentence: tokenizer %j', async (args, sentence) => {
    const { code, errors } = await train(join(folder, 'x.safetensors'), ...args);
    expect([code, errors.length]).toEqual([1, 1]);
    expect(errors[0]).toContain(sentence);
  });

  test('neither or both of codebook and tokenizer are refused', () => {
    expect(() => buildModel(recipe())).toThrow(/target\.tokenizer: is not set/);
    expect(() => buildModel(recipe(`target.tokenizer=${out}`, 'target.codebook=x.npy'))).toThrow(/and target\.codebook are both set/);
    expect(() => buildModel(recipe(`target.tokenizer=${out}`, 'target.resolution=16'))).toThrow(/resolution is 16x16 tokens of 8 px, but the image of 64x64 is no whole number of times larger/);
  });
});
