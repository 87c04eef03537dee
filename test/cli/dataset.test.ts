import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDataset } from '../../ts/data';
import { recipeFromYaml } from '../../ts/train/recipe';
import { simmim } from './run_cli';

const dir = mkdtempSync(join(tmpdir(), 'simmim-dataset-'));
const set = join(dir, 'set');
beforeAll(async () => {
  for (const [split, count] of [['train', 3], ['val', 1]] as const) {
    for (const [c, name] of ['ant', 'bee'].entries()) {
      mkdirSync(join(set, split, name), { recursive: true });
      for (let i = 0; i < count; i++) writeFileSync(join(set, split, name, `${split}${i}.png`), await sharp(new Uint8Array(8 * 6 * 3).fill(51 * (c + i)), { raw: { width: 8, height: 6, channels: 3 } }).png().toBuffer());
    }
  }
  writeFileSync(join(set, 'train/bee/broken.jpg'), 'nothing');
});
afterAll(() => rmSync(dir, { recursive: true }));

test('stats: means, sizes, broken and double pictures, classes, and a line that recipes take', async () => {
  const { code, out, errors } = await simmim('stats', set, '--json', join(dir, 'out/stats.json'));
  expect([code, errors]).toEqual([0, []]);
  for (const line of ['train: 7 of ', 'mean (R G B) [0.3000, 0.3000, 0.3000]', 'width        8 / 8 / 8', "broken       1: bee/broken.jpg (decode: 'bee/broken.jpg' is not a readable image", 'double       2: bee/train0.png = ant/train1.png; bee/train1.png = ant/train2.png', 'classes      2: ant 3; bee 4', 'validation: 2 of ']) expect(out).toContain(line);
  expect(out).toMatch(/warning: 2 of the 2 validation pictures have the same bytes as a training picture, such as ant\/val0.png and ant\/train0.png/);
  const override = /--set '(data.statistics=[^']*)'/.exec(out)?.[1] ?? '';
  expect(recipeFromYaml('', 'test', [override]).data.statistics?.mean).toEqual([0.3, 0.3, 0.3]);
  expect(JSON.parse(readFileSync(join(dir, 'out/stats.json'), 'utf8'))).toMatchObject({ train: { pictures: 7, broken: [{ name: 'bee/broken.jpg' }] }, validation: { pictures: 2 } });
});

test('pack: both parts, broken pictures left out by name, and stats checks the shards', async () => {
  const packed = join(dir, 'packed');
  const { code, out } = await simmim('pack', set, packed, '--format', 'jpeg', '--max-side', '4');
  expect(code).toBe(0);
  expect(out).toMatch(/packed 6 pictures of '.*train' into 1 shards in .*train'/);
  expect(out).toContain("left out: decode: 'bee/broken.jpg' is not a readable image");
  expect(openDataset(join(packed, 'train')).classCounts()).toEqual([3, 3]);
  expect((await simmim('stats', packed)).out).toContain(`shards of '${join(packed, 'val')}' match their checksums`);
  const shard = join(packed, 'val/shard-00000.tar');
  const bytes = readFileSync(shard);
  bytes[700] = (bytes[700] as number) ^ 255;
  writeFileSync(shard, bytes);
  expect((await simmim('stats', packed)).errors).toEqual([expect.stringMatching(/1 shards of '.*val' do not match their checksums, the first being 'shard-00000.tar'/)]);
  expect((await simmim('pack', set, packed)).errors[0]).toContain('already holds shard-00000.tar');
});

test.each([
  [['pack', 'x', 'y', '--format', 'jpg'], "unknown format 'jpg'; did you mean 'jpeg'?"],
  [['pack', 'x', 'y', '--quality', '50'], '--quality change pictures, which --format copy does not'],
  [['pack', 'x', 'y', '--shard-size', 'big'], 'expected a number above 0'],
  [['pack', join(dir, 'nowhere'), 'y'], 'does not exist'],
  [['stats', join(dir, 'nowhere')], 'does not exist'],
])('refused in one sentence: %j', async (args, sentence) => {
  const { code, errors } = await simmim(...args);
  expect(code).toBe(1);
  expect(errors).toEqual([expect.stringContaining(sentence)]);
});

test('a class that only validation has is one sentence', async () => {
  const odd = join(dir, 'odd');
  for (const [split, name] of [['train', 'ant'], ['train', 'bee'], ['val', 'ant'], ['val', 'cow']] as const) {
    mkdirSync(join(odd, split, name), { recursive: true });
    copyFileSync(join(set, 'train/ant/train1.png'), join(odd, split, name, 'x.png'));
  }
  expect((await simmim('stats', odd)).errors[0]).toContain("has class 'cow', which is not among the 2 classes ant, bee");
});
