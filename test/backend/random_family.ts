import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { expect, it } from 'vitest';
import '../../ts/backend';
import { loadAddon } from '../../ts/native';
import { Draw } from './draw';

const CASES = Number(process.env.SIMMIM_RANDOM_CASES ?? 200);
/** At the machine's own level every case runs, at the lower ones every fourth, or every one where a number was asked for. */
const EVERY_AT_LOWER_LEVELS = process.env.SIMMIM_RANDOM_CASES ? 1 : 4;
const THREADS = [1, 2];

type Values = Float32Array | Int32Array | Uint8Array;
interface Result {
  shape: number[];
  dtype: string;
  values: Values;
}
type Outcome = Result[] | 'throws';
type Case = [label: string, f: () => tf.Tensor | tf.Tensor[]];

/** A function of tensors made from host data, run on the backend in force. */
function outcome(f: () => tf.Tensor | tf.Tensor[]): Outcome {
  return tf.tidy(() => {
    try {
      const out = f();
      return (Array.isArray(out) ? out : [out]).map((t) => ({ shape: t.shape, dtype: t.dtype, values: t.dataSync().slice() as Values })) as never;
    } catch {
      return 'throws' as never;
    }
  }) as unknown as Outcome;
}

/** What differences are measured by: each value (or 1), or the largest value of its tensor, for sums in which terms cancel. */
type Scale = 'value' | 'tensor';

/**
 * Equal NaN and infinities; floats within `tolerance` of the scale. The cpu backend computes in doubles and rounds once,
 * we round per operation, so the tolerance counts roundings of the family's longest chain.
 */
function expectAlike(ours: Outcome, theirs: Outcome, tolerance: number, scale: Scale, label: string): void {
  if (ours === 'throws' || theirs === 'throws') {
    expect(ours === 'throws', label).toBe(theirs === 'throws');
    return;
  }
  expect(ours.map((r) => [r.shape, r.dtype]), label).toEqual(theirs.map((r) => [r.shape, r.dtype]));
  ours.forEach((result, n) => {
    const other = (theirs[n] as Result).values;
    const largest = scale === 'tensor' ? other.reduce((most, v) => (Number.isFinite(v) ? Math.max(most, Math.abs(v)) : most), 0) : 0;
    result.values.forEach((value, i) => {
      const wanted = other[i] as number;
      const alike = Object.is(value, wanted) || value === wanted || (Number.isNaN(value) && Number.isNaN(wanted)) || Math.abs(value - wanted) <= tolerance * Math.max(1, Math.abs(wanted), largest);
      if (!alike) expect.fail(`${label}: output ${n}, element ${i} is ${value}, the cpu backend has ${wanted}`);
    });
  });
}

function expectSameBits(a: Outcome, b: Outcome, label: string): void {
  const bits = (o: Outcome): Buffer[] => (o === 'throws' ? [] : o.map(({ values }) => Buffer.from(values.buffer, values.byteOffset, values.byteLength)));
  const [first, second] = [bits(a), bits(b)];
  expect(first.length === second.length && first.every((bytes, i) => bytes.equals(second[i] as Buffer)), `${label}: the bits depend on the number of threads`).toBe(true);
}

/** A test: random cases on our backend at every instruction-set level (EVERY_AT_LOWER_LEVELS), with equal bits on one and two threads, against `reference` (the cpu backend running the same). */
export function family(name: string, tolerance: number, make: (d: Draw) => Case, { scale = 'value', reference }: { scale?: Scale; reference?: (d: Draw) => () => tf.Tensor | tf.Tensor[] } = {}): void {
  const addon = loadAddon();
  const { isaLevels, isa, threads } = addon.info();
  it(`${name}: ${CASES} random cases`, () => {
    const cases = Array.from({ length: CASES }, (_, i) => make(new Draw(i)));
    tf.setBackend('cpu');
    const theirs = cases.map(([, f], i) => outcome(reference ? reference(new Draw(i)) : f));
    tf.setBackend('simmim-cpu');
    try {
      for (const level of isaLevels) {
        addon.setIsa(level);
        const chosen = cases.map((_, i) => i).filter((i) => level === isa || i % EVERY_AT_LOWER_LEVELS === 0);
        const runs = THREADS.map((count) => {
          addon.setThreads(count);
          return new Map(chosen.map((i) => [i, outcome((cases[i] as Case)[1])]));
        }) as [Map<number, Outcome>, Map<number, Outcome>];
        for (const i of chosen) {
          const label = `case ${i} at ${level}: ${(cases[i] as Case)[0]}`;
          expectAlike(runs[0].get(i) as Outcome, theirs[i] as Outcome, tolerance, scale, label);
          expectSameBits(runs[0].get(i) as Outcome, runs[1].get(i) as Outcome, label);
        }
      }
    } finally {
      addon.setIsa(isa);
      addon.setThreads(threads);
    }
  });
}
