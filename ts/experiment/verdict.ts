import type { Table, TableValue } from '../charts';
import { mcnemar, spread } from '../probe';
import type { ExperimentResults, Judged, SeedResult } from './run';
import type { Arm, Experiment } from './spec';

/** One expectation and what came of it. */
export interface Check {
  what: string;
  got: number;
  expected: string;
  passed: boolean;
}

const number = (value: number, digits: number): string => value.toFixed(digits);
const signed = (value: number): string => `${value >= 0 ? '+' : ''}${value.toFixed(2)}`;
const pValue = (p: number): string => (p < 0.001 ? p.toExponential(0) : p.toFixed(3));

/** Every expectation of the experiment, in order. */
export function checks({ arms }: Experiment, results: ExperimentResults): Check[] {
  return arms.flatMap((arm) => armChecks(arm, results.get(arm.name) ?? []));
}

function armChecks({ name, expect }: Arm, seeds: readonly SeedResult[]): Check[] {
  const inside = (what: string, got: number, [least, most]: readonly [number, number]): Check => ({ what, got, expected: `${least} to ${most}`, passed: got >= least && got <= most });
  const atLeast = (what: string, got: number, least: number): Check => ({ what, got, expected: `at least ${least}`, passed: got >= least });
  const found: Check[] = [];
  for (const { seed, firstLoss, epochLoss } of seeds) {
    if (expect.firstLoss) found.push(inside(`${name}, seed ${seed}: loss of the first step`, firstLoss, expect.firstLoss));
    for (const [epoch, band] of Object.entries(expect.epochLoss)) found.push(inside(`${name}, seed ${seed}: mean loss of epoch ${epoch}`, epochLoss[Number(epoch) - 1] ?? NaN, band));
  }
  const gains = seeds.flatMap(({ probe }) => (probe ? [probe.pretrained.top1 - probe.random.top1] : []));
  const { mean, each } = expect.probeGain;
  if (each !== undefined) seeds.forEach(({ seed }, i) => found.push(atLeast(`${name}, seed ${seed}: probe gain in points`, gains[i] ?? NaN, each)));
  if (mean !== undefined) found.push(atLeast(`${name}: mean probe gain in points`, spread(gains).mean, mean));
  return [...found, ...finetuneChecks(name, expect.finetuneGain, seeds)];
}

function finetuneChecks(name: string, { mean, p }: Arm['expect']['finetuneGain'], seeds: readonly SeedResult[]): Check[] {
  const pairs = seeds.flatMap(({ finetune }) => (finetune ? [finetune] : []));
  const found: Check[] = [];
  if (mean !== undefined) {
    const gain = spread(pairs.map(({ pretrained, scratch }) => pretrained.top1 - scratch.top1)).mean;
    found.push({ what: `${name}: mean gain of fine-tuning in points`, got: gain, expected: `at least ${mean}`, passed: gain >= mean });
  }
  if (p !== undefined) {
    const got = pairs.length === 0 ? NaN : mcnemar(pairs.flatMap((f) => f.pretrained.right), pairs.flatMap((f) => f.scratch.right)).p;
    found.push({ what: `${name}: p of fine-tuning against the random start, all seeds`, got, expected: `at most ${p}`, passed: got <= p });
  }
  return found;
}

/** Losses of every seed, then their mean and spread. */
export function lossTable(name: string, seeds: readonly SeedResult[]): Table {
  const epochs = seeds[0]?.epochLoss.length ?? 0;
  const row = (title: string, first: string, of: (epoch: number) => string): TableValue[] => [title, first, ...Array.from({ length: epochs }, (_, e) => of(e))];
  const meanOf = (values: readonly number[]): string => {
    const { mean, std } = spread(values);
    return `${number(mean, 4)} ± ${number(std, 4)}`;
  };
  return {
    headings: [`${name}: masked loss`, 'first step', ...Array.from({ length: epochs }, (_, e) => `epoch ${e + 1}`)],
    rows: [
      ...seeds.map((s) => row(`seed ${s.seed}`, number(s.firstLoss, 4), (e) => number(s.epochLoss[e] ?? NaN, 4))),
      row('mean ± std', meanOf(seeds.map((s) => s.firstLoss)), (e) => meanOf(seeds.map((s) => s.epochLoss[e] ?? NaN))),
    ],
  };
}

/** Two ways of getting a classifier, seed by seed: top-1 of both, the difference, McNemar's p; then means and all pictures of all seeds together. */
export function pairTable(title: string, names: readonly [string, string], seeds: readonly number[], pairs: readonly (readonly [Judged, Judged])[]): Table {
  const rows = pairs.map(([a, b], i): TableValue[] => [`seed ${seeds[i] ?? i}`, number(a.top1, 2), number(b.top1, 2), signed(a.top1 - b.top1), pValue(mcnemar(a.right, b.right).p)]);
  const meanOf = (values: readonly number[]): string => `${number(spread(values).mean, 2)} ± ${number(spread(values).std, 2)}`;
  const all = mcnemar(pairs.flatMap(([a]) => a.right), pairs.flatMap(([, b]) => b.right));
  const differences = pairs.map(([a, b]) => a.top1 - b.top1);
  return {
    headings: [title, `${names[0]}, top-1 %`, `${names[1]}, top-1 %`, 'difference', 'p (McNemar)'],
    rows: [...rows, ['mean ± std', meanOf(pairs.map(([a]) => a.top1)), meanOf(pairs.map(([, b]) => b.top1)), `${signed(spread(differences).mean)} ± ${number(spread(differences).std, 2)}`, `${pValue(all.p)} (all seeds)`]],
  };
}

/** Every table of an experiment. */
export function tables({ arms }: Experiment, results: ExperimentResults): Table[] {
  return arms.flatMap(({ name }) => {
    const seeds = results.get(name) ?? [];
    if (seeds.length === 0) return [];
    const numbers = seeds.map((s) => s.seed);
    const probes = seeds.flatMap(({ probe }) => (probe ? [probe] : []));
    const layer = probes[0]?.layer ?? '';
    const tuned = seeds.flatMap(({ finetune }) => (finetune ? [finetune] : []));
    return [
      lossTable(name, seeds),
      ...(probes.length > 0 ? [pairTable(`${name}: linear probe, ${layer}`, ['pre-trained', 'random start'], numbers, probes.map((p) => [p.pretrained, p.random] as const))] : []),
      ...(tuned.length > 0 ? [pairTable(`${name}: fine-tuning`, ['pre-trained', 'from scratch'], numbers, tuned.map((f) => [f.pretrained, f.scratch] as const))] : []),
    ];
  });
}

/** The expectations as a table. */
export function checkTable(found: readonly Check[]): Table {
  return { headings: ['expectation', 'got', 'expected', 'result'], rows: found.map(({ what, got, expected, passed }) => [what, number(got, 4), expected, passed ? 'ok' : 'NOT MET']) };
}
