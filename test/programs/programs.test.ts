import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { CPU_BACKEND } from '../../ts/backend';
import { type Outcome, type Program, source } from './program';
import { audio, recurrent, transformer } from './sequence';
import { autoencoder, convnet, detection } from './vision';
import { pipeline, policyGradient, resumed, transfer } from './workflow';

const PROGRAMS: Program[] = [convnet, recurrent, transformer, audio, autoencoder, transfer, detection, policyGradient, resumed, pipeline];
/** How many times further from the cpu backend than the cpu backend is from itself when its data moves by one ulp. */
const FACTOR = 8;

interface Run {
  outcome: Outcome;
  seconds: number;
  tensors: number;
}

async function run(program: Program, backend: string, perturbed = false): Promise<Run> {
  await tf.setBackend(backend);
  const before = tf.memory().numTensors;
  const start = performance.now();
  const made = await program.run(source(5, perturbed));
  const outcome = Object.fromEntries(Object.entries(made).map(([key, values]) => [key, Array.from(values)]));
  return { outcome, seconds: (performance.now() - start) / 1000, tensors: tf.memory().numTensors - before };
}

const furthest = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce<number>((most, v, i) => Math.max(most, Math.abs(v - (b[i] as number))), 0);
};

describe('programs give on simmim-cpu what they give on cpu', () => {
  for (const program of PROGRAMS) {
    it(program.name, async () => {
      const cpu = await run(program, 'cpu');
      const moved = await run(program, 'cpu', true);
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
    });
  }
});
