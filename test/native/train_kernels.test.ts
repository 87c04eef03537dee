import { beforeEach, describe, expect, test } from 'vitest';
import { kernels } from '../../ts/native';
import { Rng, philox, uniformFromWord } from '../../ts/rng';
import { firstBitDifference } from '../helpers/compare';
import { lacking } from '../helpers/devices';
import { distance, input, onEveryLevel, output, read, size } from '../helpers/native_kernels';

// The kernels around the matrix products against plain double-precision formulas, at every instruction-set level.
// A value is at most a few dozen roundings of 2^-24 = 6e-8 away, relative to the largest value of its tensor.
const TOLERANCE = 2e-6;

let rng: Rng;
beforeEach(() => {
  rng = new Rng(11, 3, 0);
});
const uniform = (n: number): Float32Array => Float32Array.from({ length: n }, () => rng.uniform() * 2 - 1);

/** Compares every result of every level. */
function expectClose(runs: ReturnType<typeof onEveryLevel>, want: Record<string, ArrayLike<number>>): void {
  for (const { level, values } of runs) {
    for (const name of Object.keys(want)) expect(distance(values[name] as Float32Array, want[name] as ArrayLike<number>), `${name} on ${level}`).toBeLessThan(TOLERANCE);
  }
}

describe.skipIf(lacking('layer_norm'))('layer_norm', () => {
  test.each([[0, 5], [1, 1], [3, 7], [5, 16], [2, 96], [7, 129], [1100, 24], [3, 1024]])('%i rows of %i channels', (rows, channels) => {
    const [x, dy, gamma, beta] = [uniform(rows * channels).map((v) => v * 3 + 2), uniform(rows * channels), uniform(channels), uniform(channels)];
    const eps = 1e-5;
    const want = { y: new Float64Array(x.length), dx: new Float64Array(x.length), dgamma: new Float64Array(channels), dbeta: new Float64Array(channels) };
    for (let r = 0; r < rows; r++) {
      const row = Array.from(x.subarray(r * channels, (r + 1) * channels));
      const mean = row.reduce((a, b) => a + b, 0) / channels;
      const rstd = 1 / Math.sqrt(row.reduce((a, b) => a + (b - mean) ** 2, 0) / channels + eps);
      const hat = row.map((v) => (v - mean) * rstd);
      const g = hat.map((_, i) => (dy[r * channels + i] as number) * (gamma[i] as number));
      const meanG = g.reduce((a, b) => a + b, 0) / channels;
      const meanGH = g.reduce((a, b, i) => a + b * (hat[i] as number), 0) / channels;
      hat.forEach((h, i) => {
        want.y[r * channels + i] = h * (gamma[i] as number) + (beta[i] as number);
        want.dx[r * channels + i] = rstd * ((g[i] as number) - meanG - h * meanGH);
        want.dgamma[i] = (want.dgamma[i] as number) + h * (dy[r * channels + i] as number);
        want.dbeta[i] = (want.dbeta[i] as number) + (dy[r * channels + i] as number);
      });
    }
    const shape = [rows, channels];
    const runs = onEveryLevel(() => {
      const k = { x: input(shape, x), gamma: input([channels], gamma), beta: input([channels], beta), y: output(shape), mean: output([rows]), rstd: output([rows]), eps };
      kernels.layerNorm(k);
      const g = { dy: input(shape, dy), x: k.x, gamma: k.gamma, mean: k.mean, rstd: k.rstd, dx: output(shape), dgamma: output([channels]), dbeta: output([channels]) };
      kernels.layerNormGrad(g);
      return { y: read(k.y), dx: read(g.dx), dgamma: read(g.dgamma), dbeta: read(g.dbeta) };
    });
    if (channels > 1) expectClose(runs, want);
    else expectClose(runs, { y: want.y, dbeta: want.dbeta }); // one channel: x - mean is 0
  });
});

