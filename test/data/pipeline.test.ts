import { mkdtempSync, mkdirSync, rmSync, writeFileSync, cpSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findSplits, openImageFolder } from '../../ts/data/dataset';
import { openPipeline, type PipelineOptions } from '../../ts/data/pipeline';
import { normalisationTable } from '../../ts/data/resample';
import { augmentationRng, Sampler } from '../../ts/data/sampler';
import type { Batch } from '../../ts/data/types';
import { IMAGENET } from '../../ts/image_statistics';
import { Rng } from '../../ts/rng';

let folder: string;
const CLASSES = ['ant', 'bee', 'cat'];

async function picture(seed: number): Promise<Buffer> {
  const rng = new Rng(seed);
  const [width, height] = [30 + rng.below(40), 30 + rng.below(40)];
  const data = Uint8Array.from({ length: width * height * 3 }, () => rng.below(256));
  return sharp(data, { raw: { width, height, channels: 3 } }).png().toBuffer();
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'simmim-data-'));
  for (const [c, name] of CLASSES.entries()) {
    mkdirSync(join(folder, 'good', name), { recursive: true });
    for (let i = 0; i < 7; i++) writeFileSync(join(folder, 'good', name, `${i}.png`), await picture(c * 7 + i));
  }
  cpSync(join(folder, 'good'), join(folder, 'bad'), { recursive: true });
  writeFileSync(join(folder, 'bad/ant/3.png'), '');
  writeFileSync(join(folder, 'bad/cat/5.png'), 'no picture');
  mkdirSync(join(folder, 'empty'));
  mkdirSync(join(folder, 'flat'));
  for (let i = 0; i < 3; i++) writeFileSync(join(folder, 'flat', `${i}.PNG`), await picture(100 + i));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const base = (): PipelineOptions => ({ batchSize: 4, seed: 5, transform: { size: [16, 24] }, workers: 2, prefetch: 3 });

async function run(name: string, options: PipelineOptions, count: number): Promise<Batch[]> {
  const source = openPipeline(openImageFolder(join(folder, name)), options);
  const batches: Batch[] = [];
  for (let i = 0; i < count; i++) batches.push(await source.next());
  await source.close();
  return batches;
}

describe('dataset', () => {
  test('classes from folders, code-unit order, labels', () => {
    const set = openImageFolder(join(folder, 'good'));
    expect(set.classes).toEqual(CLASSES);
    expect(set.length).toBe(21);
    expect(set.sample(0).name).toBe('ant/0.png');
    expect(set.classCounts()).toEqual([7, 7, 7]);
    expect(openImageFolder(join(folder, 'good'), { classes: 'none' }).classes).toEqual([]);
    expect(openImageFolder(join(folder, 'flat')).classes).toEqual([]);
    expect(findSplits(folder)).toEqual({ train: folder, val: null });
    const file = join(folder, 'good/ant/0.png');
    expect(findSplits(file)).toEqual({ train: file, val: null });
  });

  test('holding out is disjoint, complete, ordered and fixed by the seed', () => {
    const set = openImageFolder(join(folder, 'good'));
    const [kept, held] = set.holdOut(0.25, 9);
    const names = (d: typeof set) => d.samples.map((s) => s.name);
    expect(held.length).toBe(5);
    expect([...names(kept), ...names(held)].sort()).toEqual(names(set).sort());
    expect(names(held)).toEqual([...names(held)].sort());
    expect(names(set.holdOut(0.25, 9)[1])).toEqual(names(held));
    expect(names(set.holdOut(0.25, 10)[1])).not.toEqual(names(held));
  });

  test('one sentence for what is not there', () => {
    expect(() => openImageFolder(join(folder, 'nothing'))).toThrow(/dataset: folder '.*nothing' does not exist/);
    expect(() => openImageFolder(join(folder, 'empty'))).toThrow(/holds no image/);
    expect(() => openImageFolder(join(folder, 'good/ant/0.png'))).toThrow(/is a file, expected a folder/);
    expect(() => openImageFolder(join(folder, 'flat'), { classes: 'folders' })).toThrow(/'0.PNG' lies directly in/);
    expect(() => openImageFolder(join(folder, 'good'), { classes: ['ant', 'bee'] })).toThrow(/has class 'cat', which is not among the 2 classes ant, bee/);
  });
});

