import * as tf from '@tensorflow/tfjs-core';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { useBackend } from '../../ts/cli/backend';
import { loadGrid, type Grid } from '../../ts/ablation/grid';
import { cellFolder, maskedLoss, runGrid, type GridRun } from '../../ts/ablation/run';
import { recipeFromYaml } from '../../ts/train/recipe';
import type { Reporter } from '../../ts/train/trainer';
import { simmim } from './run_cli';

const folder = mkdtempSync(join(tmpdir(), 'simmim-ablate-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Two masks x two losses of a model of two blocks: seconds. */
const GRID = `
name: tiny
base: demo
set: {model.imageSize: 32, model.embedDim: 8, model.depths: [2], model.heads: [2], model.windowSize: 4, data.samplesPerEpoch: 8, data.workers: 1,
      train.batchSize: 4, train.epochs: 2, schedule.warmupEpochs: 0, validation.images: 4, checkpoint.everySteps: 1}
cells:
  - {masking.patchSize: [8, 16], loss.kind: [l1, l2]}
published: {source: nobody, columns: {top1: top-1}, rows: [{when: {masking.patchSize: 16, loss.kind: l1}, values: {top1: 12.5}}]}
`;
const file = join(folder, 'tiny.yaml');
beforeAll(() => writeFileSync(file, GRID));

const ids = ['patchSize=8,kind=l1', 'patchSize=8,kind=l2', 'patchSize=16,kind=l1', 'patchSize=16,kind=l2'];
const quiet: Reporter = { update: () => undefined, validation: () => undefined, checkpoint: () => undefined, note: () => undefined };
const given = (out: string, more: Partial<GridRun> = {}): GridRun => ({ out, after: [maskedLoss], reporter: () => quiet, onCell: () => undefined, onResult: () => undefined, onStart: () => undefined, ...more });
const weights = (out: string, id: string): Buffer => readFileSync(join(cellFolder(out, id), 'checkpoints/step-00000004/model.safetensors'));

test('trains every cell as a run of its own and compares them; the same command again trains nothing', async () => {
  const out = join(folder, 'whole');
  const first = await simmim('ablate', file, '--out', out);
  expect(first.errors).toEqual([]);
  for (const id of ids) {
    for (const name of ['recipe.yaml', 'log.jsonl', 'result.json', 'reconstruction.png', 'checkpoints/step-00000004/state.json']) expect(existsSync(join(cellFolder(out, id), name)), `${id}/${name}`).toBe(true);
  }
  const table = readFileSync(join(out, 'table.md'), 'utf8');
  expect(table).toContain('# tiny: 4 of 4 cells on demo');
  expect(table).toMatch(/\| masking.patchSize \| loss.kind \| hidden \| AvgDist \(px\) \| masked loss \| best constant \| share of it \| images\/s \| published top-1 \|/);
  expect(table).toMatch(/\| +16 \| l1 +\| +0.750 \| +\d+\.\d\d \|( +[\d.]+ \|){4} +12.5 \|/);
  expect(readFileSync(join(out, 'table.csv'), 'utf8').trim().split('\r\n')).toHaveLength(5);
  expect(readFileSync(join(out, 'plots.svg'), 'utf8')).toContain('Masked loss over that of the best constant');
  const before = statSync(join(cellFolder(out, ids[0] as string), 'log.jsonl')).mtimeMs;
  const again = await simmim('ablate', file, '--out', out);
  expect(again.out).not.toContain('cell 1 of 4');
  expect(again.out).toContain('| 12.5'.replace('| ', ''));
  expect(statSync(join(cellFolder(out, ids[0] as string), 'log.jsonl')).mtimeMs).toBe(before);
  // One cell's folder is a run like any other.
  expect((await simmim('visualize', cellFolder(out, ids[1] as string), '--count', '1', '--out', join(folder, 'p.png'))).errors).toEqual([]);
});

test('stopped in the middle of a cell and continued, it ends in the same bits; tensors are freed', async () => {
  await useBackend('simmim-cpu');
  const grid: Grid = loadGrid(file);
  const out = join(folder, 'stopped');
  let started = 0;
  let stop = (): void => undefined;
  const reporter = (): Reporter => ({ ...quiet, update: (record) => void (started === 2 && record.step === 2 && stop()) });
  const tensors = tf.memory().numTensors;
  const halted = await runGrid(grid, given(out, { reporter, onStart: (ending) => ((stop = ending), started++) }));
  expect([halted.complete, halted.results.size]).toEqual([false, 1]);
  const cells: string[] = [];
  const done = await runGrid(grid, given(out, { onCell: ({ id }) => cells.push(id) }));
  expect(done.complete).toBe(true);
  expect(cells).toEqual(ids.slice(1)); // the finished one is not trained again
  expect(tf.memory().numTensors).toBe(tensors);
  for (const id of ids) {
    expect(weights(out, id).equals(weights(join(folder, 'whole'), id)), id).toBe(true);
    const stored = JSON.parse(readFileSync(join(cellFolder(join(folder, 'whole'), id), 'result.json'), 'utf8')) as { measured: Record<string, number> };
    expect(stored.measured).toMatchObject(done.results.get(id)?.measured ?? { nothing: 1 });
  }
});

test('killed between training and measuring, a cell is measured, not trained again', async () => {
  const out = join(folder, 'unmeasured');
  cpSync(join(folder, 'whole'), out, { recursive: true });
  const id = ids[2] as string;
  const result = readFileSync(join(cellFolder(out, id), 'result.json'), 'utf8');
  rmSync(join(cellFolder(out, id), 'result.json'));
  const updates: number[] = [];
  const { results } = await runGrid(loadGrid(file), given(out, { reporter: () => ({ ...quiet, update: ({ step }) => updates.push(step) }) }));
  expect(updates).toEqual([]);
  expect(results.get(id)?.measured).toEqual(Object.fromEntries(Object.entries((JSON.parse(result) as { measured: object }).measured).filter(([key]) => key !== 'images/s')));
});

test('a changed grid is noticed; more cells are not a change, --overwrite begins anew', async () => {
  const out = join(folder, 'whole');
  const changed = await simmim('ablate', file, '--out', out, '--set', 'train.epochs=3');
  expect(changed.code).toBe(1);
  expect(changed.errors[0]).toContain(`cell ${ids[0] as string}: recipe: train.epochs was 2 and is now 3 since`);
  expect((await simmim('ablate', file, '--out', out, '--set', 'validation.images=3')).errors[0]).toContain('validation.images was 4 and is now 3');
  const more = join(folder, 'more.yaml');
  writeFileSync(more, GRID.replace('kind: [l1, l2]', 'kind: [l1, l2, smooth_l1]'));
  const grown = await simmim('ablate', more, '--out', out);
  expect(grown.out.match(/^cell \d of 6/gm)).toHaveLength(2);
  const anew = await simmim('ablate', file, '--out', out, '--overwrite', '--set', 'train.epochs=1');
  expect(anew.errors).toEqual([]);
  expect(recipeFromYaml(readFileSync(join(cellFolder(out, ids[0] as string), 'recipe.yaml'), 'utf8'), 'cell').train.epochs).toBe(1);
});

test('a cell that diverges is a row that says so, the others go on; a cell that cannot be built is refused before any is trained', async () => {
  const out = join(folder, 'diverged');
  const grid = join(folder, 'diverged.yaml');
  writeFileSync(grid, GRID.replace(/cells:\n.*\n/, 'cells:\n  - {optimizer.baseLr: [1.0e-3, 1.0e+30], optimizer.scaleLr: false, train.maxNonFinite: 1}\n').replace(/published:.*/, ''));
  const { errors } = await simmim('ablate', grid, '--out', out);
  expect(errors).toEqual([]);
  expect(readFileSync(join(out, 'table.md'), 'utf8')).toMatch(/\| +1e\+30 \|.*loss or gradient was not finite in 1 updates in a row/);
  const bad = join(folder, 'bad.yaml');
  writeFileSync(bad, GRID.replace('[l1, l2]', '[l1, cross_entropy]'));
  const refused = await simmim('ablate', bad, '--out', join(folder, 'bad'));
  expect(refused.errors[0]).toContain('cell patchSize=8,kind=cross_entropy: SimMIM: loss cross_entropy does not fit target rgb');
  expect(existsSync(join(folder, 'bad'))).toBe(false);
});

test('--list trains nothing; a folder is needed where the base recipe has no pictures', async () => {
  const listed = await simmim('ablate', 'heads', '--list');
  expect(listed.out).toContain('| inverse_swin_base |');
  expect((await simmim('ablate', 'heads', '--out', join(folder, 'x'))).errors[0]).toContain('cell head=linear: data.folder: is not set');
  expect((await simmim('ablate', 'nothing')).errors[0]).toContain("no grid 'nothing'");
});
