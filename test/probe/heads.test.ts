import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import '../../ts/backend';
import { BatchNorm } from '../../ts/probe/batch_norm';
import { featuresInMemory } from '../../ts/probe/feature_set';
import { AttentiveHead, LinearHead, type ProbeHead } from '../../ts/probe/heads';
import { cosineShare, microBatch, scoreFeatures, StoredFeed, trainHeads, type HeadTrainingOptions } from '../../ts/probe/head_training';
import { usualBatch } from '../../ts/probe/probe';
import { scores } from '../../ts/train/scores';
import { Rng } from '../../ts/rng';

interface Run { weightDecay: number; steps: { lr: number; loss: number; weight: number[][]; bias: number[] }[]; mean: number[]; variance: number[]; logits: number[][] }
const mae = JSON.parse(readFileSync(join(__dirname, 'mae_lars.json'), 'utf8')) as { x: number[][][]; labels: number[][]; start: number[][]; lr: number; steps: Run[] };
const layer = { name: 'norm', label: 'norm', channels: 4 };
const folder = mkdtempSync(join(tmpdir(), 'simmim-heads-'));
afterAll(() => rmSync(folder, { recursive: true }));

const oneHot = (labels: readonly number[], classes: number): tf.Tensor2D => tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d([...labels], 'int32'), classes), 'float32')) as tf.Tensor2D;

/** float32 chains of a few hundred operations on numbers of this size: 64 roundings of the largest. */
function close(actual: ArrayLike<number>, expected: readonly number[]): void {
  const tolerance = 64 * 2 ** -24 * Math.max(...expected.map(Math.abs));
  expected.forEach((v, i) => expect(Math.abs((actual[i] as number) - v)).toBeLessThanOrEqual(tolerance));
}

describe.each(['cpu', 'simmim-cpu'])('on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
  });

  test.each(mae.steps)("the linear probe makes the steps of MAE's code, weight decay $weightDecay", ({ weightDecay, steps, mean, variance, logits }) => {
    const head = new LinearHead(layer, 3, mae.lr, weightDecay, 0);
    head.restore(new Map([...head.state(), ['weight', Float32Array.from(mae.start.flat())]]));
    steps.forEach(({ lr, loss, weight, bias }, s) => {
      const [x, targets] = [tf.tensor2d(mae.x[s] as number[][]), oneHot(mae.labels[s] as number[], 3)];
      expect(head.accumulate(x, targets, 1) / 6).toBeCloseTo(loss, 5);
      const share = cosineShare(s, 2, 2, 1);
      expect(mae.lr * share).toBeCloseTo(lr, 12);
      head.update(share);
      close(head.state().get('weight') ?? [], weight.flat());
      close(head.state().get('bias') ?? [], bias);
      tf.dispose([x, targets]);
    });
    close(head.state().get('mean') ?? [], mean);
    close(head.state().get('variance') ?? [], variance);
    const x = tf.tensor2d(mae.x[0] as number[][]);
    const out = head.logits(x);
    close(out.dataSync(), logits.flat());
    tf.dispose([x, out]);
    head.dispose();
  });

  test('an update in two parts is the update of both, where each part has its own statistics', () => {
    const [a, b] = [new LinearHead(layer, 3, 0.5, 0, 2), new LinearHead(layer, 3, 0.5, 0, 2)];
    const x = tf.tensor2d(mae.x[0] as number[][]);
    const targets = oneHot(mae.labels[0] as number[], 3);
    a.accumulate(x, targets, 1);
    for (let part = 0; part < 2; part++) b.accumulate(x, targets, 0.5); // the same rows twice at half weight
    a.update(1);
    b.update(1);
    close(b.state().get('weight') ?? [], [...(a.state().get('weight') ?? [])]);
    tf.dispose([x, targets]);
    for (const head of [a, b]) head.dispose();
  });

  test('the attentive probe finds a token that the mean hides', async () => {
    const rng = new Rng(8);
    // One of six tokens carries the class in its first two values; the others carry its opposite, so that all means are alike.
    const make = (count: number): { x: Float32Array; labels: number[] } => {
      const labels = Array.from({ length: count }, () => rng.below(2));
      const x = new Float32Array(count * 6 * 4);
      labels.forEach((label, i) => {
        const own = rng.below(6);
        for (let l = 0; l < 6; l++) {
          const sign = label === 1 ? 1 : -1;
          x.set([l === own ? 5 * sign : -sign, l === own ? 4 : 0, rng.normal() * 0.1, rng.normal() * 0.1], (i * 6 + l) * 4);
        }
      });
      return { x, labels };
    };
    const head = new AttentiveHead(layer, 2, 0.02, 0, 1);
    for (let u = 0; u < 60; u++) {
      const { x, labels } = make(16);
      const [images, targets] = [tf.tensor(x, [16, 2, 3, 4]), oneHot(labels, 2)];
      head.accumulate(images, targets, 1);
      head.update(1, u + 1);
      tf.dispose([images, targets]);
    }
    const { x, labels } = make(64);
    const images = tf.tensor(x, [64, 2, 3, 4]);
    const logits = head.logits(images);
    expect(scores(logits.dataSync(), Int32Array.from(labels), 2).top1).toBeGreaterThan(95);
    const means = tf.mean(tf.reshape(images, [64, 6, 4]), 1).arraySync() as number[][];
    for (const m of means) expect(Math.abs(m[0] as number)).toBeLessThan(1e-6);
    tf.dispose([images, logits]);
    head.dispose();
  });
});

