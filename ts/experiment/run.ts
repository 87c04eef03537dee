import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabelledSplits } from '../data';
import { SimmimError } from '../errors';
import { writeWhole } from '../formats/whole_file';
import { disposeModel } from '../nn/module';
import { openEncoder, runProbe, type ProbeReport, type ProbeReporter } from '../probe';
import { checkpointsFolder, latestCheckpoint, type Checkpoint } from '../train/checkpoint';
import { readLog } from '../train/metrics';
import { anyRecipeFromYaml, parseFinetune, type AnyRecipe, type FinetuneRecipe } from '../train/finetune_recipe';
import { openFinetune, withSource } from '../train/finetune_run';
import { openEvaluation } from '../train/finetune_data';
import { evaluateClassifier } from '../train/evaluate_classifier';
import { parseRecipe, recipeToYaml, type Recipe } from '../train/recipe';
import { firstDifference } from '../train/recipe_difference';
import { openRun } from '../train/run';
import type { Reporter, Trainer } from '../train/trainer';
import type { Arm, Experiment } from './spec';

/** What one arm gave with one seed. */
export interface SeedResult {
  seed: number;
  firstLoss: number;
  /** Mean masked loss of each epoch. */
  epochLoss: number[];
  probe: { layer: string; pretrained: Judged; random: Judged } | null;
  /** Classifiers trained on the labels, judged on the validation part. */
  finetune: { pretrained: Judged; scratch: Judged } | null;
}

/** Top-1 in percent, and which pictures were right. */
export interface Judged {
  top1: number;
  right: boolean[];
}

/** Results by arm, in the order of seeds. */
export type ExperimentResults = Map<string, SeedResult[]>;

export interface ExperimentRun {
  /** ARM/seed-N/ below it holds each part: pretrain/, finetune/ and scratch/ (ordinary runs), probe/. */
  out: string;
  data: LabelledSplits;
  /** Where pre-training reads: `data.folder` and `data.source` of its recipe. */
  pretrainData: Pick<Recipe['data'], 'source' | 'folder'>;
  /** The same for fine-tuning. */
  labelledData: Pick<FinetuneRecipe['data'], 'source' | 'folder'>;
  /** Listens to a training of so many epochs. */
  reporter: (epochs: number) => Reporter;
  probeReporter: ProbeReporter;
  /** Told what is being done. */
  onStep: (what: string) => void;
  /** Given a function that ends the training in hand with a checkpoint; the experiment then ends too. */
  onStart: (stop: () => void) => void;
  /** Told after each seed with all results so far. */
  onResult: (results: ExperimentResults) => void;
}

/** Keys in which a run may differ from what its folder was made with. */
const FREE_KEYS = ['name', 'init', 'log', 'checkpoint', 'data.folder', 'data.workers'];

/**
 * Runs what is missing of an experiment, part by part; finished parts are kept, a training that was stopped continues from
 * its checkpoint. Returns the results, and whether they are complete.
 */
export async function runExperiment({ arms, seeds }: Experiment, given: ExperimentRun): Promise<{ results: ExperimentResults; complete: boolean }> {
  const results: ExperimentResults = new Map(arms.map(({ name }) => [name, []]));
  for (const seed of seeds) {
    for (const arm of arms) {
      const result = await oneSeed(arm, seed, given);
      if (!result) return { results, complete: false };
      results.get(arm.name)?.push(result);
      given.onResult(results);
    }
  }
  return { results, complete: true };
}

async function oneSeed(arm: Arm, seed: number, given: ExperimentRun): Promise<SeedResult | null> {
  const folder = join(given.out, arm.name, `seed-${seed}`);
  const pretrained = join(folder, 'pretrain');
  const recipe = parseRecipe({ ...arm.pretrain, name: `${arm.pretrain.name}, seed ${seed}`, train: { ...arm.pretrain.train, seed }, data: { ...arm.pretrain.data, ...given.pretrainData } });
  const what = (part: string): string => `${arm.name}, seed ${seed}: ${part}`;
  if (!(await pretrain(recipe, pretrained, given, what('pre-training')))) return null;
  const probed = arm.probe && (await probe(pretrained, join(folder, 'probe'), arm.probe.layer, given, what('probe')));
  const classifier = (own: FinetuneRecipe, init: string | null, part: string, sentence: string): Promise<Judged | null> => {
    const full = parseFinetune({ ...own, name: `${own.name}, seed ${seed}`, init, train: { ...own.train, seed }, data: { ...own.data, ...given.labelledData } });
    return finetune(full, join(folder, part), given, what(sentence));
  };
  let finetuned: SeedResult['finetune'] = null;
  if (arm.finetune) {
    const tuned = await classifier(arm.finetune.pretrained, pretrained, 'finetune', 'fine-tuning');
    const scratch = tuned && (await classifier(arm.finetune.scratch, null, 'scratch', 'training from the random start'));
    if (!scratch) return null;
    finetuned = { pretrained: tuned, scratch };
  }
  return { seed, ...losses(join(pretrained, 'log.jsonl')), probe: probed, finetune: finetuned };
}