test.skipIf(lacking('mask_tokens'))('mask_tokens and its gradient', () => {
  const shape = [3, 200, 19];
  const [x, dy, token, mask] = [uniform(size(shape)), uniform(size(shape)), uniform(19), Float32Array.from({ length: 600 }, (_, i) => (i % 7 === 0 ? 0.25 : i % 2))];
  const runs = onEveryLevel(() => {
    const k = { x: input(shape, x), token: input([19], token), mask: input([3, 200], mask), y: output(shape) };
    kernels.maskTokens(k);
    const g = { dy: input(shape, dy), mask: k.mask, dx: output(shape), dtoken: output([19]), inFront: 0 };
    kernels.maskTokensGrad(g);
    return { y: read(k.y), dx: read(g.dx), dtoken: read(g.dtoken) };
  });
  const at = (i: number): number => mask[Math.floor(i / 19)] as number;
  const dtoken = new Float64Array(19);
  dy.forEach((d, i) => (dtoken[i % 19] = (dtoken[i % 19] as number) + d * at(i)));
  expectClose(runs, { y: x.map((v, i) => v * (1 - at(i)) + (token[i % 19] as number) * at(i)), dx: dy.map((d, i) => d * (1 - at(i))), dtoken });
});

describe.skipIf(lacking('masked_loss'))('masked_loss', () => {
  const loss = { l1: Math.abs, l2: (d: number) => d * d, smooth_l1: (d: number) => (Math.abs(d) < 0.5 ? (d * d) / 1 : Math.abs(d) - 0.25) };
  const slope = { l1: Math.sign, l2: (d: number) => 2 * d, smooth_l1: (d: number) => (Math.abs(d) < 0.5 ? d / 0.5 : Math.sign(d)) };
  const cases = (['l1', 'l2', 'smooth_l1'] as const).flatMap((kind) => [[kind, 2, 3, 2, 1, 32, 4], [kind, 1, 1, 3, 3, 16, 16], [kind, 2, 2, 2, 4, 4, 8], [kind, 1, 3, 1, 1, 7, 7]] as const);
  test.each(cases)('%s: %i samples, %i planes, %i x %i cells of %i pixels, mask cells of %i', (kind, batch, planes, h, w, r, p) => {
    const [height, width] = [h * r, w * r];
    const predShape = [batch, h, w, planes * r * r];
    const [rows, columns] = [height / p, width / p];
    const [pred, target] = [uniform(size(predShape)), uniform(batch * planes * height * width)];
    const mask = Float32Array.from({ length: batch * rows * columns }, () => (rng.uniform() < 0.6 ? 1 : 0));
    let total = 0;
    let hidden = 0;
    const dpred = new Float64Array(pred.length);
    for (let b = 0; b < batch; b++) for (let c = 0; c < planes; c++) for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const feature = ((b * h + Math.floor(y / r)) * w + Math.floor(x / r)) * planes * r * r + (c * r + (y % r)) * r + (x % r);
      const d = (target[((b * planes + c) * height + y) * width + x] as number) - (pred[feature] as number);
      const m = mask[(b * rows + Math.floor(y / p)) * columns + Math.floor(x / p)] as number;
      total += loss[kind](d) * m;
      hidden += c === 0 ? m : 0;
      dpred[feature] = -slope[kind](d) * m;
    }
    const scale = 1 / (hidden + 1e-5) / planes;
    const attrs = { kind: ['l1', 'l2', 'smooth_l1'].indexOf(kind), beta: 0.5 };
    const runs = onEveryLevel(() => {
      const k = { pred: input(predShape, pred), target: input([batch, planes, height, width], target), mask: input([batch, rows, columns], mask), loss: output([]), scale: output([]), ...attrs };
      kernels.maskedLoss(k);
      const g = { dy: input([], [0.5]), pred: k.pred, target: k.target, mask: k.mask, scale: k.scale, dpred: output(predShape), ...attrs };
      kernels.maskedLossGrad(g);
      return { loss: read(k.loss), dpred: read(g.dpred) };
    });
    expectClose(runs, { loss: [total * scale], dpred: dpred.map((v) => v * 0.5 * scale) });
  });

  test('what is not hidden is not read', () => {
    const runs = onEveryLevel(() => {
      const k = { pred: input([1, 1, 2, 256], [...new Array<number>(256).fill(NaN), ...new Array<number>(256).fill(1)]), target: input([1, 1, 16, 32], new Float32Array(512)), mask: input([1, 1, 2], [0, 1]), loss: output([]), scale: output([]), kind: 0, beta: 1 };
      kernels.maskedLoss(k);
      return { loss: read(k.loss) };
    });
    expectClose(runs, { loss: [256 / (256 + 1e-5)] });
  });
});

