import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { writeWhole } from '../formats/whole_file';
import { disposeModel } from '../nn/module';
import { averageDistance } from '../simmim';
import { checkpointsFolder, latestCheckpoint } from '../train/checkpoint';
import { evaluateMasked } from '../train/evaluate';
import { medianSpeed } from '../train/metrics';
import { buildModel } from '../train/model_build';
import { imageSizeOf, recipeFromYaml, recipeToYaml, type Recipe } from '../train/recipe';
import { firstDifference } from '../train/recipe_difference';
import { openRun, type OpenRun } from '../train/run';
import { openRunData } from '../train/run_data';
import { maskStrategy, withMaskGrid } from '../train/task';
import type { Reporter } from '../train/trainer';
import type { Grid, GridCell } from './grid';

/** Numbers measured of a finished cell, by column heading. */
export type Measured = Readonly<Record<string, number>>;

/** What `result.json` of a cell holds. */
export interface CellResult {
  /** Updates done. */
  updates: number;
  /** Share of the image that is hidden, mean over masks. */
  hidden: number;
  /** AvgDist in pixels on 4-pixel tokens; null where masks or image have no such tokens. */
  avgDist: number | null;
  measured: Measured;
  /** Why the cell has no numbers: its training diverged. */
  failed: string | null;
}

/** Something to measure or write once a cell is trained; `folder` is its run folder. */
export type AfterCell = (run: OpenRun, recipe: Recipe, folder: string) => Promise<Measured>;

/** How {@link runGrid} works and whom it tells. */
export interface GridRun {
  /** Folder of the grid: cells/ID/ is the run folder of each cell. */
  out: string;
  after: readonly AfterCell[];
  reporter: (cell: GridCell) => Reporter;
  /** Told before a cell is trained, how many are finished and how many there are. */
  onCell: (cell: GridCell, finished: number, total: number) => void;
  /** Told after each cell with all results so far. */
  onResult: (results: ReadonlyMap<string, CellResult>) => void;
  /** Given a function that ends the cell in hand after its step, with a checkpoint; the grid then ends too. */
  onStart: (stop: () => void) => void;
}

/** Keys in which a cell may differ from what its folder was made with: they change neither training nor result. */
const FREE_KEYS = ['name', 'log', 'checkpoint', 'train.maxNonFinite', 'train.recorded', 'data.folder', 'data.workers', 'data.validationFolder'];

const AVG_DIST_DRAWS = { draws: 500, seed: 1 };

/** The run folder of a cell. */
export const cellFolder = (out: string, id: string): string => join(out, 'cells', id);

/** The masked loss on the held-out pictures, that of the best constant, and how the two compare. */
export const maskedLoss: AfterCell = async ({ built, data }, recipe): Promise<Measured> => {
  const held = data.openValidation();
  if (!held) return {};
  try {
    const { loss, constantLoss } = await evaluateMasked(built.model, built.masking, held, recipe.train.seed, recipe.loss);
    return { 'masked loss': loss, 'best constant': constantLoss, 'share of it': loss / constantLoss };
  } finally {
    await held.close();
  }
};

/** Median images a second over the updates of the log. */
export const speed: AfterCell = async (_, __, folder): Promise<Measured> => {
  const images = medianSpeed(join(folder, 'log.jsonl'));
  return images === null ? {} : { 'images/s': images };
};

/**
 * Trains every cell of a grid that is not finished yet, one after another, each as an ordinary run that resumes from
 * its newest checkpoint. All cells are checked before the first is trained: models are built, pictures found, and
 * folders of an earlier run compared with the grid. Returns the results, and whether all cells have one.
 */
export async function runGrid(grid: Grid, given: GridRun): Promise<{ results: Map<string, CellResult>; complete: boolean }> {
  const cells = await prepare(grid, given.out);
  const results = new Map<string, CellResult>();
  for (const { id } of cells) {
    const result = readResult(given.out, id);
    if (result) results.set(id, result);
  }
  let stopped = false;
  for (const cell of cells) {
    if (results.has(cell.id)) continue;
    given.onCell(cell, results.size, cells.length);
    const result = await runCell(cell, given, () => (stopped = true));
    if (result) results.set(cell.id, result);
    given.onResult(results);
    if (stopped) break;
  }
  return { results, complete: results.size === cells.length };
}

