/** `simmim finetune` and `simmim evaluate` on folders of pictures and CIFAR records, and what they refuse. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Rng } from '../../ts/rng';
import { simmim } from './run_cli';

const dir = mkdtempSync(join(tmpdir(), 'simmim-finetune-cli-'));
afterAll(() => rmSync(dir, { recursive: true }));

const CLASSES = ['blue', 'green', 'red'];
const SMALL = ['model.imageSize=16', 'model.patchSize=2', 'model.embedDim=8', 'model.depths=[1]', 'model.heads=[2]', 'train.epochs=6', 'train.batchSize=6', 'train.accumulation=1', 'data.workers=0', 'data.samplesPerEpoch=24', 'schedule.warmupEpochs=1', 'optimizer.baseLr=5e-3'];
const sets = (values: readonly string[]): string[] => values.flatMap((v) => ['--set', v]);
const finetune = (out: string, data: string, ...more: string[]): ReturnType<typeof simmim> => simmim('finetune', '--recipe', 'finetune/demo', '--data', join(dir, data), '--out', join(dir, out), ...sets(SMALL), ...more);

/** Pictures of one colour each with some noise, in FOLDER/CLASS. */
async function pictures(folder: string, count: number, seed: number): Promise<void> {
  const rng = new Rng(seed);
  for (const [label, name] of CLASSES.entries()) {
    mkdirSync(join(dir, folder, name), { recursive: true });
    for (let i = 0; i < count; i++) {
      const data = Buffer.from(Array.from({ length: 20 * 18 * 3 }, (_, at) => Math.round((at % 3 === 2 - label ? 170 : 50) + 40 * rng.uniform())));
      await sharp(data, { raw: { width: 20, height: 18, channels: 3 } }).png().toFile(join(dir, folder, name, `${i}.png`));
    }
  }
}

beforeAll(async () => {
  await pictures('set/train', 6, 1);
  await pictures('set/val', 4, 2);
  const rng = new Rng(3);
  const records = (n: number): Buffer => Buffer.concat(Array.from({ length: n }, (_, i) => Buffer.from([i % 10, ...Array.from({ length: 3072 }, () => 25 * (i % 10) + rng.below(20))])));
  mkdirSync(join(dir, 'cifar'));
  writeFileSync(join(dir, 'cifar/train.bin'), records(40));
  writeFileSync(join(dir, 'cifar/test.bin'), records(20));
});

test('a folder of pictures is learnt, judged alike by both commands, and shown', async () => {
  const trained = await finetune('run', 'set');
  expect(trained.errors).toEqual([]);
  expect(trained.out).toContain('18 pictures of 3 classes, 12 for validation');
  const top1 = Number(/validation: top-1 ([\d.]+) %/.exec(trained.out)?.[1]);
  expect(top1).toBeGreaterThan(60);
  expect(trained.out).toContain('always guessing the commonest class gets 33.33 %');
  const judged = await simmim('evaluate', join(dir, 'run'), '--data', join(dir, 'set'));
  expect(judged.errors).toEqual([]);
  expect(judged.out).toContain(`top-1 ${top1.toFixed(2)} %`);
  expect(judged.out).toContain('| class, taken for');
  const report = JSON.parse(readFileSync(join(dir, 'run/evaluation.json'), 'utf8')) as { confusion: number[][]; right: string };
  expect(report.confusion.flat().reduce((a, b) => a + b, 0)).toBe(12);
  expect(report.confusion.reduce((sum, row, i) => sum + (row[i] ?? 0), 0)).toBe([...report.right].filter((c) => c === '1').length);
  expect((await simmim('report', join(dir, 'run'), '--no-pictures')).errors).toEqual([]);
  const page = readFileSync(join(dir, 'run/report.html'), 'utf8');
  for (const part of ['Cross-entropy in training', 'Accuracy on held-out pictures', 'top-1 %, best of all validations', 'class, and what it was taken for']) expect(page).toContain(part);
  expect(page).not.toContain('Masked loss');
  expect((await simmim('evaluate', join(dir, 'run'), '--data', join(dir, 'set'), '--ema')).out).toContain('moving average');
  expect((await simmim('visualize', join(dir, 'run'))).errors[0]).toContain('is of fine-tuning, expected one of pre-training');
  const again = await finetune('again', 'set', '--init', join(dir, 'run'), '--set', 'train.epochs=1');
  expect(again.out).toMatch(/weights: \d+ parameters from '.*run', 0 at their random start/);
}, 120_000);

