// Lines of SIMMIM_TRACE as bench cases: every call of a real training step can be repeated from its line alone.
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ReplayedCall } from '../../bench/rivals/replayed_call';
import { bytesOf, flopsOf, parseTraceLine, signature, type TracedCall } from '../../bench/trace';
import * as native from '../../ts/native';

const DIST = resolve(new URL('.', import.meta.url).pathname, '../../dist');

/** What one eager training step of a small Swin on noise prints. */
function traceOfStep(precision: string): string {
  const program = `
    const tf = require('@tensorflow/tfjs-core');
    require('${DIST}/backend');
    const train = require('${DIST}/train');
    tf.setBackend('simmim-cpu').then(() => {
      const recipe = train.parseRecipe({ model: { encoder: 'swin_tiny', imageSize: 64, embedDim: 32, depths: [1, 2, 1, 1], heads: [1, 2, 4, 8] }, train: { precision: '${precision}', recorded: false } });
      return new train.NoiseStep(recipe, 1).run();
    });`;
  const run = spawnSync(process.execPath, ['-e', program], { cwd: resolve(DIST, '..'), encoding: 'utf8', env: { ...process.env, SIMMIM_TRACE: '1' }, maxBuffer: 1 << 28 });
  expect(run.status, run.stderr.slice(-2000)).toBe(0);
  return run.stderr;
}

describe.each(['f32', 'bf16'])('a traced step in %s', (precision) => {
  let lines: string[] = [];
  const distinct = new Map<string, TracedCall>();

  beforeAll(() => {
    lines = traceOfStep(precision).split('\n').filter((line) => line.startsWith('simmim '));
    for (const call of lines.map(parseTraceLine)) if (call) distinct.set(signature(call), call);
  });

  test('every line is understood', () => {
    expect(lines.length).toBeGreaterThan(50);
    expect(lines.filter((line) => !parseTraceLine(line))).toEqual([]);
  });

  test('every distinct call runs again and leaves nothing behind', () => {
    const kernels = new Set([...distinct.values()].map((call) => call.kernel));
    for (const kernel of ['mlp_grad', 'window_attention_grad', 'masked_loss', 'adamw']) expect(kernels).toContain(kernel);
    for (const call of distinct.values()) {
      const before = native.loadAddon().stats().handles;
      const replayed = new ReplayedCall(native, call);
      replayed.run();
      replayed.run();
      replayed.dispose();
      expect(native.loadAddon().stats().handles, signature(call)).toBe(before);
    }
  });

  test('products have operations, and every call bytes', () => {
    for (const call of distinct.values()) expect(bytesOf(call), signature(call)).toBeGreaterThan(0);
    const products = [...distinct.values()].filter((call) => /^(linear|mlp|patch_embed|window_attention)/.test(call.kernel));
    for (const call of products) expect(flopsOf(call), signature(call)).toBeGreaterThan(0);
  });
});

test('a call of a kernel that is not there is refused', () => {
  const line = parseTraceLine('simmim warp x=f32[2] y=f32[2] # 1.0 us, 1.0 us of this thread') as TracedCall;
  expect(() => new ReplayedCall(native, line)).toThrow("the trace has a call of 'warp', which this addon does not have");
});
