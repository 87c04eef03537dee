import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { SimmimError } from '../errors';
import { finetuneFromYaml, type FinetuneRecipe } from './finetune_recipe';
import { nearest, recipeFromYaml, taskOf, yamlTree, type Recipe, type Task } from './recipe';

const FOLDER = join(__dirname, '..', 'recipes');

/** Grids of recipes and experiments with them, which are not recipes themselves. */
const OTHERS = ['ablations/', 'experiments/'];

/** Names of the recipes in the package, such as `official-code/swin_base_100ep`; of one task or of both. */
export function recipeNames(task: Task | null = null): string[] {
  const files = readdirSync(FOLDER, { recursive: true, withFileTypes: true }).filter((f) => f.isFile() && f.name.endsWith('.yaml'));
  const names = files.map((f) => relative(FOLDER, join(f.parentPath, f.name)).split(sep).join('/').slice(0, -'.yaml'.length));
  const recipes = names.filter((name) => !OTHERS.some((folder) => name.startsWith(folder))).sort();
  return task === null ? recipes : recipes.filter((name) => taskOf(yamlTree(readFileSync(join(FOLDER, `${name}.yaml`), 'utf8'), name)) === task);
}

/**
 * Reads a recipe of the package by name, or any YAML file by path, and applies `key=value` overrides.
 * Throws `not_found`, naming the nearest recipe, or `invalid_argument` for what is wrong inside.
 */
export function loadRecipe(nameOrFile: string, overrides: readonly string[] = []): Recipe {
  return recipeFromYaml(recipeText(nameOrFile), nameOrFile, overrides);
}

/** As {@link loadRecipe}, for a recipe of fine-tuning. */
export function loadFinetune(nameOrFile: string, overrides: readonly string[] = []): FinetuneRecipe {
  return finetuneFromYaml(recipeText(nameOrFile), nameOrFile, overrides);
}

/** What a recipe is for. */
export function recipeTask(nameOrFile: string): Task {
  return taskOf(yamlTree(recipeText(nameOrFile), nameOrFile));
}

/** The text of a recipe, comments included. */
export function recipeText(nameOrFile: string): string {
  const names = recipeNames();
  const known = names.includes(nameOrFile) ? join(FOLDER, `${nameOrFile}.yaml`) : null;
  const file = known ?? nameOrFile;
  if (!existsSync(file) || !statSync(file).isFile()) {
    if (/\.ya?ml$/.test(nameOrFile)) throw new SimmimError('not_found', 'recipe', `no file '${nameOrFile}'`);
    const guess = names.find((name) => name.endsWith(`/${nameOrFile}`)) ?? nearest(nameOrFile, names);
    throw new SimmimError('not_found', 'recipe', `no recipe '${nameOrFile}'${guess ? `, did you mean '${guess}'?` : ''} (there are ${names.join(', ')}; or give the path of a .yaml file)`);
  }
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new SimmimError('io', 'recipe', `cannot read '${file}': ${(error as Error).message}`);
  }
}