test('preview shows pictures as they are, augmented and mixed, with their soft labels', async () => {
  const seen = await simmim('preview', '--recipe', 'finetune/demo', '--data', join(dir, 'set'), '--count', '3', '--epoch', '1', '--out', join(dir, 'seen'), ...sets(SMALL));
  expect([seen.errors, seen.out]).toEqual([[], `wrote ${join(dir, 'seen')}.png and ${join(dir, 'seen')}.html\n`]);
  const page = readFileSync(join(dir, 'seen.html'), 'utf8');
  for (const part of ['augmented', 'mixed', 'cutmix 1', '% green']) expect(page).toContain(part);
  expect(await sharp(join(dir, 'seen.png')).metadata()).toMatchObject({ format: 'png' });
  expect((await simmim('preview', '--recipe', 'finetune/demo', '--set', 'model.encoder=null', '--set', 'model.imageSize=null')).errors[0]).toContain('leaves the image size to the weights');
}, 60_000);

test('CIFAR records are read as they are', async () => {
  const { errors, out } = await finetune('cifar-run', 'cifar', '--set', 'train.epochs=1');
  expect(errors).toEqual([]);
  expect(out).toContain('40 pictures of 10 classes, 20 for validation');
  expect((await simmim('evaluate', join(dir, 'cifar-run'), '--data', join(dir, 'set'))).errors[0]).toMatch(/has class 'blue', which is not among the 10 classes/);
}, 60_000);

test('what cannot work is refused in one sentence; what may be a mistake is warned of', async () => {
  const refused = async (sentence: string | RegExp, result: ReturnType<typeof simmim>): Promise<void> => {
    const { code, errors } = await result;
    expect([code, errors]).toEqual([1, [expect.stringMatching(sentence)]]);
  };
  cpSync(join(dir, 'set/train'), join(dir, 'loose'), { recursive: true });
  cpSync(join(dir, 'set/train/red/0.png'), join(dir, 'loose/loose.png'));
  await refused(/'loose.png' lies directly in '.*' and has no class/, finetune('a', 'loose'));
  cpSync(join(dir, 'set/train'), join(dir, 'hollow'), { recursive: true });
  mkdirSync(join(dir, 'hollow/void'));
  await refused(/class folder 'void' of '.*' holds no image: a label without pictures/, finetune('a', 'hollow'));
  cpSync(join(dir, 'set/train/red'), join(dir, 'one/red'), { recursive: true });
  await refused(/has one class, 'red': nothing can be told apart/, finetune('a', 'one'));
  await refused(/is a recipe for 'simmim finetune' \(task: finetune\), expected one for 'simmim pretrain'/, simmim('pretrain', '--recipe', 'finetune/demo'));
  await refused(/is 600, but an epoch has 24 pictures and only whole batches are trained on/, finetune('a', 'set', '--set', 'train.batchSize=600'));
  await refused(/'.*nowhere' does not exist/, finetune('a', 'set', '--init', join(dir, 'nowhere')));
  cpSync(join(dir, 'set'), join(dir, 'fewer'), { recursive: true });
  for (const part of ['train', 'val']) rmSync(join(dir, 'fewer', part, 'red'), { recursive: true });
  await refused(/tells 3 classes apart, the data has 2: only in the data none; only in the classifier red/, simmim('finetune', '--resume', '--out', join(dir, 'run'), '--data', join(dir, 'fewer'), '--set', 'train.stopAfter=100'));
  await simmim('pretrain', '--recipe', 'demo', '--out', join(dir, 'pretrained'), ...sets(['model.imageSize=16', 'model.patchSize=2', 'model.embedDim=8', 'model.depths=[1]', 'model.heads=[2]', 'masking.patchSize=4', 'train.epochs=1', 'train.batchSize=4', 'data.samplesPerEpoch=4', 'data.workers=0', 'validation.images=2', 'schedule.warmupEpochs=0']));
  await refused(/has no classification head: fine-tune it first \(simmim finetune --init/, simmim('evaluate', join(dir, 'pretrained'), '--data', join(dir, 'set')));
  const same = await finetune('same', 'set', '--init', join(dir, 'pretrained'), '--validation', join(dir, 'set/train'), '--set', 'train.epochs=1');
  expect(same.errors).toEqual([]);
  expect(same.out).toContain('warning: 18 of the 18 validation pictures are training pictures too');
  expect(same.out).toMatch(/weights: \d+ parameters from '.*pretrained', 2 at their random start/);
}, 120_000);
