import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkLabelledSplits, findSplits, firstOfEachClass, openDataset, openImageFolder, openLabelledSplits, type ImageDataset } from '../../ts/data';

let dir: string;
let folder: ImageDataset;

async function picture(file: string, level: number): Promise<void> {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, await sharp(new Uint8Array(6 * 5 * 3).fill(level), { raw: { width: 6, height: 5, channels: 3 } }).png().toBuffer());
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'simmim-labelled-'));
  for (const [c, name] of ['ant', 'bee'].entries()) for (let i = 0; i < 4; i++) await picture(join(dir, 'set', name, `${i}.png`), 40 * i + 60 * c);
  folder = openImageFolder(join(dir, 'set'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A folder of copies: names below it to pictures of the set. */
function copies(name: string, files: Record<string, string>): string {
  for (const [to, from] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name, to)), { recursive: true });
    copyFileSync(join(dir, 'set', from), join(dir, name, to));
  }
  return join(dir, name);
}

test('pairs of labelled sets', () => {
  expect(checkLabelledSplits(folder.subset([0, 1, 4, 5]), folder.subset([2, 3, 6, 7]))).toEqual([]);
  expect(checkLabelledSplits(folder, folder)).toEqual([expect.stringContaining('8 of the 8 validation pictures are training pictures too')]);
  expect(() => checkLabelledSplits(folder.subset([0, 1]), folder)).toThrow(/has no picture of class bee/);
  expect(() => checkLabelledSplits(folder, openImageFolder(join(dir, 'set'), { classes: 'none' }))).toThrow(/has no labels/);
  const other = copies('other', { 'ant/x.png': 'ant/1.png', 'cow/x.png': 'ant/1.png' });
  expect(() => checkLabelledSplits(folder, openImageFolder(other))).toThrow(/only in training bee; only in validation cow/);
});

test('train and val are found as folders and as files of one kind', () => {
  const parts = copies('parts', { 'train/ant/0.png': 'ant/0.png', 'train/bee/0.png': 'bee/0.png', 'val/ant/1.png': 'ant/1.png', 'val/bee/1.png': 'bee/1.png' });
  const { train, validation, warnings } = openLabelledSplits(parts);
  expect([train.length, validation.length, train.classes, warnings]).toEqual([2, 2, ['ant', 'bee'], []]);
  for (const [name, rows] of [['train', 'set/ant/0.png,ant\nset/bee/0.png,bee'], ['test', 'set/bee/1.png,bee']] as const) writeFileSync(join(dir, `${name}.csv`), `file,label\n${rows}\n`);
  expect(findSplits(dir)).toEqual({ train: join(dir, 'train.csv'), val: join(dir, 'test.csv') });
  expect(openLabelledSplits(dir).warnings).toEqual([expect.stringContaining('no picture of class ant')]);
  mkdirSync(join(dir, 'cifar'));
  for (const name of ['data_batch_1.bin', 'data_batch_2.bin', 'test_batch.bin']) writeFileSync(join(dir, 'cifar', name), Buffer.alloc(3073 * 2).fill(1, 3073));
  expect(findSplits(join(dir, 'cifar'))).toEqual({ train: join(dir, 'cifar'), val: join(dir, 'cifar/test_batch.bin') });
  expect(openDataset(join(dir, 'cifar')).samples.map((s) => s.name)).toEqual(['data_batch_1.bin#0', 'data_batch_1.bin#1', 'data_batch_2.bin#0', 'data_batch_2.bin#1']);
});

test('the first pictures of each class', () => {
  expect(firstOfEachClass(folder.subset([7, 0, 4, 1, 5]), 2).samples.map((s) => s.name)).toEqual(['bee/3.png', 'ant/0.png', 'bee/0.png', 'ant/1.png']);
  expect(() => firstOfEachClass(folder, 5)).toThrow(/class 'ant' of '.*set' has 4 pictures, 5 of each class are asked for/);
});

test('without a validation part a share of each class is held out, fixed by the seed', () => {
  const { train, validation, warnings } = openLabelledSplits(join(dir, 'set'), { validationShare: 0.25, seed: 3 });
  expect([train.classCounts(), validation.classCounts()]).toEqual([[3, 3], [1, 1]]);
  expect(warnings).toEqual([expect.stringContaining('has no validation part: 2 of its 8 pictures')]);
  expect(openLabelledSplits(join(dir, 'set'), { validationShare: 0.25, seed: 3 }).validation.samples).toEqual(validation.samples);
  expect(() => openLabelledSplits(join(dir, 'set'), { validationShare: 1 })).toThrow(/expected between 0 and 1/);
});

test('each mistake is one clear sentence', async () => {
  expect(() => openLabelledSplits(join(dir, 'set/ant'))).toThrow(/'0.png' lies directly in '.*ant' and has no class/);
  expect(() => openLabelledSplits(copies('single', { 'ant/0.png': 'ant/0.png' }))).toThrow(/has one class, 'ant': nothing can be told apart/);
  const empty = copies('empty', { 'ant/0.png': 'ant/0.png', 'bee/0.png': 'bee/0.png' });
  mkdirSync(join(empty, 'cow'));
  expect(() => openLabelledSplits(empty)).toThrow(/class folder 'cow' of '.*empty' holds no image: a label without pictures/);
  expect(() => openLabelledSplits(copies('lone', { 'ant/0.png': 'ant/0.png', 'bee/0.png': 'bee/0.png' }))).toThrow(/class 'ant' of '.*lone' has one picture/);
  const extra = copies('extra', { 'train/ant/0.png': 'ant/0.png', 'train/bee/0.png': 'bee/0.png', 'val/cow/0.png': 'bee/1.png' });
  expect(() => openLabelledSplits(extra)).toThrow(/has class 'cow', which is not among the 2 classes ant, bee/);
  const copied = copies('copied', { 'train/ant/0.png': 'ant/0.png', 'train/bee/0.png': 'bee/0.png', 'val/ant/0.png': 'ant/0.png', 'val/bee/0.png': 'bee/0.png' });
  expect(openLabelledSplits(copied).warnings).toEqual([expect.stringMatching(/2 of 2 validation pictures .* are copies of it: is '.*val' a copy of the training set\?/)]);
});
