import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';
import { loadRecipe } from '../../ts/train/recipe_files';
import { recipeFromYaml } from '../../ts/train/recipe';
import { simmim } from './run_cli';

const folder = mkdtempSync(join(tmpdir(), 'simmim-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

mkdirSync(join(folder, 'empty'));
mkdirSync(join(folder, 'notes'));
writeFileSync(join(folder, 'notes', 'readme.txt'), 'no picture');
writeFileSync(join(folder, 'file'), 'x');

const refused: [string, string[], string][] = [
  ['unknown command', ['pretrian'], "unknown command 'pretrian', did you mean 'pretrain'?"],
  ['unknown option', ['pretrain', '--recip', 'x'], "unknown option '--recip', did you mean '--recipe'?"],
  ['unknown recipe', ['pretrain', '--recipe', 'demoo'], "no recipe 'demoo', did you mean 'demo'?"],
  ['no recipe', ['pretrain'], 'give --recipe NAME'],
  ['unknown key', ['pretrain', '--recipe', 'demo', '--set', 'train.epoch=1'], "unknown key 'train.epoch', did you mean 'train.epochs'?"],
  ['a model that the weights decide', ['info', '--recipe', 'finetune/demo', '--set', 'model.encoder=null'], 'model.encoder is not set and no weights are given'],
  ['unknown encoder', ['info', 'swin_bse'], "unknown encoder 'swin_bse'; did you mean 'swin_base'?"],
  ['missing data', ['pretrain', '--recipe', 'paper/vit_base_800ep', '--out', join(folder, 'a')], 'give the folder of your pictures with --data FOLDER'],
  ['missing folder', ['pretrain', '--recipe', 'demo', '--data', join(folder, 'nowhere'), '--out', join(folder, 'a')], `folder '${join(folder, 'nowhere')}' does not exist`],
  ['empty folder', ['pretrain', '--recipe', 'demo', '--data', join(folder, 'empty'), '--out', join(folder, 'a')], join(folder, 'empty')],
  ['folder without pictures', ['pretrain', '--recipe', 'demo', '--data', join(folder, 'notes'), '--out', join(folder, 'a')], join(folder, 'notes')],
  ['a file as the run', ['pretrain', '--recipe', 'demo', '--out', join(folder, 'file', 'x')], 'cannot make the folder'],
  ['resume of nothing', ['pretrain', '--resume', '--out', join(folder, 'b')], 'holds no checkpoint to resume'],
  ['resume and overwrite', ['pretrain', '--resume', '--overwrite', '--out', join(folder, 'b')], 'exclude each other'],
  ['unknown backend', ['pretrain', '--recipe', 'demo', '--out', join(folder, 'a'), '--backend', 'simmim-cpo'], "unknown backend 'simmim-cpo', did you mean 'simmim-cpu'?"],
  ['visualize without a run', ['visualize'], "missing required argument 'run'"],
  ['visualize nowhere', ['visualize', join(folder, 'nowhere')], 'no folder'],
  ['visualize without checkpoint', ['visualize', join(folder, 'empty')], 'holds no checkpoint'],
  ['not a number', ['visualize', 'x', '--count', 'many'], 'expected a positive whole number'],
];
test.each(refused)('refused in one sentence: %s', async (_, args, sentence) => {
  const { code, errors } = await simmim(...args);
  expect(code).toBe(1);
  expect(errors).toHaveLength(1);
  expect(errors[0]).toContain(sentence);
  expect(errors[0]?.split('\n')).toHaveLength(1);
});

test('help, version, recipes, info and doctor succeed', async () => {
  expect((await simmim('--help')).code).toBe(0);
  expect((await simmim('--version')).out.trim()).toMatch(/^\d+\.\d+\.\d+$/);
  expect((await simmim('recipes')).out.split('\n')).toContain('official-code/swin_base_100ep');
  expect((await simmim('recipes', 'demo')).out).toContain('# Command: npm run demo');
  expect((await simmim('recipes', 'ablations/heads')).out).toContain('# Command: simmim ablate heads');
  expect((await simmim('info', 'swin_base')).out).toContain('89874104 (encoder 86725304');
  expect((await simmim('info', '--recipe', 'paper/swin_base_100ep')).out).toContain('89874104 (encoder 86725304, linear head 3148800)');
  const classifier = await simmim('info', '--recipe', 'paper/finetune_swin_base_100ep', '--image-size', '224', '--set', 'model.windowSize=7', '--classes', '1000');
  expect(classifier.out).toContain('paper/finetune_swin_base_100ep at 224 x 224 px');
  expect(classifier.out).toContain('87768224 (encoder 86743224, head of 1000 classes 1025000)');
  expect((await simmim('plan', '--recipe', 'paper/finetune_swin_base_100ep')).out).toContain('192 x 192 px, 87.8 M parameters');
  expect((await simmim('info')).out.trim().split('\n')).toHaveLength(14);
  const { code, out } = await simmim('doctor');
  expect(code).toBe(0);
  for (const word of ['addon', 'instruction set', 'threads', 'native kernels', 'tfjs-core', 'in JavaScript']) expect(out).toContain(word);
  expect(out).toMatch(/in JavaScript .*StringNGrams/);
  expect(out).not.toMatch(/in JavaScript .*(MatMul|Relu|Transpose)/);
});

test('--print-config prints the whole recipe, overrides applied', async () => {
  const { out } = await simmim('pretrain', '--recipe', 'demo', '--print-config', '--set', 'train.epochs=3', '--data', folder);
  const printed = recipeFromYaml(out, 'printed');
  expect(printed).toEqual({ ...loadRecipe('demo'), train: { ...loadRecipe('demo').train, epochs: 3 }, data: { ...loadRecipe('demo').data, source: 'folder', folder } });
});

/** A run of seconds: a tiny Swin on the demonstration's photographs. */
const TINY = ['--recipe', 'demo', '--backend', 'cpu', ...[
  'model.imageSize=32', 'model.embedDim=8', 'model.depths=[2]', 'model.heads=[2]', 'model.windowSize=4', 'masking.patchSize=8', 'data.samplesPerEpoch=8', 'data.workers=1',
  'train.batchSize=4', 'train.epochs=2', 'schedule.warmupEpochs=0', 'validation.images=4', 'checkpoint.everySteps=3',
].flatMap((s) => ['--set', s])];

test('a run trains, validates, saves, shows; it is not overwritten by accident, resumes, and its pictures are pictures', async () => {
  const out = join(folder, 'run');
  const run = await simmim('pretrain', ...TINY, '--out', out);
  expect(run.errors).toEqual([]);
  expect(run.out).toContain('This is a demonstration');
  expect(run.out).toMatch(/validation masked loss [\d.]+ on 4 held-out images; the best constant .* has [\d.]+/);
  expect(readFileSync(join(out, 'log.jsonl'), 'utf8').trim().split('\n')).toHaveLength(4 + 1);
  expect(recipeFromYaml(readFileSync(join(out, 'recipe.yaml'), 'utf8'), 'run').model.embedDim).toBe(8);
  const { width, height } = await sharp(join(out, 'reconstruction.png')).metadata();
  expect([width, height]).toEqual([4 + 4 * 164, 4 + 4 * 164]); // four columns; 32 px enlarged to 160, and gaps
  expect(readFileSync(join(out, 'reconstruction.html'), 'utf8').match(/data:image\/png;base64,/g)).toHaveLength(16);

  expect((await simmim('pretrain', ...TINY, '--out', out)).errors[0]).toContain('already holds a run');
  expect((await simmim('pretrain', '--resume', '--backend', 'cpu', '--out', out)).code).toBe(0);
  expect((await simmim('pretrain', '--resume', '--backend', 'cpu', '--out', out, '--set', 'train.seed=1')).errors[0]).toContain('train.seed was 0 and is now 1');

  const shown = await simmim('visualize', out, '--backend', 'cpu', '--count', '3', '--out', join(folder, 'pictures', 'mine.png'));
  expect(shown.errors).toEqual([]);
  expect(existsSync(join(folder, 'pictures', 'mine.png')) && existsSync(join(folder, 'pictures', 'mine.html'))).toBe(true);
});

test('plan: memory of each device with and without checkpointing and sharding', async () => {
  const { code, out } = await simmim('plan', '--model', 'swinv2_giant', '--batch', '8', '--devices', '8');
  expect(code).toBe(0);
  const row = (name: string): number[] => [...(new RegExp(`^${name} +(.*)$`, 'm').exec(out)?.[1] ?? '').matchAll(/([\d.]+) GiB/g)].map((m) => Number(m[1]));
  const [whole, shared] = [row('optimizer')[0] as number, row('optimizer, sharded over 8')[0] as number];
  expect(Math.abs(whole / shared - 8)).toBeLessThan(0.05);
  const [kept, checkpointed] = row('activations of 8 images') as [number, number];
  expect(checkpointed).toBeLessThan(kept / 4);
  const sum = (row('weights and gradients')[0] as number) + shared + checkpointed;
  expect(Math.abs((row('all, optimizer sharded')[1] as number) - sum)).toBeLessThan(0.02);
  expect((await simmim('plan')).errors[0]).toContain('give either --model PRESET');
  expect((await simmim('plan', '--model', 'swinv2_giantt')).errors[0]).toContain('swinv2_giant');
});

test('an explicit mask goes from its picture through training to the pictures of visualize', async () => {
  const size = 32;
  const mask = join(folder, 'mask.png');
  const hidden = (x: number, y: number): boolean => x >= 8 && x < 24 && y >= 16;
  await sharp(Buffer.from(Array.from({ length: size * size }, (_, i) => (hidden(i % size, Math.floor(i / size)) ? 255 : 0))), { raw: { width: size, height: size, channels: 1 } }).png().toFile(mask);
  const out = join(folder, 'explicit');
  const { code, errors, out: printed } = await simmim(
    'pretrain', '--recipe', 'demo', '--out', out, '--set', `model.imageSize=${size}`, '--set', 'model.depths=[1, 1]', '--set', 'model.heads=[2, 4]', '--set', 'masking.strategy=explicit', '--set', `masking.file=${mask}`,
    '--set', 'train.epochs=1', '--set', 'train.batchSize=4', '--set', 'schedule.warmupEpochs=0', '--set', 'data.samplesPerEpoch=8', '--set', 'validation.images=2', '--set', 'data.workers=0',
  );
  expect([code, errors]).toEqual([0, []]);
  expect(printed).toContain('16 of 64 mask cells');
  rmSync(mask); // the run holds the cells themselves
  const shown = join(folder, 'shown');
  expect((await simmim('visualize', out, '--out', shown, '--count', '1')).errors).toEqual([]);
  const { data, info } = await sharp(`${shown}.png`).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const scale = Math.round((info.width / 4 - 4) / size); // four pictures in a row, 4 px apart
  const at = (column: number, x: number, y: number): number[] => {
    const left = 4 + column * (size * scale + 4);
    const from = ((4 + y * scale) * info.width + left + x * scale) * 3;
    return Array.from(data.subarray(from, from + 3));
  };
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const [original, masked, predicted, pasted] = [0, 1, 2, 3].map((column) => at(column, x, y));
      expect(masked, `${x}, ${y}`).toEqual(hidden(x, y) ? [128, 128, 128] : original);
      expect(pasted, `${x}, ${y}`).toEqual(hidden(x, y) ? predicted : original);
    }
  }
});
