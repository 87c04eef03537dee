import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { relativePositionIndex, windowAttention } from '../../ts/ops';
import { checkOp } from '../helpers/check_op';
import { activate, COMPOSED, nativeDevices, type Device } from '../helpers/devices';
import { fixtures, maxAbsDiff, readFixture, type Fixture } from '../helpers/golden';
import { windowAttentionSpec } from './window_attention.cases';

checkOp(windowAttentionSpec);

interface Block {
  version: 1 | 2;
  dim: number;
  heads: number;
  resolution: number;
  window_used: number;
  shift_used: number;
  qk_scale?: number;
  tolerance: Record<string, number>;
}

const DEVICES: Device[] = [COMPOSED, ...nativeDevices('window_attention')];

/** Windows as rows [windows, heads, N, d] of one image -> the map [1, H, W, C], in the order the block had before the shift. */
function toMap(values: ArrayLike<number>, { dim, heads, resolution: r, window_used: w, shift_used: s }: Block): Float32Array {
  const d = dim / heads;
  const map = new Float32Array(r * r * dim);
  const across = r / w;
  for (let i = 0; i < map.length; i++) {
    const [channel, n] = [i % d, Math.floor(i / d) % (w * w)];
    const [head, window] = [Math.floor(i / (d * w * w)) % heads, Math.floor(i / (d * w * w * heads))];
    const y = (Math.floor(window / across) * w + Math.floor(n / w) + s) % r;
    const x = ((window % across) * w + (n % w) + s) % r;
    map[(y * r + x) * dim + head * d + channel] = values[i] as number;
  }
  return map;
}

/** The bias table whose expansion is `bias` [heads, N, N]: every entry taken from its first occurrence. */
function toTable(bias: ArrayLike<number>, { heads, window_used: w }: Block): Float32Array {
  const index = relativePositionIndex([w, w]);
  const table = new Float32Array((2 * w - 1) ** 2 * heads);
  for (let h = 0; h < heads; h++) index.forEach((entry, i) => (table[entry * heads + h] = bias[h * index.length + i] as number));
  return table;
}

/** The gradient of the expanded bias, summed into the table entries. */
function sumIntoTable(gradient: ArrayLike<number>, { heads, window_used: w }: Block): Float64Array {
  const index = relativePositionIndex([w, w]);
  const table = new Float64Array((2 * w - 1) ** 2 * heads);
  for (let h = 0; h < heads; h++) index.forEach((entry, i) => (table[entry * heads + h] = (table[entry * heads + h] as number) + (gradient[h * index.length + i] as number)));
  return table;
}

function joinQkv(fixture: Fixture<Block>, prefix: string): Float32Array {
  const { dim, resolution } = fixture.json;
  const parts = ['q', 'k', 'v'].map((name) => toMap(fixture.values(`core/${prefix}${name}`), fixture.json));
  const joined = new Float32Array(3 * resolution * resolution * dim);
  parts.forEach((part, p) => part.forEach((value, i) => (joined[Math.floor(i / dim) * 3 * dim + p * dim + (i % dim)] = value)));
  return joined;
}

const RUNS = DEVICES.flatMap((device) => fixtures(/^block_swin/).map((name) => ({ name, device, on: device.name })));

describe('official attention core', () => {
  test.each(RUNS)('$name on $on: result and gradients stay within the tolerances of the fixture', async ({ name, device }) => {
    await activate(device);
    tf.engine().startScope();
    const fixture = readFixture<Block>(name);
    const block = fixture.json;
    const { dim, heads, resolution: r, window_used: w, shift_used: s, tolerance } = block;
    const qkv = tf.tensor(joinQkv(fixture, ''), [1, r, r, 3 * dim]);
    const table = tf.tensor(toTable(fixture.values('core/bias'), block), [(2 * w - 1) ** 2, heads]);
    const logit = block.version === 2 ? tf.tensor(fixture.values('core/logit_scale') as Float32Array, [heads]) : tf.zeros([heads]);
    const options = { heads, window: [w, w], shift: [s, s], cosine: block.version === 2 } as const;
    const weights = tf.tensor(toMap(fixture.values('core/grad_out'), block), [1, r, r, dim]);
    const forward = (x: tf.Tensor, t: tf.Tensor, l: tf.Tensor): tf.Tensor =>
      windowAttention(x, t, block.version === 2 ? tf.exp(tf.minimum(l, Math.log(100))) : (block.qk_scale as number), options);
    const out = forward(qkv, table, logit).dataSync();
    expect(maxAbsDiff(out, toMap(fixture.values('core/out'), block)), 'out').toBeLessThanOrEqual(tolerance['core/out'] as number);

    const loss = (x: tf.Tensor, t: tf.Tensor, l: tf.Tensor): tf.Tensor => {
      const y = tf.sum(tf.mul(forward(x, t, l), weights));
      return block.version === 2 ? y : tf.add(y, tf.sum(tf.mul(l, 0)));
    };
    const [dQkv, dTable, dLogit] = tf.grads(loss)([qkv, table, logit]) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const wanted = joinQkv(fixture, 'grad_');
    const got = dQkv.dataSync();
    ['q', 'k', 'v'].forEach((part, p) => {
      const own = (values: ArrayLike<number>): number[] => Array.from(values).filter((_, i) => Math.floor((i % (3 * dim)) / dim) === p);
      expect(maxAbsDiff(own(got), own(wanted)), `grad_${part}`).toBeLessThanOrEqual(tolerance[`core/grad_${part}`] as number);
    });
    // A table entry sums the gradients of up to N pairs: their tolerance adds up over as many terms.
    const perEntry = (tolerance['core/grad_bias'] as number) * w * w;
    expect(maxAbsDiff(dTable.dataSync(), sumIntoTable(fixture.values('core/grad_bias'), block)), 'grad_bias').toBeLessThanOrEqual(perEntry);
    if (block.version === 2) {
      expect(maxAbsDiff(dLogit.dataSync(), fixture.values('core/grad_logit_scale')), 'grad_logit_scale').toBeLessThanOrEqual(tolerance['core/grad_logit_scale'] as number);
    }
    tf.engine().endScope();
  });
});