test.skipIf(lacking('pixel_shuffle'))('pixel_shuffle and back', () => {
  const pred = uniform(2 * 3 * 4 * 12);
  const want = new Float32Array(pred.length);
  pred.forEach((v, at) => {
    const [feature, x, y, b] = [at % 12, Math.floor(at / 12) % 4, Math.floor(at / 48) % 3, Math.floor(at / 144)];
    const [c, i, j] = [Math.floor(feature / 4), Math.floor(feature / 2) % 2, feature % 2];
    want[((b * 3 + c) * 6 + y * 2 + i) * 8 + x * 2 + j] = v;
  });
  const runs = onEveryLevel(() => {
    const [y, back] = [output([2, 3, 6, 8]), output([2, 3, 4, 12])];
    kernels.pixelShuffle({ pred: input([2, 3, 4, 12], pred), y });
    kernels.pixelShuffleGrad({ dy: y, dpred: back });
    return { y: read(y), back: read(back) };
  });
  for (const { values } of runs) expect([values.y, values.back]).toEqual([want, pred]);
});

describe('the random kernels follow the clock', () => {
  const [seed, step, micro, site, batch] = [-5, 1234567, 2, 77, 5];
  test.skipIf(lacking('random_mask')).each([[6, 6, 22, 8], [3, 5, 0, 1], [3, 5, 15, 2], [48, 48, 1382, 1]])('random_mask: %i x %i cells, %i hidden, repeat %i', (rows, columns, count, repeat) => {
    const cells = rows * columns;
    const want = new Float32Array(batch * cells * repeat * repeat);
    for (let b = 0; b < batch; b++) {
      const keys = Array.from({ length: cells }, (_, c) => philox(seed, site, step, (micro * batch + b) * cells + c)[0]);
      const order = keys.map((_, c) => c).sort((i, j) => (keys[i] as number) - (keys[j] as number) || i - j);
      const hidden = new Set(order.slice(0, count));
      for (let y = 0; y < rows * repeat; y++) for (let x = 0; x < columns * repeat; x++) {
        want[(b * rows * repeat + y) * columns * repeat + x] = hidden.has(Math.floor(y / repeat) * columns + Math.floor(x / repeat)) ? 1 : 0;
      }
    }
    const runs = onEveryLevel(() => {
      const y = output([batch, rows * repeat, columns * repeat]);
      kernels.randomMask({ clock: input([4], [seed, step, micro, 0], 'i32'), y, site, count, repeat });
      return { y: read(y) };
    });
    for (const { values } of runs) expect(values.y).toEqual(want);
  });

  test.skipIf(lacking('drop_path'))('drop_path and its gradient', () => {
    const shape = [batch, 3, 7];
    const rate = 0.4;
    const [x, residual, dy] = [uniform(105), uniform(105), uniform(105)];
    const factor = Array.from({ length: batch }, (_, b) => (uniformFromWord(philox(seed, site, step, micro * batch + b)[0]) >= rate ? 1 / (1 - rate) : 0));
    expect(new Set(factor).size).toBe(2);
    const at = (i: number): number => factor[Math.floor(i / 21)] as number;
    const runs = onEveryLevel(() => {
      const clock = input([4], [seed, step, micro, 0], 'i32');
      const [y, dx] = [output(shape), output(shape)];
      kernels.dropPath({ x: input(shape, x), residual: input(shape, residual), y, clock, rate, site });
      kernels.dropPathGrad({ dy: input(shape, dy), dx, clock, rate, site });
      return { y: read(y), dx: read(dx) };
    });
    expectClose(runs, { y: x.map((v, i) => (residual[i] as number) + v * at(i)), dx: dy.map((v, i) => v * at(i)) });
  });
});

