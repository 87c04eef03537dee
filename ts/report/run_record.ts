import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { SimmimError } from '../errors';
import type { ProbeReport } from '../probe';
import { readLog, type RunEvaluation, type UpdateRecord, type ValidationRecord } from '../train/metrics';
import { anyRecipeFromYaml, type AnyRecipe } from '../train/finetune_recipe';
import type { Recipe } from '../train/recipe';

/** What the folder of a run tells. */
export interface RunRecord<R extends AnyRecipe = AnyRecipe> {
  /** Short and different for each run of a report. */
  name: string;
  folder: string;
  recipe: R;
  updates: UpdateRecord[];
  validations: ValidationRecord[];
  /** What `simmim probe` left in the folder. */
  probe: (ProbeReport & { baseline: ProbeReport | null }) | null;
  /** What `simmim evaluate` left in the folder. */
  evaluation: RunEvaluation | null;
}

/** Whether the run is one of pre-training. */
export function isPretraining(run: RunRecord): run is RunRecord<Recipe> {
  return run.recipe.task === 'pretrain';
}

/** Reads the folders of runs. Throws one sentence for a folder that is none. */
export function readRuns(folders: readonly string[]): RunRecord[] {
  const names = distinctNames(folders);
  return folders.map((folder, i) => readRun(folder, names[i] as string));
}

function readRun(folder: string, name: string): RunRecord {
  const file = (part: string): string => join(folder, part);
  if (!existsSync(folder)) throw new SimmimError('not_found', 'report', `no folder '${folder}'`);
  if (!existsSync(file('recipe.yaml')) || !existsSync(file('log.jsonl'))) throw new SimmimError('invalid_argument', 'report', `'${folder}' is not the folder of a run: it has no ${existsSync(file('recipe.yaml')) ? 'log.jsonl' : 'recipe.yaml'}`);
  const log = readLog(file('log.jsonl'));
  return {
    name, folder, recipe: anyRecipeFromYaml(readFileSync(file('recipe.yaml'), 'utf8'), file('recipe.yaml')),
    updates: log.filter((r) => r.kind === 'update'), validations: log.filter((r) => r.kind === 'validation'), probe: readJson(file('probe/probe.json'), 'probe'), evaluation: readJson(file('evaluation.json'), 'evaluate'),
  };
}

function readJson<T>(file: string, command: string): T | null {
  if (!existsSync(file)) return null;
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch (error) {
    throw new SimmimError('corrupt', 'report', `'${file}' is not what 'simmim ${command}' writes: ${(error as Error).message}`);
  }
}

/** Folder names with as many parents as it takes to tell them apart. */
export function distinctNames(folders: readonly string[]): string[] {
  const paths = folders.map((folder) => resolve(folder));
  const ends = (depth: number): string[] => paths.map((path) => {
    let at = path;
    const parts: string[] = [];
    for (let i = 0; i < depth && basename(at) !== ''; i++) {
      parts.unshift(basename(at));
      at = dirname(at);
    }
    return parts.join('/');
  });
  const wanted = new Set(paths).size;
  for (let depth = 1; depth < 8; depth++) if (new Set(ends(depth)).size === wanted) return ends(depth);
  return paths;
}
