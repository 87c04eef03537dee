import { encoderNames, encoderPreset } from '../models';
import { planModel } from '../train/plan';
import { applyOverrides, parseRecipe } from '../train/recipe';
import { loadRecipe } from '../train/recipe_files';

const bytes = (n: number): string => (n >= 2 ** 30 ? `${(n / 2 ** 30).toFixed(2)} GiB` : `${(n / 2 ** 20).toFixed(1)} MiB`);
const giga = (n: number): string => (n / 1e9).toFixed(2);

/** Options of `simmim info`. */
export interface InfoOptions {
  recipe?: string;
  imageSize?: string;
  set: string[];
}

/** `simmim info [PRESET...]`: parameters, operations and memory of models, by formula. */
export function info(names: readonly string[], options: InfoOptions, print: (line: string) => void): void {
  if (options.recipe !== undefined) {
    printPlan(options.recipe, loadRecipe(options.recipe, options.set).model, print);
    return;
  }
  const overrides = [...options.set, ...(options.imageSize === undefined ? [] : [`model.imageSize=${options.imageSize}`])];
  const given = overrides.length === 0 ? {} : changed(overrides);
  if (names.length === 1) {
    printPlan(names[0] as string, { ...given, encoder: encoderPreset(names[0] as string) }, print);
    return;
  }
  print('preset           parameters  image  forward GMACs  training GFLOPs/image  activations/image  weights and optimizer');
  for (const name of names.length > 0 ? names : encoderNames) {
    const plan = planModel({ ...given, encoder: encoderPreset(name) });
    const columns = [
      encoderPreset(name).padEnd(15), `${(plan.parameters / 1e6).toFixed(1)} M`.padStart(11), String(plan.encoder.imageSize[0]).padStart(6), giga(plan.encoderMacs).padStart(14),
      giga(plan.trainingFlops).padStart(22), bytes(plan.activationBytes).padStart(18), bytes(plan.stateBytes).padStart(22),
    ];
    print(columns.join(' '));
  }
}

/** The model keys that `--set` and `--image-size` change. */
function changed(overrides: readonly string[]): Record<string, unknown> {
  const before = parseRecipe({}).model as Record<string, unknown>;
  const after = (applyOverrides(parseRecipe({}), overrides) as { model: Record<string, unknown> }).model;
  return Object.fromEntries(Object.entries(after).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(before[key]) || overrides.some((o) => o.startsWith(`model.${key}=`))));
}

function printPlan(title: string, model: Parameters<typeof planModel>[0], print: (line: string) => void): void {
  const plan = planModel(model);
  const line = (key: string, value: string): void => print(`${key.padEnd(24)} ${value}`);
  print(`${title} at ${plan.encoder.imageSize.join(' x ')} px`);
  line('parameters', `${plan.parameters} (encoder ${plan.encoderParameters}, linear head ${plan.parameters - plan.encoderParameters})`);
  line('forward, per image', `${giga(plan.encoderMacs)} G multiply-adds in the encoder (as the official flops() counts)`);
  line('training, per image', `${giga(plan.trainingFlops)} GFLOPs (forward and backward, 2 for each multiply-add)`);
  line('activations, per image', `${bytes(plan.activationBytes)} at their most (float32, no checkpointing)`);
  line('weights and optimizer', `${bytes(plan.stateBytes)} (weights, gradients, two moments)`);
}
