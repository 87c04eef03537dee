import { expect, test } from 'vitest';
import { parseRecipe, recipeFromYaml, recipeToYaml } from '../../ts/train/recipe';
import { loadRecipe, recipeNames, recipeText } from '../../ts/train/recipe_files';

const set = (...overrides: string[]) => recipeFromYaml('', 'test', overrides);

test('every recipe of the package is valid, named after its file and says result, time, command and source', () => {
  const names = recipeNames('pretrain');
  expect(names).toEqual(expect.arrayContaining(['official-code/swin_base_100ep', 'official-code/swin_base_800ep', 'official-code/swin_large_800ep', 'official-code/vit_base_800ep', 'paper/swin_base_800ep', 'paper/swin_large_800ep', 'paper/vit_base_800ep']));
  for (const name of names) {
    expect(loadRecipe(name).name).toBe(name);
    const comments = recipeText(name).split('\n').filter((line) => line.startsWith('#')).join('\n');
    for (const word of ['Source:', 'Expected:', 'Time:', 'Command:']) expect(comments, name).toContain(word);
  }
});

test('official-code switches the slips on and paper does not; rates are the published ones', () => {
  for (const name of recipeNames('pretrain')) {
    const { quirks, optimizer, train, schedule } = loadRecipe(name);
    const official = name.startsWith('official-code/');
    expect([quirks.lrLag, quirks.clipEveryMicroStep, quirks.decayBiasTables, quirks.schedulerCountsDroppedSteps]).toEqual(Array(4).fill(official));
    if (name === 'demo' || name.startsWith('cifar10/')) continue;
    expect(train.batchSize * train.accumulation).toBe(2048);
    const base = (optimizer.baseLr * 2048) / 512;
    expect(base).toBeCloseTo(official && train.epochs === 800 ? 4e-4 : 8e-4, 12);
    expect(schedule.name).toBe(official && train.epochs === 800 ? 'multistep' : 'cosine');
    expect(schedule.warmupEpochs).toBe(!official && train.epochs === 800 ? 20 : 10);
  }
});

test('the defaults are the sound behaviour', () => {
  const r = parseRecipe({});
  expect(Object.values(r.quirks)).toEqual([false, false, false, false, false]);
  expect(r.schedule.warmupPrefix).toBe(true);
});

test('printed as YAML and read again a recipe is the same', () => {
  for (const name of recipeNames('pretrain')) {
    const r = loadRecipe(name);
    expect(recipeFromYaml(recipeToYaml(r), 'printed')).toEqual(r);
  }
});

test('overrides are typed', () => {
  const r = set('train.batchSize=7', 'model.depths=[2, 2]', 'optimizer.clip=null', 'data.folder=a b', 'optimizer.baseLr=1e-3');
  expect([r.train.batchSize, r.model.depths, r.optimizer.clip, r.data.folder, r.optimizer.baseLr]).toEqual([7, [2, 2], null, 'a b', 1e-3]);
});

const refused: [string, string][] = [
  ['train.batchsize=64', "--set: unknown key 'train.batchsize', did you mean 'train.batchSize'?"],
  ['trian.epochs=3', "--set: unknown key 'trian', did you mean 'train'?"],
  ['batchSize=3', "--set: unknown key 'batchSize', did you mean 'train.batchSize'?"],
  ['train.epochs.x=2', "--set: 'train.epochs' is a value: 'train.epochs.x' does not exist below it"],
  ['train.batchSize=abc', '--set: train.batchSize is "abc": expected number, received string'],
  ['train.batchSize=0', '--set: train.batchSize is 0'],
  ['loss.kind=l3', '--set: loss.kind is "l3": expected one of "l1"|"l2"|"smooth_l1"'],
  ['model.imageSize=x', '--set: model.imageSize is "x": expected a positive whole number or [height, width]'],
  ['train', "--set: got 'train', expected key=value"],
  ['masking.patchSize=31', '--set: masking.patchSize is 31, expected a divisor of the image size 192 x 192'],
  ['schedule.warmupEpochs=101', '--set: schedule.warmupEpochs is 101, expected at most train.epochs = 100'],
  ['optimizer.decayRules=[{pattern: "(", value: 0}]', '--set: optimizer.decayRules.0.pattern is "(": expected a regular expression'],
  ['__proto__.x=1', "--set: unknown key '__proto__'"],
];
for (const [override, message] of refused) test(`refused: ${override}`, () => expect(() => set(override)).toThrow(message));

test('unknown keys, files and recipes name the nearest', () => {
  expect(() => recipeFromYaml('train: {batchSiz: 3}', 'my.yaml')).toThrow("my.yaml: unknown key 'train.batchSiz', did you mean 'train.batchSize'?");
  expect(() => recipeFromYaml('a: [', 'my.yaml')).toThrow('my.yaml: is not YAML');
  expect(() => recipeFromYaml('[1]', 'my.yaml')).toThrow('my.yaml: is a list or a single value, expected keys and values');
  expect(() => loadRecipe('swin_base_100ep')).toThrow("no recipe 'swin_base_100ep', did you mean 'official-code/swin_base_100ep'?");
  expect(() => loadRecipe('nowhere.yaml')).toThrow("recipe: no file 'nowhere.yaml'");
});