/** Trains a run to its end; false when it was stopped before. */
async function pretrain(recipe: Recipe, folder: string, given: ExperimentRun, what: string): Promise<boolean> {
  const { reporter, resume } = prepare(recipe, folder, given);
  const run = openRun(recipe, folder, reporter, resume);
  try {
    return await trainToEnd(run.trainer, resume, given, what);
  } finally {
    await run.close();
    disposeModel(run.built.model);
  }
}

/** Trains a classifier to its end and judges it; null when it was stopped before. */
async function finetune(recipe: FinetuneRecipe, folder: string, given: ExperimentRun, what: string): Promise<Judged | null> {
  const { reporter, resume } = prepare(recipe, folder, given);
  const run = openFinetune(recipe, folder, reporter, resume);
  try {
    if (!(await trainToEnd(run.trainer, resume, given, what))) return null;
    const { built: { model, statistics }, data } = run;
    const { resizeRatio, batchSize } = recipe.validation;
    const { workers, maxBrokenShare } = recipe.data;
    const held = openEvaluation(data.validation, { size: model.encoder.imageSize, normalisation: statistics, resizeRatio, batchSize, workers, maxBrokenShare });
    const { top1, right } = await withSource(held, (open) => evaluateClassifier(model, open));
    return { top1, right };
  } finally {
    await run.close();
    disposeModel(run.built.model);
  }
}

/** Writes the recipe into the run's folder; throws when another is there. The checkpoint to continue from, if there is one. */
function prepare(recipe: AnyRecipe, folder: string, given: ExperimentRun): { reporter: Reporter; resume: Checkpoint | null } {
  checkFolder(folder, recipe);
  const reporter = given.reporter(recipe.train.epochs);
  const resume = latestCheckpoint(checkpointsFolder(folder), (sentence) => reporter.note(sentence));
  writeWhole(join(folder, 'recipe.yaml'), 'experiment', recipeToYaml(recipe));
  return { reporter, resume };
}

/** Runs a training that is not at its end; false when it was stopped before. */
async function trainToEnd(trainer: Trainer, resume: Checkpoint | null, given: ExperimentRun, what: string): Promise<boolean> {
  let stopped = false;
  given.onStart(() => {
    stopped = true;
    trainer.requestStop();
  });
  if (resume?.state.position.update === trainer.updates) return true;
  given.onStep(what);
  const { update } = await trainer.run();
  return update === trainer.updates && !stopped;
}

function checkFolder(folder: string, recipe: AnyRecipe): void {
  const file = join(folder, 'recipe.yaml');
  if (!existsSync(file)) return;
  const difference = firstDifference(anyRecipeFromYaml(readFileSync(file, 'utf8'), file), recipe, FREE_KEYS);
  if (difference) throw new SimmimError('invalid_argument', 'experiment', `${difference} since '${folder}' was begun: give another --out`);
}

/** First and mean losses of a finished run. */
function losses(log: string): Pick<SeedResult, 'firstLoss' | 'epochLoss'> {
  const epochs: number[][] = [];
  for (const record of readLog(log)) if (record.kind === 'update') (epochs[record.epoch] ??= []).push(record.loss);
  return { firstLoss: epochs[0]?.[0] ?? NaN, epochLoss: epochs.map((values) => values.reduce((a, b) => a + b, 0) / values.length) };
}

/** Logistic regression on one layer of the run's encoder and of its random start. */
async function probe(run: string, folder: string, layer: string, given: ExperimentRun, what: string): Promise<SeedResult['probe']> {
  const judged = async (random: boolean): Promise<Judged & { label: string }> => {
    const source = openEncoder(run, { random });
    try {
      const report = await stored(join(folder, `${random ? 'random' : 'pretrained'}.json`), source.digest, () => {
        given.onStep(`${what} of the ${random ? 'random start' : 'pre-trained encoder'}`);
        return runProbe(source, given.data.train, given.data.validation, { methods: ['logistic'], layers: layer, folder: join(folder, random ? 'random' : 'pretrained'), reporter: given.probeReporter });
      });
      const [result] = report.results;
      if (!result) throw new SimmimError('internal', 'experiment', `the probe of '${run}' gave no result`);
      return { top1: result.top1, right: [...result.right].map((digit) => digit === '1'), label: result.layer.label };
    } finally {
      disposeModel(source.encoder);
    }
  };
  const pretrained = await judged(false);
  return { layer: pretrained.label, pretrained, random: await judged(true) };
}

/** The report in `file` when it is of this encoder, else a fresh one, which is kept there. */
async function stored(file: string, digest: string, make: () => Promise<ProbeReport>): Promise<ProbeReport> {
  if (existsSync(file)) {
    const report = JSON.parse(readFileSync(file, 'utf8')) as ProbeReport;
    if (report.digest === digest) return report;
  }
  const report = await make();
  writeWhole(file, 'experiment', `${JSON.stringify(report, null, 1)}\n`);
  return report;
}
