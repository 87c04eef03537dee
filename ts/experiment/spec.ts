import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { SimmimError } from '../errors';
import type { FinetuneRecipe } from '../train/finetune_recipe';
import { nearest, type Recipe } from '../train/recipe';
import { loadFinetune, loadRecipe } from '../train/recipe_files';

const band = z.tuple([z.number(), z.number()], { error: 'expected [least, most]' });

const arm = z.strictObject({
  /** Recipe of pre-training. */
  pretrain: z.string(),
  /** Overrides of it, `key=value`. */
  set: z.array(z.string()).default([]),
  /** Logistic regression on the frozen features of one layer, against the random start. */
  probe: z.strictObject({ layer: z.string().default('last') }).optional(),
  /** A classifier from the pre-trained weights, and the same from its random start. */
  finetune: z.strictObject({
    /** Recipe of fine-tuning. */
    recipe: z.string(),
    /** Overrides of it, `key=value`. */
    set: z.array(z.string()).default([]),
    /** Further overrides for training from the random start, which may want other rates. */
    scratch: z.array(z.string()).default([]),
  }).optional(),
  /** What must come out. */
  expect: z.strictObject({
    /** Masked loss of the first update. */
    firstLoss: band.optional(),
    /** Epoch (from 1) -> band of its mean loss. */
    epochLoss: z.record(z.string().regex(/^[1-9]\d*$/), band).default({}),
    /** Points of top-1 over the random start: least mean over the seeds, and least in each. */
    probeGain: z.strictObject({ mean: z.number().optional(), each: z.number().optional() }).default({}),
    /** Points of top-1 of fine-tuning over training from the random start: least mean over the seeds, and the greatest p of McNemar's test on all pictures of all seeds. */
    finetuneGain: z.strictObject({ mean: z.number().optional(), p: z.number().positive().max(1).optional() }).default({}),
  }).prefault({}),
});

const file = z.strictObject({
  name: z.string(),
  seeds: z.array(z.int().min(0)).min(1),
  /** `folder`: labelled pictures given with --data; `demo`: crops of the package's photographs. */
  data: z.enum(['folder', 'demo']).default('folder'),
  arms: z.record(z.string().regex(/^[\w-]+$/), arm),
});

/** What an arm must show, see the file's keys. */
export type Expectation = z.output<typeof arm>['expect'];

/** One model of an experiment, trained once for each seed. */
export interface Arm {
  name: string;
  /** Without seed and data. */
  pretrain: Recipe;
  probe: { layer: string } | null;
  /** Without seed, data and initial weights. */
  finetune: { pretrained: FinetuneRecipe; scratch: FinetuneRecipe } | null;
  expect: Expectation;
}

/** An experiment, read and checked. */
export interface Experiment {
  name: string;
  seeds: readonly number[];
  data: 'folder' | 'demo';
  arms: readonly Arm[];
}

const FOLDER = join(__dirname, '..', 'recipes', 'experiments');

/** Names of the experiments in the package. */
export function experimentNames(): string[] {
  return readdirSync(FOLDER).filter((f) => f.endsWith('.yaml')).map((f) => f.slice(0, -'.yaml'.length)).sort();
}

/** The text of an experiment's file: one of the package by name (with or without `experiments/`), or any YAML file by path. */
export function experimentText(nameOrFile: string): string {
  const names = experimentNames();
  const short = nameOrFile.replace(/^experiments\//, '');
  if (names.includes(short)) return readFileSync(join(FOLDER, `${short}.yaml`), 'utf8');
  if (existsSync(nameOrFile) && statSync(nameOrFile).isFile()) return readFileSync(nameOrFile, 'utf8');
  const guess = nearest(short, names);
  throw new SimmimError('not_found', 'experiment', `no experiment '${nameOrFile}'${guess ? `, did you mean '${guess}'?` : ''} (there are ${names.join(', ')}; or give the path of a .yaml file)`);
}

/** Narrows an experiment down. */
export interface ExperimentChoice {
  seeds?: readonly number[];
  /** Names of arms. */
  arms?: readonly string[];
  /** Overrides of every pre-training recipe. */
  set?: readonly string[];
}

/** Reads an experiment with its recipes. Throws one sentence that names the file and the key for whatever is wrong. */
export function loadExperiment(nameOrFile: string, choice: ExperimentChoice = {}): Experiment {
  const parsed = parseFile(experimentText(nameOrFile), nameOrFile);
  const all = Object.entries(parsed.arms).map(([name, { pretrain, set, probe, finetune, expect }]): Arm => ({
    name, pretrain: loadRecipe(pretrain, [...set, ...(choice.set ?? [])]), probe: probe ?? null, expect,
    finetune: finetune ? { pretrained: loadFinetune(finetune.recipe, finetune.set), scratch: loadFinetune(finetune.recipe, [...finetune.set, ...finetune.scratch]) } : null,
  }));
  const unknown = choice.arms?.find((name) => !all.some((a) => a.name === name));
  if (unknown !== undefined) throw new SimmimError('invalid_argument', 'experiment', `no arm '${unknown}' in ${parsed.name}, which has ${all.map((a) => a.name).join(', ')}`);
  return { name: parsed.name, data: parsed.data, seeds: choice.seeds ?? parsed.seeds, arms: all.filter(({ name }) => choice.arms?.includes(name) ?? true) };
}

function parseFile(text: string, origin: string): z.output<typeof file> {
  let tree: unknown;
  try {
    tree = parseYaml(text);
  } catch (error) {
    throw new SimmimError('invalid_argument', origin, `is not YAML: ${(error as Error).message.split('\n')[0] ?? ''}`);
  }
  const result = file.safeParse(tree);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new SimmimError('invalid_argument', origin, `${issue?.path.join('.') || 'the file'}: ${issue?.message ?? 'is no experiment'}`);
}
