import type { Command } from 'commander';
import { SimmimError } from '../errors';
import { planModel, type Plan } from '../train/plan';
import { collect, wholeNumber } from './arguments';
import { bytes, changedModel, planRecipe } from './info';

/** Options of `simmim plan`, as given. */
interface Options {
  model?: string;
  recipe?: string;
  imageSize?: number;
  set: string[];
  batch: number;
  devices: number;
  classes: number;
}

/** Adds `simmim plan` to the command line. */
export function registerPlan(cli: Command, print: (line: string) => void): Command {
  return cli.command('plan')
    .description('memory of a training on some devices, by formula: with and without checkpointing of activations and sharding of the optimizer')
    .option('--model <preset>', 'preset, such as swinv2_giant')
    .option('--recipe <name>', "a recipe's model instead of a preset")
    .option('--image-size <px>', 'other than the preset has', wholeNumber)
    .option('--set <key=value>', 'override, such as model.windowSize=12; may be repeated', collect, [])
    .option('--batch <n>', 'images of one micro step on each device', wholeNumber, 64)
    .option('--classes <n>', "of a fine-tuning recipe's head", wholeNumber, 1000)
    .option('--devices <n>', 'devices that share the work', wholeNumber, 1)
    .action((options: Options) => plan(options, print));
}

/** `simmim plan --model NAME`. */
function plan(options: Options, print: (line: string) => void): void {
  const { batch, devices } = options;
  const cost = costOf(options);
  const images = batch * devices;
  print(`${options.recipe ?? cost.encoder.name} at ${cost.encoder.imageSize.join(' x ')} px, ${(cost.parameters / 1e6).toFixed(1)} M parameters, float32; ${devices} ${devices === 1 ? 'device' : 'devices'} with ${batch} images each`);
  print(`one update of ${images} images: ${(cost.trainingFlops * images / 1e12).toPrecision(4)} TFLOPs (${(cost.recomputedFlops * images / 1e12).toPrecision(4)} with checkpointing)`);
  print('');
  print('memory of each device                    all kept    checkpointed');
  const row = (name: string, kept: number, checkpointed = kept): void => print(`${name.padEnd(36)} ${bytes(kept).padStart(12)} ${bytes(checkpointed).padStart(15)}`);
  row('weights and gradients', cost.stateBytes - cost.optimizerBytes);
  row('optimizer', cost.optimizerBytes);
  if (devices > 1) row(`optimizer, sharded over ${devices}`, sharded(cost, devices));
  row(`activations of ${batch} images`, batch * cost.activationBytes, batch * cost.checkpointedBytes);
  const fixed = cost.stateBytes;
  row('all', fixed + batch * cost.activationBytes, fixed + batch * cost.checkpointedBytes);
  if (devices === 1) return;
  const less = fixed - cost.optimizerBytes + sharded(cost, devices);
  row('all, optimizer sharded', less + batch * cost.activationBytes, less + batch * cost.checkpointedBytes);
}

/** Bytes of the moments on each device when they are divided evenly. */
const sharded = ({ optimizerBytes }: Plan, devices: number): number => 8 * Math.ceil(optimizerBytes / 8 / devices);

function costOf({ model, recipe, imageSize, set, classes }: Options): Plan {
  if ((model === undefined) === (recipe === undefined)) throw new SimmimError('invalid_argument', 'plan', "give either --model PRESET (see 'simmim info') or --recipe NAME (see 'simmim recipes')");
  const overrides = [...set, ...(imageSize === undefined ? [] : [`model.imageSize=${imageSize}`])];
  return recipe === undefined ? planModel(changedModel(model as string, overrides)) : planRecipe(recipe, overrides, classes);
}
