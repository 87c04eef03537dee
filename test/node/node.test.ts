import { execFileSync } from 'node:child_process';
import * as tf from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as node from '../../ts/node';

const root = resolve(__dirname, '../..');
const temporary = (): string => mkdtempSync(join(tmpdir(), 'simmim-node-'));

describe('file:// models', () => {
  it('a layers model comes back with its weights and predicts the same', async () => {
    const dir = temporary();
    const model = layers.sequential({ layers: [layers.layers.dense({ units: 3, inputShape: [4], activation: 'relu' }), layers.layers.dense({ units: 1 })] });
    const x = tf.tensor2d([[1, 2, 3, 4]]);
    const before = (model.predict(x) as tf.Tensor).dataSync();
    await model.save(`file://${dir}/m`);
    expect(readdirSync(join(dir, 'm')).sort()).toEqual(['model.json', 'weights.bin']);
    for (const url of [`file://${dir}/m/model.json`, `file://${dir}/m`]) {
      const again = await layers.loadLayersModel(url);
      expect([...(again.predict(x) as tf.Tensor).dataSync()]).toEqual([...before]);
    }
  });
  it('says which path does not exist', async () => {
    await expect(layers.loadLayersModel('file:///nowhere/model.json')).rejects.toThrow('/nowhere/model.json does not exist');
    const dir = temporary();
    writeFileSync(join(dir, 'model.json'), JSON.stringify({ modelTopology: {}, weightsManifest: [{ paths: ['w.bin'], weights: [] }] }));
    await expect(node.fileSystem(join(dir, 'model.json')).load?.()).rejects.toThrow(/Weight file .*w\.bin does not exist/);
  });
  it('refuses to save over a file', async () => {
    const file = join(temporary(), 'taken');
    writeFileSync(file, '');
    await expect(node.fileSystem(file).save?.({ modelTopology: {}, weightSpecs: [], weightData: new ArrayBuffer(0) })).rejects.toThrow('exists as a file');
  });
  it('leaves other schemes alone', () => {
    expect(tf.io.getLoadHandlers('elsewhere://x/model.json')).toEqual([]);
    expect(tf.io.getLoadHandlers(['file://x/model.json', 'elsewhere://x/w.bin'])).toEqual([]);
  });
});

describe('images', () => {
  const pixels = tf.tensor3d(Array.from({ length: 5 * 7 * 3 }, (_, i) => (i * 37) % 256), [5, 7, 3], 'int32');
  it('PNG is lossless in both directions, with the channels asked for', async () => {
    const png = await node.encodePng(pixels);
    expect([...node.decodeImage(png).dataSync()]).toEqual([...pixels.dataSync()]);
    expect(node.decodePng(png, 4).shape).toEqual([5, 7, 4]);
    expect(node.decodePng(png, 1).shape).toEqual([5, 7, 1]);
  });
  it('grey stays grey', async () => {
    const grey = tf.tensor3d([0, 60, 120, 255], [2, 2, 1], 'int32');
    const decoded = node.decodePng(await node.encodePng(grey));
    expect(decoded.shape).toEqual([2, 2, 1]);
    expect([...decoded.dataSync()]).toEqual([0, 60, 120, 255]);
  });
  it('JPEG of an even colour keeps it within a rounding', async () => {
    const flat = tf.fill([16, 16, 3], 100, 'int32') as tf.Tensor3D;
    const decoded = node.decodeJpeg(await node.encodeJpeg(flat, '', 100));
    expect(decoded.shape).toEqual([16, 16, 3]);
    for (const v of decoded.dataSync()) expect(Math.abs(v - 100)).toBeLessThanOrEqual(1);
  });
  it('bitmaps', () => {
    const bmp = Buffer.alloc(54 + 16);
    bmp.write('BM');
    bmp.writeUInt32LE(54, 10);
    bmp.writeInt32LE(2, 18);
    bmp.writeInt32LE(2, 22);
    bmp.writeUInt16LE(24, 28);
    bmp.set([3, 2, 1, 6, 5, 4], 54); // the bottom row first, blue first
    bmp.set([9, 8, 7, 12, 11, 10], 62);
    expect(node.decodeBmp(bmp).arraySync()).toEqual([[[7, 8, 9], [10, 11, 12]], [[1, 2, 3], [4, 5, 6]]]);
  });
  it('one channel of a colour picture is its luma; JPEG can be divided', async () => {
    const png = await node.encodePng(pixels);
    const [r, g, b] = pixels.dataSync() as unknown as [number, number, number];
    expect(node.decodePng(png, 1).dataSync()[0]).toBe(Math.round(0.299 * r + 0.587 * g + 0.114 * b));
    const jpeg = await node.encodeJpeg(tf.fill([17, 16, 3], 100, 'int32') as tf.Tensor3D);
    expect(node.decodeJpeg(jpeg, 3, 4).shape).toEqual([5, 4, 3]);
    expect(() => node.decodeJpeg(jpeg, 3, 5)).toThrow('ratio is 5');
  });
  it('refuses what is no image', () => {
    expect(() => node.decodeImage(Buffer.from('no image'))).toThrow(/decodeImage/);
    expect(() => node.decodePng(Buffer.from('no image'))).toThrow('no PNG');
    expect(() => node.decodeImage(Buffer.from('x'), 7)).toThrow('channels is 7');
  });
});