/** Deletes the folders of a grid's cells. */
export function forgetCells(grid: Grid, out: string): void {
  for (const { id } of grid.cells) rmSync(cellFolder(out, id), { recursive: true, force: true });
}

/** Cells with their mask files read; throws one sentence for the first that cannot be trained or was another one before. */
async function prepare(grid: Grid, out: string): Promise<GridCell[]> {
  const cells: GridCell[] = [];
  for (const cell of grid.cells) {
    try {
      const recipe = await withMaskGrid(cell.recipe);
      disposeModel(buildModel(recipe).model);
      openRunData(recipe);
      checkFolder(cellFolder(out, cell.id), recipe);
      cells.push({ ...cell, recipe });
    } catch (error) {
      if (error instanceof SimmimError) throw new SimmimError(error.code, 'ablate', `cell ${cell.id}: ${error.message}`);
      throw error;
    }
  }
  return cells;
}

function checkFolder(folder: string, recipe: Recipe): void {
  const file = join(folder, 'recipe.yaml');
  if (!existsSync(file)) return;
  const difference = firstDifference(recipeFromYaml(readFileSync(file, 'utf8'), file), recipe, FREE_KEYS);
  if (difference) throw new SimmimError('invalid_argument', 'recipe', `${difference} since '${folder}' was begun: give another --out, or begin anew with --overwrite`);
}

async function runCell(cell: GridCell, { out, after, reporter, onStart }: GridRun, onStop: () => void): Promise<CellResult | null> {
  const folder = cellFolder(out, cell.id);
  const listener = reporter(cell);
  writeWhole(join(folder, 'recipe.yaml'), 'ablate', recipeToYaml(cell.recipe));
  const run = openRun(cell.recipe, folder, listener, latestCheckpoint(checkpointsFolder(folder), (sentence) => listener.note(sentence)));
  let stopped = false;
  onStart(() => {
    stopped = true;
    run.trainer.requestStop();
  });
  try {
    const { update } = await run.trainer.run();
    if (stopped) onStop();
    if (update < run.trainer.updates) return null;
    const measured: Record<string, number> = {};
    for (const measure of after) Object.assign(measured, await measure(run, cell.recipe, folder));
    return writeResult(folder, { updates: update, ...maskOf(cell.recipe), measured, failed: null });
  } catch (error) {
    if (!(error instanceof SimmimError) || error.code !== 'non_finite') throw error;
    listener.note(error.message);
    return writeResult(folder, { updates: 0, ...maskOf(cell.recipe), measured: {}, failed: error.message });
  } finally {
    await run.close();
    disposeModel(run.built.model);
  }
}

/** What a recipe's masks hide and how far it is from what they show. */
export function maskOf(recipe: Recipe): Pick<CellResult, 'hidden' | 'avgDist'> {
  const strategy = maskStrategy(recipe);
  const size = imageSizeOf(recipe);
  const onTokens = [...size, ...(strategy.kind === 'explicit' ? strategy.grid.length > 0 ? [size[0] / strategy.grid.length] : [] : [strategy.patch])].every((n) => n % 4 === 0);
  const { mean, hidden } = averageDistance(strategy, size, onTokens ? 'token' : 'pixel', AVG_DIST_DRAWS);
  return { hidden, avgDist: onTokens ? mean : null };
}

function readResult(out: string, id: string): CellResult | null {
  const file = join(cellFolder(out, id), 'result.json');
  if (!existsSync(file)) return null;
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as CellResult;
  } catch (error) {
    throw new SimmimError('corrupt', 'ablate', `'${file}' is not what this command writes: ${(error as Error).message}; delete it, and the cell is measured again`);
  }
}

function writeResult(folder: string, result: CellResult): CellResult {
  writeWhole(join(folder, 'result.json'), 'ablate', `${JSON.stringify(result, null, 1)}\n`);
  return result;
}
