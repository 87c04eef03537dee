import type { Batch } from '../../ts/data/types';
import { disposeModel } from '../../ts/nn/module';
import type { FlatBuffers } from '../../ts/train/flat_buffers';
import { MaskedTask } from '../../ts/train/masked_task';
import { buildBuffers, buildModel, type BuiltModel } from '../../ts/train/model_build';
import type { Recipe } from '../../ts/train/recipe';
import { TrainingStep } from '../../ts/train/step';
import { StepState } from '../../ts/train/step_state';

/** How `trainSome` trains. */
interface Course {
  updates: number;
  /** Rate of update `i` of `updates`. */
  lr(i: number): number;
  weightDecay?: number;
  /** Called with the trained weights before they go. */
  end?(buffers: FlatBuffers, built: BuiltModel): void;
}

/** The losses of some updates of a recipe's model on the same pictures [B, 3, H, W], each under its own masks. */
export async function trainSome(recipe: Recipe, pictures: Float32Array, { updates, lr, weightDecay = 0, end }: Course): Promise<number[]> {
  const built = buildModel(recipe);
  const buffers = buildBuffers(built, recipe);
  const { seed } = recipe.train;
  const state = new StepState(seed);
  const task = new MaskedTask(built.model, built.masking, seed);
  const step = new TrainingStep(task, buffers, state, { accumulation: 1, clip: 5, clipEveryMicroStep: false, betas: [0.9, 0.999], eps: 1e-8, weightDecay });
  const imageShape = [3, ...built.model.encoder.imageSize];
  const count = pictures.length / imageShape.reduce((a, b) => a * b, 1);
  const batch: Batch = { images: pictures, files: new Array<string>(count).fill(''), indices: new Array<number>(count).fill(0), epoch: 0, step: 0 };
  const losses: number[] = [];
  for (let i = 0; i < updates; i++) {
    state.writeClock(i, 0);
    await step.begin();
    await step.micro(task.inputs(batch, imageShape, i, 0)).done;
    losses.push((await step.apply(lr(i), i + 1)).loss);
  }
  end?.(buffers, built);
  step.dispose();
  buffers.dispose();
  state.dispose();
  disposeModel(built.model);
  return losses;
}

/** Pictures [count, 3, height, width], normalised, from a formula. */
export function drawPictures([count, height, width]: readonly [number, number, number], value: (x: number, y: number, c: number, b: number) => number): Float32Array {
  const pictures = new Float32Array(count * 3 * height * width);
  pictures.forEach((_, i) => {
    pictures[i] = value(i % width, Math.floor(i / width) % height, Math.floor(i / (width * height)) % 3, Math.floor(i / (3 * width * height)));
  });
  return pictures;
}