test('batch norm: a single row becomes zeros, and running averages keep the unbiased variance', async () => {
  await tf.setBackend('simmim-cpu');
  const norm = new BatchNorm(1);
  expect([...norm.train(tf.tensor2d([[3]])).dataSync()]).toEqual([0]);
  const two = new BatchNorm(1);
  two.train(tf.tensor2d([[1], [3]]));
  const [mean, variance] = two.state();
  expect(mean[0]).toBeCloseTo(0.2, 6);
  expect(variance[0]).toBeCloseTo(0.9 + 0.1 * 2, 6);
});

test('training heads stopped after any epoch and started again gives the same bits', async () => {
  await tf.setBackend('simmim-cpu');
  const rng = new Rng(5);
  const labels = Int32Array.from({ length: 40 }, (_, i) => i % 3);
  const set = featuresInMemory(Float32Array.from({ length: 160 }, (_, i) => rng.normal() + (i % 4 === labels[Math.floor(i / 4)] ? 5 : 0)), 4, labels, ['a', 'b', 'c']);
  const order = (epoch: number): Uint32Array => Uint32Array.from({ length: 40 }, (_, i) => (i * 7 + epoch * 3) % 40);
  const run = async (stateFile: string, stop: number | null): Promise<{ state: unknown; top1: number }> => {
    const heads: ProbeHead[] = [new LinearHead(layer, 3, 5, 0, 1)];
    const options: HeadTrainingOptions = {
      epochs: 24, warmupEpochs: 2, batchSize: 8, pooling: 'mean', stateFile, fingerprint: 'x',
      onEpoch: ({ epoch }) => {
        if (epoch === stop) throw new Error('stopped');
      },
    };
    const { scores: found, curve } = await trainHeads(heads, new StoredFeed(new Map([['norm', set]]), 4, 2, order), 3, (head) => Promise.resolve(scoreFeatures(head, set)), options);
    expect(curve).toHaveLength(24);
    const result = { state: [...(heads[0] as ProbeHead).state()], top1: found[0]?.top1 ?? 0 };
    for (const head of heads) head.dispose();
    return result;
  };
  const before = tf.memory().numTensors;
  const whole = await run(join(folder, 'whole'), null);
  expect(tf.memory().numTensors).toBe(before);
  expect(whole.top1).toBeGreaterThan(80);
  await expect(run(join(folder, 'parts'), 2)).rejects.toThrow('stopped');
  expect(existsSync(join(folder, 'parts'))).toBe(true);
  expect(await run(join(folder, 'parts'), null)).toEqual(whole);
  expect(await run(join(folder, 'parts'), null)).toEqual(whole); // nothing left to do: scores again
});

test('sizes: batches as many as MAE has, micro-batches that divide', () => {
  expect([1281167, 10000, 500, 3].map(usualBatch)).toEqual([16384, 128, 16, 16]);
  expect([[128, 64], [96, 64], [16384, 64], [10, 64], [7, 4]].map(([b = 0, m = 0]) => microBatch(b, m))).toEqual([64, 48, 64, 10, 1]);
});