describe('TensorBoard', () => {
  it('writes framed events with valid checksums of lengths', () => {
    const dir = temporary();
    const writer = node.summaryFileWriter(dir);
    writer.scalar('loss', 0.5, 3);
    writer.histogram('w', tf.tensor1d([1, 2, 3]), 3);
    writer.close();
    const bytes = readFileSync(join(dir, readdirSync(dir)[0] as string));
    const lengths: number[] = [];
    for (let at = 0; at < bytes.length; at += 16 + (lengths[lengths.length - 1] as number)) lengths.push(bytes.readUInt32LE(at));
    expect(lengths.length).toBe(3);
    expect(bytes.subarray(12, 12 + (lengths[0] as number)).includes('brain.Event:2')).toBe(true);
    expect(bytes.includes('loss')).toBe(true);
    // masked CRC-32C of the 8 length bytes 18 00 00 00 00 00 00 00 as TensorFlow writes it for an event of 24 bytes
    expect(lengths[0]).toBe(24);
    expect(bytes.subarray(8, 12).toString('hex')).toBe('a37f4b22');
  });
});

describe('tensorBoard', () => {
  const events = (dir: string): Buffer => {
    const files = readdirSync(dir);
    expect(files.length).toBe(1); // several runs continue one file
    return readFileSync(join(dir, files[0] as string));
  };
  it('follows model.fit: losses of training and validation, weights as histograms', async () => {
    const dir = temporary();
    const model = layers.sequential({ layers: [layers.layers.dense({ units: 1, inputShape: [3], name: 'only' })] });
    model.compile({ loss: 'meanSquaredError', optimizer: 'sgd' });
    const fit = async (epochs: number): Promise<unknown> => model.fit(tf.ones([8, 3]), tf.ones([8, 1]), { epochs, batchSize: 4, verbose: 0, validationSplit: 0.5, callbacks: node.tensorBoard(dir, { updateFreq: 'batch', histogramFreq: 1 }) });
    await fit(1);
    const first = events(join(dir, 'train')).length;
    await fit(2);
    const train = events(join(dir, 'train'));
    expect(train.length).toBeGreaterThan(first);
    for (const name of ['epoch_loss', 'batch_loss', 'only/kernel']) expect(train.includes(name)).toBe(true);
    const validation = events(join(dir, 'val'));
    expect(validation.includes('epoch_loss')).toBe(true);
    expect(validation.includes('batch_loss')).toBe(false);
  });
  it('refuses options it does not know', () => {
    expect(() => node.tensorBoard('x', { updateFreq: 'never' as 'epoch' })).toThrow('updateFreq is never');
    expect(() => node.tensorBoard('x', { histogramFreq: 1.5 })).toThrow('histogramFreq is 1.5');
    expect(() => node.summaryFileWriter('')).toThrow('empty string');
  });
});

describe('the alias of tfjs-node', () => {
  it('serves a program that hard-codes it, with chained methods and tf.node', () => {
    const program = join(temporary(), 'program.js');
    writeFileSync(program, `
      const tf = require('@tensorflow/tfjs-node');
      const y = tf.tensor1d([1, 2]).add(3).mul(2);
      const g = tf.grad((x) => x.square().sum())(tf.tensor1d([1, 2]));
      const m = tf.sequential({layers: [tf.layers.dense({units: 1, inputShape: [2]})]});
      m.compile({loss: 'meanSquaredError', optimizer: 'sgd'});
      m.fit(tf.ones([4, 2]), tf.ones([4, 1]), {epochs: 1, verbose: 1}).then(() =>
        console.log(JSON.stringify([tf.getBackend(), [...y.dataSync()], [...g.dataSync()], typeof tf.node.decodeImage, typeof tf.io.fileSystem])));
    `);
    const out = execFileSync(process.execPath, ['-r', join(root, 'dist/node/register_alias.js'), program], { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    expect(JSON.parse(out.trim().split('\n').pop() as string)).toEqual(['tensorflow', [8, 10], [2, 4], 'function', 'function']);
  });
});
