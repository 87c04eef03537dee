import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { expect, it } from 'vitest';
import { loadAddon } from '../../ts/native';
import { activate, alikeDevices, nativeDevices } from '../helpers/devices';
import { Draw } from './draw';

const CASES = Number(process.env.SIMMIM_RANDOM_CASES ?? 200);
/** At the machine's own level every case runs, at the lower ones every fourth, or every one where a number was asked for. */
const EVERY_AT_LOWER_LEVELS = process.env.SIMMIM_RANDOM_CASES ? 1 : 4;
const OWN_LEVEL = loadAddon().info().isa;

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
    const largest = scale === 'tensor' ? Array.from(other).reduce((most, v) => (Number.isFinite(v) ? Math.max(most, Math.abs(v)) : most), 0) : 0;
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
  expect(first.length === second.length && first.every((bytes, i) => bytes.equals(second[i] as Buffer)), `${label}: the bits differ`).toBe(true);
}

/**
 * A test: random cases on the backend under test in every configuration (EVERY_AT_LOWER_LEVELS), with the same bits whatever the
 * number of threads or their order, against `reference` (the cpu backend running the same).
 */
export function family(name: string, tolerance: number, make: (d: Draw) => Case, { scale = 'value', reference }: { scale?: Scale; reference?: (d: Draw) => () => tf.Tensor | tf.Tensor[] } = {}): void {
  it(`${name}: ${CASES} random cases`, async () => {
    const cases = Array.from({ length: CASES }, (_, i) => make(new Draw(i)));
    tf.env().set('IS_TEST', false);
    tf.setBackend('cpu');
    const theirs = cases.map(([, f], i) => outcome(reference ? reference(new Draw(i)) : f));
    tf.env().set('IS_TEST', true); // tfjs then throws where a kernel made a tensor that it did not return
    for (const device of nativeDevices()) {
      await activate(device);
      const chosen = cases.map(([label, f], i) => ({ label, f, i })).filter(({ i }) => device.isa === undefined || device.isa === OWN_LEVEL || i % EVERY_AT_LOWER_LEVELS === 0);
      const ours = new Map(chosen.map(({ f, i }) => [i, outcome(f)]));
      for (const { label, i } of chosen) expectAlike(ours.get(i) as Outcome, theirs[i] as Outcome, tolerance, scale, `case ${i} on ${device.name}: ${label}`);
      for (const other of alikeDevices(device)) {
        await activate(other);
        for (const { label, f, i } of chosen) expectSameBits(ours.get(i) as Outcome, outcome(f), `case ${i} on ${device.name} with ${other.name}: ${label}`);
      }
    }
  });
}
