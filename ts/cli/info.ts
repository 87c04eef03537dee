import { encoderNames, encoderPreset } from '../models';
import { planClassifier, planModel, type Plan } from '../train/plan';
import { applyOverrides, parseRecipe } from '../train/recipe';
import { loadFinetune, loadRecipe, recipeTask } from '../train/recipe_files';

/** A size with its unit. */
export const bytes = (n: number): string => (n >= 2 ** 30 ? `${(n / 2 ** 30).toFixed(2)} GiB` : `${(n / 2 ** 20).toFixed(1)} MiB`);
const giga = (n: number): string => (n / 1e9).toFixed(2);

/** Options of `simmim info`. */
export interface InfoOptions {
  recipe?: string;
  imageSize?: string;
  set: string[];
  classes: number;
}

/** `simmim info [PRESET...]`: parameters, operations and memory of models, by formula. */
export function info(names: readonly string[], options: InfoOptions, print: (line: string) => void): void {
  const overrides = [...options.set, ...(options.imageSize === undefined ? [] : [`model.imageSize=${options.imageSize}`])];
  if (options.recipe !== undefined) {
    const classifies = recipeTask(options.recipe) === 'finetune';
    printPlan(options.recipe, planRecipe(options.recipe, overrides, options.classes), classifies ? `head of ${options.classes} classes` : 'linear head', print);
    return;
  }
  if (names.length === 1) {
    printPlan(names[0] as string, planModel(changedModel(names[0] as string, overrides)), 'linear head', print);
    return;
  }
  print('preset           parameters  image  forward GMACs  training GFLOPs/image  activations/image  weights and optimizer');
  for (const name of names.length > 0 ? names : encoderNames) {
    const plan = planModel(changedModel(name, overrides));
    const columns = [
      encoderPreset(name).padEnd(15), `${(plan.parameters / 1e6).toFixed(1)} M`.padStart(11), String(plan.encoder.imageSize[0]).padStart(6), giga(plan.encoderMacs).padStart(14),
      giga(plan.trainingFlops).padStart(22), bytes(plan.activationBytes).padStart(18), bytes(plan.stateBytes).padStart(22),
    ];
    print(columns.join(' '));
  }
}

/** A preset with the model keys that `--set` and `--image-size` change. */
export function changedModel(preset: string, overrides: readonly string[]): { encoder: string } & Record<string, unknown> {
  const encoder = encoderPreset(preset);
  if (overrides.length === 0) return { encoder };
  const before = parseRecipe({}).model as Record<string, unknown>;
  const after = (applyOverrides(parseRecipe({}), overrides) as { model: Record<string, unknown> }).model;
  const changed = Object.entries(after).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(before[key]) || overrides.some((o) => o.startsWith(`model.${key}=`)));
  return { ...Object.fromEntries(changed), encoder };
}

/** What a recipe's model costs; of a fine-tuning recipe its classifier of so many classes. */
export function planRecipe(name: string, overrides: readonly string[], classes: number): Plan {
  return recipeTask(name) === 'finetune' ? planClassifier(loadFinetune(name, overrides), classes) : planModel(loadRecipe(name, overrides).model);
}

function printPlan(title: string, plan: Plan, head: string, print: (line: string) => void): void {
  const line = (key: string, value: string): void => print(`${key.padEnd(24)} ${value}`);
  print(`${title} at ${plan.encoder.imageSize.join(' x ')} px`);
  line('parameters', `${plan.parameters} (encoder ${plan.encoderParameters}, ${head} ${plan.parameters - plan.encoderParameters})`);
  line('forward, per image', `${giga(plan.encoderMacs)} G multiply-adds in the encoder (as the official flops() counts)`);
  line('training, per image', `${giga(plan.trainingFlops)} GFLOPs (forward and backward, 2 for each multiply-add)`);
  line('activations, per image', `${bytes(plan.activationBytes)} at their most (float32)`);
  line('  with checkpointing', bytes(plan.checkpointedBytes));
  line('weights and optimizer', `${bytes(plan.stateBytes)} (weights, gradients, two moments; the moments alone ${bytes(plan.optimizerBytes)}: see 'simmim plan' for several devices)`);
}
