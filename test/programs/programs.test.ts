import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { activate, type Device } from '../helpers/devices';
import { adversaries, painter } from './generative';
import { loop, mobile, pose } from './mobile';
import { type Outcome, type Program, source } from './program';
import { audio, recurrent, transformer } from './sequence';
import { speech } from './speech';
import { attention, speller } from './translation';
import { autoencoder, convnet, detection } from './vision';
import { deepQ, forecast, pipeline, policyGradient, resumed, transfer } from './workflow';

const PROGRAMS: Program[] = [
  convnet, autoencoder, detection, mobile, pose, loop, adversaries, painter,
  recurrent, transformer, attention, speller, forecast, audio, speech,
  transfer, policyGradient, deepQ, resumed, pipeline,
];
/** How many times further from the cpu backend than the cpu backend is from itself when its data moves by one ulp. */
const FACTOR = 8;

interface Run {
  outcome: Outcome;
  seconds: number;
  tensors: number;
}

interface How {
  /** Whether its data moves by one ulp. */
  moved?: boolean;
  /** Whether every native call is queued, instead of the large ones. */
  queued?: boolean;
}

async function run(program: Program, backend: Device['backend'], { moved = false, queued = false }: How = {}): Promise<Run> {
  await activate({ name: backend, backend, queued });
  const before = tf.memory().numTensors;
  const start = performance.now();
  const made = await program.run(source(5, moved));
  const outcome = Object.fromEntries(Object.entries(made).map(([key, values]) => [key, Array.from(values)]));
  return { outcome, seconds: (performance.now() - start) / 1000, tensors: tf.memory().numTensors - before };
}

const furthest = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce<number>((most, v, i) => Math.max(most, Math.abs(v - (b[i] as number))), 0);
};

describe('programs give on simmim-cpu what they give on cpu, and the same with every call queued', () => {
  for (const program of PROGRAMS) {
    it(program.name, async () => {
      const cpu = await run(program, 'cpu');
      const moved = await run(program, 'cpu', { moved: true });
      const ours = await run(program, CPU_BACKEND);
      console.log(`${program.name}: simmim-cpu ${ours.seconds.toFixed(2)} s, cpu ${cpu.seconds.toFixed(2)} s`);
      expect(ours.tensors).toBe(cpu.tensors);
      expect(Object.keys(ours.outcome)).toEqual(Object.keys(cpu.outcome));
      for (const [key, expected] of Object.entries(cpu.outcome)) {
        const scale = Array.from(expected).reduce<number>((most, v) => Math.max(most, Math.abs(v)), 0);
        const tolerance = FACTOR * (furthest(moved.outcome[key] as number[], expected) + scale * 2 ** -24);
        expect(furthest(ours.outcome[key] as number[], expected), `${key}, within ${tolerance}`).toBeLessThanOrEqual(tolerance);
        expect(Array.from(expected).every(Number.isFinite)).toBe(true);
      }
      const queued = await run(program, CPU_BACKEND, { queued: true });
      expect(queued.outcome).toEqual(ours.outcome);
      expect(queued.tensors).toBe(ours.tensors);
    });
  }
});