describe('sampler', () => {
  test('each epoch is a permutation, epochs differ, ranks share it, a seed fixes it', () => {
    const one = new Sampler({ length: 40, batchSize: 8, seed: 1 });
    const epoch = (s: Sampler, e: number) => Array.from({ length: s.batchesPerEpoch }, (_, i) => s.batch(e, i).map((x) => x.index)).flat();
    expect(epoch(one, 0).sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(epoch(one, 0)).not.toEqual(epoch(one, 1));
    const ranks = [0, 1].map((rank) => new Sampler({ length: 40, batchSize: 4, seed: 1, rank, world: 2 }));
    for (let step = 0; step < 5; step++) expect(ranks.flatMap((r) => r.batch(3, step))).toEqual(one.batch(3, step));
  });

  test('virtual epochs walk through few pictures evenly; without drop-last nothing is lost', () => {
    const s = new Sampler({ length: 6, batchSize: 8, seed: 1, samplesPerEpoch: 26 });
    expect(s.batchesPerEpoch).toBe(3);
    const seen = [0, 1, 2].flatMap((step) => s.batch(0, step).map((x) => x.index));
    for (let i = 0; i < 6; i++) expect(seen.filter((x) => x === i).length).toBe(4);
    const rest = new Sampler({ length: 10, batchSize: 4, seed: 1, dropLast: false, shuffle: false });
    expect(rest.batch(0, 2).map((x) => x.index)).toEqual([8, 9]);
    expect(() => new Sampler({ length: 3, batchSize: 4, seed: 1 })).toThrow(/an epoch of 3 samples holds no full batch of 4/);
  });
});

describe('pipeline', () => {
  test('batches are full, labelled and independent of workers and prefetch', async () => {
    const reference = await run('good', { ...base(), workers: 0 }, 12);
    expect(reference.map((b) => [b.epoch, b.step])).toEqual([[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [1, 0], [1, 1], [1, 2], [1, 3], [1, 4], [2, 0], [2, 1]]);
    for (const b of reference) {
      expect(b.images.length).toBe(4 * 3 * 16 * 24);
      expect([...(b.labels as Int32Array)]).toEqual(b.files.map((f) => CLASSES.indexOf(f.split('/')[0] as string)));
    }
    for (const [workers, prefetch] of [[1, 1], [2, 3], [3, 7]] as const) expect(await run('good', { ...base(), workers, prefetch }, 12)).toEqual(reference);
  });

  test('the fine-tuning augmentations: native and reference, any number of workers, same bits', async () => {
    const transform = { size: [16, 24] as const, interpolation: 'bicubic' as const, randAugment: {}, erasing: { probability: 0.5 } };
    const reference = await run('good', { ...base(), transform, workers: 0, kernels: 'reference' }, 6);
    expect(await run('good', { ...base(), transform }, 6)).toEqual(reference);
    expect((await run('good', base(), 6)).map((b) => b.files)).toEqual(reference.map((b) => b.files));
    const jitter = { ...base(), transform: { size: [16, 24] as const, colorJitter: 0.4 } };
    expect(await run('good', jitter, 3)).toEqual(await run('good', { ...jitter, workers: 0, kernels: 'reference' }, 3));
    const plain = await run('good', base(), 1);
    expect((await run('good', jitter, 1))[0]?.images).not.toEqual(plain[0]?.images);
  });

  test('a padded crop is RandomCrop(size, padding=4) and a mirror, with the same bits natively and by definition', async () => {
    const size = [20, 20] as const;
    const still = await run('good', { ...base(), transform: { size, crop: 'center', resizeRatio: 1 }, shuffle: false, workers: 0 }, 5);
    const options = { ...base(), transform: { size, crop: 'padded' as const }, shuffle: false };
    const moved = await run('good', { ...options, workers: 0, kernels: 'reference' }, 5);
    expect(await run('good', options, 5)).toEqual(moved);
    const black = normalisationTable(IMAGENET);
    const seen = new Set<string>();
    for (const [b, batch] of moved.entries()) {
      for (let row = 0; row < 4; row++) {
        const rng = augmentationRng(5, 0, b * 4 + row);
        const [top, left, flip] = [Math.floor(rng.uniform() * 9), Math.floor(rng.uniform() * 9), rng.uniform() < 0.5];
        seen.add(`${top} ${left} ${flip}`);
        for (let c = 0; c < 3; c++) {
          for (let y = 0; y < 20; y++) {
            for (let x = 0; x < 20; x++) {
              const [sy, sx] = [y + top - 4, (flip ? 19 - x : x) + left - 4];
              const inside = sy >= 0 && sy < 20 && sx >= 0 && sx < 20;
              const at = (y0: number, x0: number): number => ((row * 3 + c) * 20 + y0) * 20 + x0;
              const expected = inside ? still[b]?.images[at(sy, sx)] : black[c * 256];
              if (batch.images[at(y, x)] !== expected) expect.fail(`picture ${b * 4 + row}, channel ${c}, y ${y}, x ${x}: ${batch.images[at(y, x)]}, expected ${expected}`);
            }
          }
        }
      }
    }
    expect(seen.size).toBeGreaterThan(10);
  });

  test('resumes in mid-epoch with the same bits; prefetched batches do not count', async () => {
    const reference = await run('good', base(), 9);
    const source = openPipeline(openImageFolder(join(folder, 'good')), base());
    for (let i = 0; i < 3; i++) await source.next();
    const state = JSON.parse(JSON.stringify(source.state()));
    expect(state).toEqual({ epoch: 0, step: 3, broken: [] });
    for (let i = 0; i < 4; i++) await source.next();
    for (let again = 0; again < 3; again++) {
      source.restore(state);
      for (let i = 3; i < 9 - again; i++) expect(await source.next()).toEqual(reference[i]);
    }
    await source.close();
    const fresh = openPipeline(openImageFolder(join(folder, 'good')), base());
    fresh.restore(state);
    expect(await fresh.next()).toEqual(reference[3]);
    await fresh.close();
  });

  test('a broken file is reported once by name and replaced, the same with any number of workers', async () => {
    const results: { batches: Batch[]; told: string[]; state: unknown }[] = [];
    for (const workers of [0, 1, 3]) {
      const told: string[] = [];
      const source = openPipeline(openImageFolder(join(folder, 'bad')), { ...base(), workers, maxBrokenShare: 0.1, onBroken: (name, reason) => told.push(`${name}: ${reason}`) });
      const batches: Batch[] = [];
      for (let i = 0; i < 10; i++) batches.push(await source.next());
      results.push({ batches, told, state: source.state() });
      await source.close();
    }
    const [first, ...others] = results as [(typeof results)[0], ...typeof results];
    for (const other of others) expect(other).toEqual(first);
    expect(first.told.length).toBe(2);
    expect(first.told.join('\n')).toMatch(/ant\/3.png: .*is empty \(0 bytes\)/);
    expect(first.told.join('\n')).toMatch(/cat\/5.png: .*not a readable image/);
    for (const b of first.batches) expect(b.files.some((f) => f === 'ant/3.png' || f === 'cat/5.png')).toBe(false);
  });

  test('too many broken files stop the run', async () => {
    const source = openPipeline(openImageFolder(join(folder, 'bad')), { ...base(), onBroken: () => undefined });
    const stop = async (): Promise<void> => {
      for (let i = 0; i < 10; i++) await source.next();
    };
    await expect(stop()).rejects.toThrow(/data: 2 of the 21 images of '.*bad' are broken, more than maxBrokenShare = 0.05 allows: .*(ant\/3.png|cat\/5.png)/);
    await expect(source.next()).rejects.toThrow(/are broken/);
    await source.close();
  });

  test('workers stage ahead while the main thread is blocked', async () => {
    const source = openPipeline(openImageFolder(join(folder, 'good')), base());
    await source.next();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500); // what a training step does to the event loop
    const counters = (source as unknown as { staging: { done(slot: number): number } }).staging;
    expect([0, 1, 2].map((slot) => counters.done(slot) >= 4)).toEqual([true, true, true]);
    await source.close();
  });

  test('a region is all that is seen; closing is final', async () => {
    const data = new Uint8Array(60 * 40 * 3).fill(255);
    for (let y = 0; y < 40; y++) data.fill(0, (y * 60 + 30) * 3, (y * 60 + 60) * 3);
    mkdirSync(join(folder, 'half'));
    writeFileSync(join(folder, 'half/x.png'), await sharp(data, { raw: { width: 60, height: 40, channels: 3 } }).png().toBuffer());
    const set = openImageFolder(join(folder, 'half')).withRegion({ top: 0, left: 0.5, bottom: 1, right: 1 });
    const source = openPipeline(set, { ...base(), samplesPerEpoch: 8, transform: { size: [16, 16], normalisation: { mean: [0, 0, 0], std: [1, 1, 1] } } });
    expect(Math.max(...(await source.next()).images)).toBe(0);
    await source.close();
    await source.close();
    await expect(source.next()).rejects.toThrow(/closed/);
    expect(() => set.withRegion({ top: 0, left: 0.5, bottom: 1, right: 0.5 })).toThrow(/region is/);
  });

  test('options that make no sense', () => {
    const set = openImageFolder(join(folder, 'good'));
    expect(() => openPipeline(set, { ...base(), batchSize: 22 })).toThrow(/holds no full batch of 22/);
    expect(() => openPipeline(set, { ...base(), workers: -1 })).toThrow(/workers is -1/);
    expect(() => openPipeline(set, { ...base(), maxBrokenShare: 2 })).toThrow(/maxBrokenShare is 2/);
    expect(() => openPipeline(set, { ...base(), prefetch: 0 })).toThrow(/prefetch is 0/);
  });
});