describe('the optimizer on flat buffers', () => {
  test.skipIf(lacking('accumulate'))('accumulate adds or overwrites at its offset only', () => {
    const [flat, gradient] = [uniform(100), uniform(37)];
    for (const overwrite of [false, true]) {
      const want = flat.map((v, i) => (i >= 40 && i < 77 ? (overwrite ? 0 : v) + (gradient[i - 40] as number) : v));
      const runs = onEveryLevel(() => {
        const target = input([100], flat);
        kernels.accumulate({ flat: target, gradient: input([37], gradient), offset: 40, overwrite });
        return { flat: read(target) };
      });
      for (const { values } of runs) expect(values.flat).toEqual(want);
    }
  });

  test.skipIf(lacking('grad_norm')).each([0, 1, 1000, 200_001])('grad_norm of %i values', (n) => {
    const flat = uniform(n);
    const runs = onEveryLevel(() => {
      const y = output([]);
      kernels.gradNorm({ flat: input([n], flat), y });
      return { y: read(y) };
    });
    expectClose(runs, { y: [Math.sqrt(flat.reduce((a, v) => a + v * v, 0))] });
  });

  const hyper = [1e-3, 0.05, 0.1, 0.001, 1e-8, 1 - 0.9 ** 3, 1 - 0.999 ** 3, 5].map(Math.fround);
  test.skipIf(lacking('adamw')).each([3, 20, Infinity, NaN])('adamw with a gradient norm of %f', (norm) => {
    const n = 70_003;
    const ends = [1, 1, 33, 40_000, n];
    const [lrScale, decayScale] = [uniform(5).map(Math.abs), Float32Array.of(0, 1, 1, 0, 1)];
    const state = { weights: uniform(n), m: uniform(n), v: uniform(n).map(Math.abs) };
    const gradient = uniform(n);
    const want = { weights: Float64Array.from(state.weights), m: Float64Array.from(state.m), v: Float64Array.from(state.v) };
    const [lr0, decay0, rest1, rest2, eps, correction1, correction2, clip] = hyper as [number, number, number, number, number, number, number, number];
    for (let i = 0; i < n && Number.isFinite(norm); i++) {
      const s = ends.findIndex((end) => i < end);
      const lr = lr0 * (lrScale[s] as number);
      const g = (gradient[i] as number) * Math.min(1, clip / (norm + 1e-6));
      want.m[i] = (want.m[i] as number) + rest1 * (g - (want.m[i] as number));
      want.v[i] = (want.v[i] as number) * (1 - rest2) + rest2 * g * g;
      want.weights[i] = (want.weights[i] as number) * (1 - lr * decay0 * (decayScale[s] as number)) - ((lr / correction1) * (want.m[i] as number)) / (Math.sqrt((want.v[i] as number) / correction2) + eps);
    }
    const runs = onEveryLevel(() => {
      const [weights, m, v] = [input([n], state.weights), input([n], state.m), input([n], state.v)];
      kernels.adamw({
        weights, m, v, gradient: input([n], gradient), norm: input([], [norm]), ends: input([5], ends, 'i32'),
        lrScale: input([5], lrScale), decayScale: input([5], decayScale), hyper: input([8], hyper),
      });
      return { weights: read(weights), m: read(m), v: read(v) };
    });
    expectClose(runs, want);
    if (!Number.isFinite(norm)) for (const { values } of runs) expect(values).toEqual(state);
  });
});

// Gradients of more than 1 MiB are stored past the caches (kStreamedGradient), those of each half are not.
test.skipIf(lacking('masked_loss'))('masked_loss_grad: a large gradient is that of its halves, bit by bit', () => {
  const [cells, planes] = [6, 3];
  for (const [images, side] of [[2, 36], [4, 32]] as const) { // runs of pixels that are no whole cache lines, and that are
    const [perPred, perTarget] = [cells * cells * planes * side * side, planes * (cells * side) ** 2];
    const [pred, target, mask] = [uniform(images * perPred), uniform(images * perTarget), Float32Array.from({ length: images * 4 * cells * cells }, () => (rng.uniform() < 0.6 ? 1 : 0))];
    const gradient = (from: number, to: number): Float32Array => {
      const n = to - from;
      const k = {
        dy: input([], [1]), scale: input([], [1e-6]), pred: input([n, cells, cells, planes * side * side], pred.subarray(from * perPred, to * perPred)), kind: 0, beta: 1,
        target: input([n, planes, cells * side, cells * side], target.subarray(from * perTarget, to * perTarget)),
        mask: input([n, 2 * cells, 2 * cells], mask.subarray(from * 4 * cells * cells, to * 4 * cells * cells)), dpred: output([n, cells, cells, planes * side * side]),
      };
      kernels.maskedLossGrad(k);
      return read(k.dpred);
    };
    expect(images * perPred * 4).toBeGreaterThan(2 ** 20);
    expect(images * perPred * 2).toBeLessThan(2 ** 20);
    for (const { values } of onEveryLevel(() => ({ whole: gradient(0, images), lower: gradient(0, images / 2), upper: gradient(images / 2, images) }))) {
      const { whole, lower, upper } = values as Record<'whole' | 'lower' | 'upper', Float32Array>;
      expect(firstBitDifference(whole.slice(0, lower.length), lower)).toBeNull();
      expect(firstBitDifference(whole.slice(lower.length), upper)).toBeNull();
    }
  }
});
