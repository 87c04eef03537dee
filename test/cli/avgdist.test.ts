import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';
import { measureDistances, paperStrategies } from '../../ts/ablation/avg_dist_table';
import { averageDistance } from '../../ts/simmim';
import { simmim } from './run_cli';

const folder = mkdtempSync(join(tmpdir(), 'simmim-avgdist-'));
afterAll(() => rmSync(folder, { recursive: true }));

test("every value of the paper's Fig. 3 is quoted once, and ours on tokens lie within 8 % of the digitised ones, on average 3 %", () => {
  const quoted = measureDistances(paperStrategies(), [192, 192], 'token', { draws: 200, seed: 3 }).filter((row) => row.published);
  expect(quoted).toHaveLength(29);
  const errors = quoted.map(({ distance, published }) => Math.abs((distance.mean as number) / (published?.avgDist as number) - 1));
  expect(Math.max(...errors)).toBeLessThan(0.08);
  expect(errors.reduce((a, b) => a + b) / errors.length).toBeLessThan(0.03);
});

test('the standard error is that of the mean: it tells how far two runs lie apart', () => {
  const strategy = { kind: 'random', patch: 32, ratio: 0.5 } as const;
  const runs = Array.from({ length: 30 }, (_, seed) => averageDistance(strategy, [192, 192], 'token', { draws: 40, seed }));
  const means = runs.map((r) => r.mean as number);
  const centre = means.reduce((a, b) => a + b) / 30;
  const spread = Math.sqrt(means.reduce((sum, m) => sum + (m - centre) ** 2, 0) / 29);
  const claimed = runs.reduce((sum, r) => sum + (r.stderr as number), 0) / 30;
  expect(spread / claimed).toBeGreaterThan(0.65); // 30 runs tell a deviation to 13 %
  expect(spread / claimed).toBeLessThan(1.35);
  expect(averageDistance({ kind: 'explicit', grid: [[1, 0]] }, [8, 16], 'token', { draws: 9, seed: 0 })).toEqual({ mean: 6, stderr: 0, hidden: 0.5, measured: 1 });
  expect(averageDistance({ kind: 'random', patch: 32, ratio: 1 }, [64, 64], 'token', { draws: 2, seed: 0 })).toEqual({ mean: null, stderr: null, hidden: 1, measured: 0 });
});

test('the table says unit and source; the figure and the table are written', async () => {
  const stem = join(folder, 'figures', 'fig3');
  const { code, out, errors } = await simmim('avgdist', '--draws', '20', '--out', `${stem}.svg`);
  expect([code, errors]).toEqual([0, []]);
  expect(out).toContain('AvgDist (px, token)');
  expect(out).toMatch(/random +\| +32 +\| +0.5 +\| +0.500 +\| +1[34]\.\d\d +\| +0\.\d+ +\| +14.6 +\| +83.0 +\|/);
  expect(out).toContain('Fig. 3, digitised from the figure');
  const svg = readFileSync(`${stem}.svg`, 'utf8');
  for (const name of ['random 4 px', 'random 64 px', 'block 16 px', 'square 32 px', 'Fine-tuned accuracy by AvgDist', 'digitised']) expect(svg).toContain(name);
  expect((await sharp(`${stem}.png`).metadata()).width).toBe(2240);
  expect(readFileSync(`${stem}.csv`, 'utf8').trim().split('\r\n')).toHaveLength(1 + 5 * 9 + 2 * 9 + 4);
});

test('any strategy, any size, both units; a recipe, explicit masks included', async () => {
  const pixel = await simmim('avgdist', '--strategy', 'block', '--patch', '16,32', '--ratio', '0.5', '--image-size', '64,96', '--unit', 'pixel', '--min-cells', '2', '--draws', '5');
  expect(pixel.out).toContain('AvgDist (px, pixel)');
  expect(pixel.out).toContain('block (>= 2 cells)');
  expect(pixel.out).not.toContain('digitised'); // nothing is published at this size
  await sharp(Buffer.of(255, 0), { raw: { width: 2, height: 1, channels: 1 } }).png().toFile(join(folder, 'half.png'));
  const explicit = await simmim('avgdist', '--recipe', 'demo', '--set', 'model.imageSize=[8, 16]', '--set', 'masking.strategy=explicit', '--set', `masking.file=${join(folder, 'half.png')}`);
  expect(explicit.out).toMatch(/explicit \| +\| +\| +0.500 +\| +6.00 \| +0.000/);
});

writeFileSync(join(folder, 'file'), 'x');
test.each<[string[], string]>([
  [['--unit', 'pixels'], "--unit is 'pixels', expected token or pixel"],
  [['--strategy', 'spiral'], "--strategy is 'spiral', expected random, square or block"],
  [['--patch', '33'], 'mask cells of 33 px do not tile an image of 192x192 px'],
  [['--patch', '2'], 'are not whole patches of the model'],
  [['--ratio', '1.5'], 'ratio is 1.5, expected a share between 0 and 1'],
  [['--ratio', 'half'], 'expected numbers with commas between'],
  [['--recipe', 'demo', '--patch', '8'], 'change it with --set'],
  [['--set', 'masking.ratio=0.5'], 'name it with --recipe'],
  [['--patch', '32', '--min-cells', '4'], 'only blocks have a smallest size'],
  [['--image-size', '192,192,3'], 'expected one or two whole numbers of pixels'],
  [['--patch', '32', '--draws', '2', '--out', join(folder, 'file', 'x')], 'cannot write'],
])('refused in one sentence: avgdist %j', async (args, sentence) => {
  const { code, errors } = await simmim('avgdist', ...args);
  expect([code, errors.length, errors[0]?.split('\n').length]).toEqual([1, 1, 1]);
  expect(errors[0]).toContain(sentence);
});
