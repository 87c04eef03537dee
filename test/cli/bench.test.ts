import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { StepFigures } from '../../ts/train/step_bench';
import { simmim } from './run_cli';

const folder = mkdtempSync(join(tmpdir(), 'simmim-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SMALL = ['swin_tiny', '--image-size', '64', '--set', 'model.embedDim=24', '--set', 'model.depths=[1,1,1,1]', '--batch', '2', '--rounds', '3'];

test.each([['f32', []], ['bf16', ['--precision', 'bf16', '--checkpointing']]])('a step in %s: every figure, printed and as JSON', async (precision, more) => {
  const json = join(folder, `${precision}.json`);
  const { code, out, errors } = await simmim('bench', ...SMALL, ...more, '--threads', '2', '--json', json);
  expect(errors).toEqual([]);
  expect(code).toBe(0);
  for (const word of ['images per second', 'GFLOP/s', 'peak memory', 'event-loop delay', 'JavaScript per step', 'loss']) expect(out).toContain(word);
  const figures = JSON.parse(readFileSync(json, 'utf8')) as StepFigures & { model: { encoder: string; embedDim: number }; precision: string; threads: number };
  expect(figures).toMatchObject({ model: { encoder: 'swin_tiny', embedDim: 24 }, precision, threads: 2, batch: 2, rounds: 3 });
  expect(figures.imagesPerSecond).toBeCloseTo(2 / figures.seconds, 9);
  expect(figures.fastestSeconds).toBeLessThanOrEqual(figures.seconds);
  expect(figures.loss).toBeGreaterThan(0);
  for (const value of [figures.gflops, figures.peakBytes, figures.hostMs]) expect(value).toBeGreaterThan(0);
  expect(figures.eventLoopDelayMs).toBeGreaterThanOrEqual(0);
});

test.each([
  ['an unknown preset', ['bench', 'swin_bse'], "unknown encoder 'swin_bse'; did you mean 'swin_base'?"],
  ['an unknown precision', ['bench', 'swin_tiny', '--precision', 'fp16'], 'Allowed choices are f32, bf16'],
  ['a backend that records nothing', ['bench', ...SMALL, '--backend', 'cpu'], 'the step is recorded on our own backends only'],
])('refused in one sentence: %s', async (_, args, sentence) => {
  const { code, errors } = await simmim(...args);
  expect(code).toBe(1);
  expect(errors).toHaveLength(1);
  expect(errors[0]).toContain(sentence);
});
