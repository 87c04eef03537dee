import { describe, expect, test } from 'vitest';
import { gridFromYaml, gridNames, gridText, loadGrid } from '../../ts/ablation/grid';
import { resultTable } from '../../ts/ablation/report';
import { loadRecipe } from '../../ts/train/recipe_files';

const GRID = `
name: mine
base: demo
set: {train.epochs: 3}
cells:
  - {masking.patchSize: [8, 16], masking.ratio: [0.3, 0.6]}
  - {masking.strategy: square, masking.ratio: 0.3}
published:
  source: nobody
  columns: {top1: 'top-1 (%)'}
  rows:
    - {when: {masking.patchSize: 8, masking.strategy: random}, values: {top1: 50}}
    - {when: {masking.strategy: square}, values: {top1: 40.5}, note: by eye}
`;

describe('grids of the package', () => {
  test.each(gridNames())('%s is valid and says source, result, time and command', (name) => {
    const grid = loadGrid(name);
    expect(`ablations/${grid.name}`).toBe(name);
    for (const word of ['Source:', 'Expected:', 'Time:', 'Command:']) expect(gridText(name)).toContain(word);
    if (name === 'ablations/demo') return;
    for (const { recipe } of grid.cells) expect({ ...recipe, name: '', head: '', masking: 0, target: 0, loss: 0 }).toEqual({ ...loadRecipe('paper/swin_base_100ep'), name: '', head: '', masking: 0, target: 0, loss: 0 });
  });

  test("they are the paper's: 29 masks, 4 heads, 6 resolutions, every target and loss, prediction and reconstruction", () => {
    expect(loadGrid('masking').cells).toHaveLength(29);
    expect(loadGrid('masking').cells.every((c) => c.published.top1 !== undefined && c.published.avgDist !== undefined)).toBe(true);
    expect(loadGrid('heads').cells.map((c) => c.recipe.head)).toEqual(['linear', 'mlp', 'inverse_swin_tiny', 'inverse_swin_base']);
    expect(loadGrid('resolution').cells.map((c) => c.recipe.target.resolution)).toEqual([6, 12, 24, 48, 96, 192]);
    expect(loadGrid('prediction').cells.map((c) => c.recipe.loss.maskedOnly)).toEqual([true, false]);
    expect(loadGrid('targets').cells.map((c) => `${c.recipe.target.kind} ${c.recipe.loss.kind}`)).toEqual(['rgb l1', 'rgb l2', 'rgb smooth_l1', 'bins cross_entropy', 'bins cross_entropy', 'clusters cross_entropy', 'tokens cross_entropy']);
    expect(loadGrid('targets').cells.every((c) => Object.keys(c.published).length === 0)).toBe(true); // not verified, so not quoted
  });

  test('the parameters of the heads stand beside the published ones and agree with them', () => {
    const { headings, rows } = resultTable(loadGrid('heads'), new Map());
    const column = (heading: string): number[] => rows.map((row) => Number(row[headings.indexOf(heading)]));
    column('parameters (M)').forEach((n, i) => expect(Math.abs(n - (column('published parameters (M)')[i] as number))).toBeLessThan(0.06));
  });
});

describe('gridFromYaml', () => {
  test('multiplies lists, names cells by what varies, finds published values by the whole recipe', () => {
    const grid = gridFromYaml(GRID, 'mine.yaml', { overrides: ['train.batchSize=4'] });
    expect(grid.keys).toEqual(['masking.patchSize', 'masking.ratio', 'masking.strategy']);
    expect(grid.cells.map((c) => c.id)).toEqual(['patchSize=8,ratio=0.3', 'patchSize=8,ratio=0.6', 'patchSize=16,ratio=0.3', 'patchSize=16,ratio=0.6', 'ratio=0.3,strategy=square']);
    expect(grid.cells.map((c) => c.published.top1)).toEqual([50, 50, undefined, undefined, 40.5]);
    expect(grid.cells[4]?.publishedNote).toBe('by eye');
    for (const { recipe } of grid.cells) expect([recipe.train.epochs, recipe.train.batchSize, recipe.model.embedDim]).toEqual([3, 4, 48]);
    expect(grid.cells[0]?.recipe.name).toBe('mine/patchSize=8,ratio=0.3');
  });

  test('a list as a value stands in a list of its own', () => {
    const { cells } = gridFromYaml('{name: a, base: demo, cells: [{model.depths: [[1, 1, 1], [2, 2, 2]]}]}', 'a');
    expect(cells.map((c) => [c.id, c.recipe.model.depths])).toEqual([['depths=1_1_1', [1, 1, 1]], ['depths=2_2_2', [2, 2, 2]]]);
  });

  test.each<[string, string]>([
    ['a: [', 'g.yaml: is not YAML'],
    ['[1]', 'g.yaml: the grid is wrong: expected'],
    ['name: a\nbase: demo', 'g.yaml: cells is wrong: expected a list'],
    ['{name: a, base: demo, cells: []}', 'expected at least one entry'],
    ['{name: a, base: demo, cells: [{masking.ratio: []}]}', "'masking.ratio' has an empty list of values"],
    ['{name: a, base: demo, cels: []}', "unknown key 'cels', did you mean 'cells'?"],
    ['{name: ../x, base: demo, cells: [{train.seed: 1}]}', 'name is wrong'],
    ['{name: a, base: demmo, cells: [{train.seed: 1}]}', "no recipe 'demmo', did you mean 'demo'?"],
    ['{name: a, base: demo, cells: [{masking.ratoi: 0.5}]}', "g.yaml, cell ratoi=0.5: unknown key 'masking.ratoi', did you mean 'masking.ratio'?"],
    ['{name: a, base: demo, cells: [{masking.ratio: [0.5, 2]}]}', 'g.yaml, cell ratio=2: masking.ratio is 2'],
    ['{name: a, base: demo, cells: [{masking.patchSize: [8, 7]}]}', 'g.yaml, cell patchSize=7: masking.patchSize is 7, expected a divisor'],
    ['{name: a, base: demo, cells: [{masking.ratio: [0.5, 0.5]}]}', 'is there twice'],
    ['{name: a, base: demo, cells: [{train.seed: [1, 2]}, {train.seed: 2}]}', 'cell seed=2 is there twice'],
    ['{name: a, base: demo, cells: [{train.seed: 1}], published: {source: x, columns: {a: b}, rows: [{when: {train.seed: 1}, values: {c: 1}}]}}', "the column 'c', which published.columns does not name"],
    ['{name: a, base: demo, cells: [{train.seed: 1}], published: {source: x, columns: {a: b}, rows: [{when: {train.seed: 7}, values: {a: 1}}]}}', 'belongs to no cell'],
    ['{name: a, base: demo, cells: [{train.seed: 1}], published: {source: x, columns: {a: b}, row: []}}', "unknown key 'published.row', did you mean 'rows'?"],
    [`{name: a, base: demo, cells: [{train.seed: [${Array.from({ length: 101 }, (_, i) => i).join()}], masking.minCells: [${Array.from({ length: 101 }, (_, i) => i + 1).join()}]}]}`, 'has more than 10000 cells'],
  ])('%s is refused in one sentence', (text, sentence) => {
    let message = '';
    try {
      gridFromYaml(text, 'g.yaml');
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toContain(sentence);
    expect(message.split('\n')).toHaveLength(1);
  });

  test('unknown grids name the nearest', () => {
    expect(() => loadGrid('maskin')).toThrow("no grid 'maskin', did you mean 'masking'?");
    expect(() => loadGrid('nowhere.yaml')).toThrow("no grid 'nowhere.yaml'");
  });
});
