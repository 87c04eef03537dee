import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { recipeOf, type Checkpoint } from '../train/checkpoint';
import { isMasked, short } from '../train/metrics';
import { applyOverrides, parseRecipe, recipeToYaml, type Recipe } from '../train/recipe';
import { loadRecipe } from '../train/recipe_files';
import { EventReporter } from '../report/tensorboard';
import { type OpenRun, openRun } from '../train/run';
import { withMaskGrid } from '../train/task';
import type { RunSummary } from '../train/trainer';
import { useBackend } from './backend';
import { ConsoleReporter } from './progress';
import { checkResumable, precisionOverride, prepareFolder, resumedCheckpoint, runFolder, type TrainOptions } from './run_folder';
import { withSignals } from './signals';
import { writePictures } from './visualize';

/** `simmim pretrain`: trains, saves, validates, shows. */
export async function pretrain(options: TrainOptions, print: (line: string) => void): Promise<void> {
  const out = runFolder('pretrain', options);
  const checkpoint = resumedCheckpoint('pretrain', out, options, print);
  const recipe = await chooseRecipe(options, checkpoint);
  if (options.printConfig) {
    print(recipeToYaml(recipe).trimEnd());
    return;
  }
  prepareFolder('pretrain', out, options);
  await useBackend(options.backend);
  const reporter = new ConsoleReporter(recipe.train.epochs, process.stderr);
  const events = options.tensorboard ? new EventReporter(reporter, join(out, 'tensorboard'), checkpoint?.state.position.update ?? 0) : null;
  const run = openRun(recipe, out, events ?? reporter, checkpoint);
  try {
    writeFileSync(join(out, 'recipe.yaml'), recipeToYaml(recipe));
    announce(run, recipe, out, checkpoint, print);
    const summary = await withSignals(() => run.trainer.requestStop(), (sentence) => reporter.note(sentence), () => run.trainer.run());
    await conclude(run, recipe, out, summary, print);
  } finally {
    await run.close();
    events?.close();
  }
}

/** The recipe: from the file, or on resume from the checkpoint, with which a given one must agree. */
async function chooseRecipe(options: TrainOptions, checkpoint: Checkpoint | null): Promise<Recipe> {
  const overrides = [...options.set, ...(options.data === undefined ? [] : [`data.source=folder`, `data.folder=${JSON.stringify(resolve(options.data))}`]), ...precisionOverride(options)];
  if (!checkpoint) return withMaskGrid(loadRecipe(options.recipe ?? '', overrides));
  const stored = recipeOf(checkpoint, 'pretrain');
  const wanted = options.recipe ? await withMaskGrid(loadRecipe(options.recipe, overrides)) : overrides.length > 0 ? parseRecipe(applyOverrides(stored, overrides), '--set') : stored;
  return checkResumable('pretrain', checkpoint, stored, wanted);
}

function announce(run: OpenRun, recipe: Recipe, out: string, checkpoint: Checkpoint | null, print: (line: string) => void): void {
  const { encoder } = run.built.model;
  print(`${recipe.name}: ${encoder.name} at ${encoder.imageSize.join(' x ')} px, ${(run.buffers.size / 1e6).toFixed(2)} M parameters, ${run.built.masking.count} of ${run.built.masking.cells[0] * run.built.masking.cells[1]} mask cells of ${recipe.masking.patchSize} px hidden`);
  if (recipe.data.source === 'demo') print(`This is a demonstration on ${run.data.description}. For your own pictures: simmim pretrain --recipe demo --data FOLDER --set data.samplesPerEpoch=null`);
  else print(`data: ${run.data.description}`);
  for (const warning of run.data.warnings) print(`warning: ${warning}`);
  print(`${run.trainer.updates} updates of ${recipe.train.batchSize * recipe.train.accumulation} images; log, recipe and checkpoints go to '${out}'`);
  if (checkpoint) print(`continuing from '${checkpoint.folder}' after update ${checkpoint.state.position.update}`);
}

async function conclude(run: OpenRun, recipe: Recipe, out: string, summary: RunSummary, print: (line: string) => void): Promise<void> {
  const { validation } = summary;
  const broken = run.broken();
  if (broken.length > 0) print(`${broken.length} broken pictures were left out, the first being '${broken[0]}'`);
  if (summary.skipped > 0) print(`${summary.skipped} updates were skipped because a loss or gradient was not finite`);
  if (summary.end === 'stopped') {
    print(`stopped after update ${summary.update}, saved in '${summary.checkpoint}'; continue with: simmim pretrain --resume --out ${out}`);
    return;
  }
  if (validation && isMasked(validation)) {
    const better = (1 - validation.loss / validation.constantLoss) * 100;
    print(`validation masked loss ${short(validation.loss)} on ${validation.images} held-out images; the best constant (mean of each image's visible pixels) has ${short(validation.constantLoss)}: ${Math.abs(better).toFixed(0)} % ${better >= 0 ? 'lower' : 'HIGHER'}`);
    const [png, html] = await writePictures(run.built, recipe, join(out, 'reconstruction'), { count: 8 }, { 'validation masked loss': short(validation.loss), 'best constant': short(validation.constantLoss), updates: String(summary.update) });
    print(`pictures: ${png} (and ${html})`);
  }
  print(`checkpoint: ${summary.checkpoint}`);
  if (recipe.data.source === 'demo') {
    print('This was a demonstration: six photographs teach colours and their continuation, nothing about the world.');
    print("Your own pictures: simmim pretrain --recipe official-code/swin_base_100ep --data FOLDER --out runs/mine ('simmim recipes' lists all)");
  }
}
