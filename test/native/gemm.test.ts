import { beforeEach, describe, expect, test } from 'vitest';
import { type NativeTensor, type StorageDType, kernels, loadAddon } from '../../ts/native';
import { Rng } from '../../ts/rng';
import { firstBitDifference } from '../helpers/compare';
import { lacking } from '../helpers/devices';
import { DEVICE, everyLevel } from '../helpers/native_kernels';

// Matrix products against double precision, at every instruction-set level, with several thread counts.
// One rounding to float is U; an element is a chain of K of them, whose sum grows like sqrt(K).
const U = 2 ** -24;
const addon = loadAddon();
let rng: Rng;

beforeEach(() => {
  rng = new Rng(7, 1, 0);
});

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const uniform = (n: number): Float32Array => Float32Array.from({ length: n }, () => rng.uniform() * 2 - 1);
const pick = <T>(from: readonly T[]): T => from[Math.floor(rng.uniform() * from.length)] as T;

function toBf16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, (u) => (u + 0x7fff + ((u >>> 16) & 1)) >>> 16);
}
function fromBf16(values: Uint16Array): Float32Array {
  const out = new Float32Array(values.length);
  new Uint32Array(out.buffer).set(Uint32Array.from(values, (v) => v << 16));
  return out;
}
const rounded = (values: Float32Array, dtype: StorageDType): Float32Array => (dtype === 'bf16' ? fromBf16(toBf16(values)) : values);

const DTYPE = { f32: 0, i32: 1, u8: 2, bf16: 3 } as const;
const live: number[] = [];
function input(shape: readonly number[], values: Float32Array | Int32Array, dtype: StorageDType = values instanceof Int32Array ? 'i32' : 'f32'): NativeTensor {
  const host = dtype === 'bf16' ? toBf16(values as Float32Array) : values;
  const handle = addon.upload(DTYPE[dtype], host, host.length, DEVICE);
  live.push(handle);
  return { storage: { handle, dtype, device: DEVICE }, shape };
}
const output = (shape: readonly number[], dtype: StorageDType = 'f32'): NativeTensor => ({ storage: { handle: 0, dtype, device: DEVICE }, shape });
function read(tensor: NativeTensor): Float32Array {
  const n = size(tensor.shape);
  if (tensor.storage.dtype !== 'bf16') {
    const out = new Float32Array(n);
    addon.readInto(tensor.storage.handle, out);
    return out;
  }
  const out = new Uint16Array(n);
  addon.readInto(tensor.storage.handle, out);
  return fromBf16(out);
}
function freeAll(...outputs: NativeTensor[]): void {
  for (const tensor of outputs) addon.release(tensor.storage.handle);
  for (const handle of live.splice(0)) addon.release(handle);
}

const sameBits = (a: Float32Array, b: Float32Array): boolean => Buffer.compare(new Uint8Array(a.buffer, a.byteOffset, a.byteLength), new Uint8Array(b.buffer, b.byteOffset, b.byteLength)) === 0;

/** Runs at every level; the bits of one level must be equal whatever the threads, or their order on a GPU. Returns one result per level. */
function everywhere(run: () => Float32Array[]): { level: string; results: Float32Array[] }[] {
  return everyLevel(run).map(({ level, runs: [results, ...others] }) => {
    for (const other of others) if (!other.every((values, i) => sameBits(values, results[i] as Float32Array))) expect(other, `${level}: bits with more threads or in another order`).toEqual(results);
    return { level, results };
  });
}

interface Reference {
  values: Float64Array;
  /** sum of |a b|: what rounding errors are proportional to. */
  scale: Float64Array;
}
/** op(a) op(b) with elements a(i, p) and b(p, j). */
function product(m: number, n: number, k: number, a: (i: number, p: number) => number, b: (p: number, j: number) => number): Reference {
  const values = new Float64Array(m * n);
  const scale = new Float64Array(m * n);
  const right = new Float64Array(k * n);
  for (let p = 0; p < k; p++) for (let j = 0; j < n; j++) right[p * n + j] = b(p, j);
  for (let i = 0; i < m; i++)
    for (let p = 0; p < k; p++) {
      const x = a(i, p);
      for (let j = 0; j < n; j++) {
        const v = x * (right[p * n + j] as number);
        values[i * n + j] = (values[i * n + j] as number) + v;
        scale[i * n + j] = (scale[i * n + j] as number) + Math.abs(v);
      }
    }
  return { values, scale };
}
function expectClose(got: Float32Array, want: Reference, k: number, what: string, rounding = 0): void {
  expect(got.length).toBe(want.values.length);
  let worst = 0;
  got.forEach((value, i) => {
    const exact = want.values[i] as number;
    const bound = (4 + Math.sqrt(k)) * U * (want.scale[i] as number) + (2 * U + rounding) * Math.abs(exact) + 1e-30;
    const ratio = Math.abs(value - exact) / bound;
    if (!(ratio <= worst)) worst = ratio;
  });
  expect(worst, `${what}: error in units of its bound`).toBeLessThanOrEqual(1);
}

/** erf to double precision: Taylor series, continued fraction for large arguments. */
function erf(x: number): number {
  const t = Math.abs(x);
  if (t > 6) return Math.sign(x);
  if (t < 3) {
    let term = t;
    let sum = t;
    for (let n = 1; n < 200; n++) {
      term *= -(t * t) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = t;
  for (let n = 120; n > 0; n--) fraction = t + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-t * t) / (fraction * Math.sqrt(Math.PI)));
}
const phi = (x: number): number => 0.5 * (1 + erf(x / Math.SQRT2));
const geluDerivative = (x: number): number => phi(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);

const SHAPES = [
  [1, 1, 1], [0, 3, 2], [3, 0, 2], [3, 2, 0], [14, 32, 384], [15, 33, 385], [6, 16, 8], [7, 17, 9], [28, 64, 48], [113, 31, 70], [300, 40, 20], [2, 1100, 33], [29, 5, 1000], [40, 36, 5000],
] as const;

describe('matmul', () => {
  const cases = () => [...SHAPES.map((s) => [...s]), ...Array.from({ length: 20 }, () => [1 + Math.floor(rng.uniform() * 90), 1 + Math.floor(rng.uniform() * 90), 1 + Math.floor(rng.uniform() * 500)])];

  test.each([[false, false], [false, true], [true, false], [true, true]])('transposeA %s, transposeB %s: sums as in double, same bits for every thread count', (transposeA, transposeB) => {
    for (const [m, n, k] of cases() as [number, number, number][]) {
      const a = uniform(m * k);
      const b = uniform(k * n);
      const want = product(m, n, k, (i, p) => a[transposeA ? p * m + i : i * k + p] as number, (p, j) => b[transposeB ? j * k + p : p * n + j] as number);
      const runs = everywhere(() => {
        const y = output([1, m, n]);
        kernels.matmul({ a: input(transposeA ? [1, k, m] : [1, m, k], a), b: input(transposeB ? [1, n, k] : [1, k, n], b), y, transposeA, transposeB, activation: -1, alpha: 0 });
        const result = [read(y)];
        freeAll(y);
        return result;
      });
      for (const { level, results } of runs) expectClose(results[0] as Float32Array, want, k, `${level} ${m}x${n}x${k}`);
    }
  }, 300_000);

  test('a batch of one is used for every product of the other', () => {
    const [batch, m, n, k] = [5, 9, 11, 13];
    const a = uniform(m * k);
    const b = uniform(batch * k * n);
    everywhere(() => {
      const y = output([batch, m, n]);
      kernels.matmul({ a: input([1, m, k], a), b: input([batch, k, n], b), y, transposeA: false, transposeB: false, activation: -1, alpha: 0 });
      const got = read(y);
      for (let q = 0; q < batch; q++) {
        const want = product(m, n, k, (i, p) => a[i * k + p] as number, (p, j) => b[(q * k + p) * n + j] as number);
        expectClose(got.subarray(q * m * n, (q + 1) * m * n), want, k, `batch ${q}`);
      }
      freeAll(y);
      return [got];
    });
  });

  test('int32 is exact and wraps around', () => {
    const [batch, m, n, k] = [3, 7, 10, 33];
    const a = Int32Array.from({ length: batch * m * k }, () => Math.floor(rng.uniform() * 2e5) - 1e5);
    const b = Int32Array.from({ length: batch * k * n }, () => Math.floor(rng.uniform() * 2e5) - 1e5);
    for (const transposeB of [false, true])
      everywhere(() => {
        const y = output([batch, m, n], 'i32');
        kernels.matmul({ a: input([batch, m, k], a), b: input(transposeB ? [batch, n, k] : [batch, k, n], b), y, transposeA: false, transposeB, activation: -1, alpha: 0 });
        const got = new Int32Array(batch * m * n);
        addon.readInto(y.storage.handle, got);
        for (let q = 0; q < batch; q++)
          for (let i = 0; i < m; i++)
            for (let j = 0; j < n; j++) {
              let sum = 0;
              for (let p = 0; p < k; p++) sum = (sum + Math.imul(a[(q * m + i) * k + p] as number, b[q * k * n + (transposeB ? j * k + p : p * n + j)] as number)) | 0;
              expect(got[(q * m + i) * n + j]).toBe(sum);
            }
        freeAll(y);
        return [Float32Array.from(got)];
      });
  });

  test('shapes that do not fit are refused by name', () => {
    const a = input([1, 2, 3], uniform(6));
    const call = (b: NativeTensor, y: NativeTensor) => () => kernels.matmul({ a, b, y, transposeA: false, transposeB: false, activation: -1, alpha: 0 });
    expect(call(input([1, 4, 2], uniform(8)), output([1, 2, 2]))).toThrow(/matmul: b has an inner dimension of 4, expected 3/);
    expect(call(input([1, 3, 2], uniform(6)), output([1, 2, 3]))).toThrow(/matmul: y is \[2, 3\], expected \[2, 2\]/);
    expect(call(input([2, 3, 2], uniform(12)), output([1, 2, 2]))).toThrow(/matmul: b has a batch of 2, expected 1/);
    freeAll();
  });
});

const LINEAR_SHAPES = [[1, 1, 1], [0, 4, 5], [3, 1, 7], [5, 4, 0], [17, 33, 40], [150, 24, 50], [31, 500, 37], [2, 900, 18], [400, 16, 9], [40, 2100, 16], [2301, 8, 12]] as const; // rows, I, O

describe.each(['f32', 'bf16'] as const)('linear in %s', (dtype) => {
  const rounding = dtype === 'bf16' ? 2 ** -8 : 0;

  test('y = act(x W^T + b) + residual, and the pre-activation', () => {
    for (const [rows, I, O] of LINEAR_SHAPES)
      for (const activation of [0, 1]) {
        const bias = pick([true, false]) ? uniform(O) : null;
        const residual = pick([true, false]) ? rounded(uniform(rows * O), dtype) : null;
        const x = rounded(uniform(rows * I), dtype);
        const w = rounded(uniform(O * I), dtype);
        const pre = product(rows, O, I, (i, p) => x[i * I + p] as number, (p, j) => w[j * I + p] as number);
        pre.values.forEach((v, i) => (pre.values[i] = v + (bias?.[i % O] ?? 0)));
        // A GPU rounds the bias to the dtype of the result and goes on from the pre-activation as it is stored; the slope of GELU is below 1.13.
        const stored = DEVICE !== 0 ? rounding / U / 4 : 0;
        if (bias) pre.scale.forEach((s, i) => (pre.scale[i] = s + stored * Math.abs(bias[i % O] as number)));
        const y: Reference = {
          values: pre.values.map((v, i) => (activation ? v * phi(v) : v) + (residual?.[i] ?? 0)),
          scale: pre.scale.map((s, i) => s * 1.2 + (1 + stored) * Math.abs(pre.values[i] as number) + Math.abs(residual?.[i] ?? 0)),
        };
        const runs = everywhere(() => {
          const [out, before] = [output([1, rows, O], dtype), output([1, rows, O], dtype)];
          kernels.linear({
            x: input([1, rows, I], x, dtype), weight: input([O, I], w, dtype), bias: bias && input([O], bias),
            residual: residual && input([1, rows, O], residual, dtype), y: out, pre: before, activation,
          });
          const result = [read(out), read(before)];
          freeAll(out, before);
          return result;
        });
        for (const { level, results } of runs) {
          expectClose(results[0] as Float32Array, y, I, `${level} y ${rows}x${I}x${O}`, rounding);
          expectClose(results[1] as Float32Array, pre, I, `${level} pre ${rows}x${I}x${O}`, rounding);
        }
      }
  }, 300_000);

  test('gradients of input, weight and bias, with GELU on either side', () => {
    for (const [rows, I, O] of LINEAR_SHAPES)
      for (const gelu of [false, true]) {
        const dy = rounded(uniform(rows * O), dtype);
        const x = rounded(uniform(rows * I), dtype);
        const w = rounded(uniform(O * I), dtype);
        const pre = gelu ? rounded(uniform(rows * O).map((v) => 4 * v), dtype) : null;
        const xPre = gelu ? rounded(uniform(rows * I).map((v) => 4 * v), dtype) : null;
        const dz = Float64Array.from(dy, (v, i) => v * (pre ? geluDerivative(pre[i] as number) : 1));
        const dx = product(rows, I, O, (i, p) => dz[i * O + p] as number, (p, j) => w[p * I + j] as number);
        if (xPre) dx.values.forEach((v, i) => (dx.values[i] = v * geluDerivative(xPre[i] as number)));
        const dw = product(O, I, rows, (i, p) => dz[p * O + i] as number, (p, j) => x[p * I + j] as number);
        const db = product(1, O, rows, () => 1, (p, j) => dz[p * O + j] as number);
        // GELU' has an absolute error of up to 2e-7 < 4 U; in bf16 dz itself is rounded before it is multiplied.
        const slack = gelu ? 1 + rounding / U / 4 : 1;
        const abs = (a: Float32Array) => (i: number): number => slack * Math.abs(a[i] as number);
        const [absDy, absX, absW] = [abs(dy), (i: number) => Math.abs(x[i] as number), (i: number) => Math.abs(w[i] as number)];
        const inexact = (r: Reference, s: Reference): Reference => (gelu ? { values: r.values, scale: s.values } : r);
        const [dxBound, dwBound, dbBound] = [
          inexact(dx, product(rows, I, O, (i, p) => 2 * absDy(i * O + p), (p, j) => absW(p * I + j))),
          inexact(dw, product(O, I, rows, (i, p) => absDy(p * O + i), (p, j) => absX(p * I + j))),
          inexact(db, product(1, O, rows, () => 1, (p, j) => absDy(p * O + j))),
        ];
        const [first, firstBias] = [uniform(O * I), uniform(O)];
        const runs = everywhere(() => {
          const [outX, outW, outB, sumW, sumB, aloneB] = [output([rows, I], dtype), output([O, I]), output([O]), input([O, I], first), input([O], firstBias), output([O])];
          kernels.linearGrad({
            dy: input([rows, O], dy, dtype), x: input([rows, I], x, dtype), weight: input([O, I], w, dtype), pre: pre && input([rows, O], pre, dtype),
            xPre: xPre && input([rows, I], xPre, dtype), dx: outX, dweight: outW, dweightSum: sumW, dbias: outB, dbiasSum: sumB,
          });
          kernels.linearGrad({ dy: input([rows, O], dy, dtype), pre: pre && input([rows, O], pre, dtype), dbias: aloneB });
          const result = [read(outX), read(outW), read(outB), read(sumW), read(sumB), read(aloneB)];
          freeAll(outX, outW, outB, aloneB);
          return result;
        });
        const at = `${rows}x${I}x${O}`;
        for (const { level, results } of runs) {
          expectClose(results[0] as Float32Array, dxBound, O, `${level} dx ${at}`, rounding);
          expectClose(results[1] as Float32Array, dwBound, rows, `${level} dweight ${at}`);
          expectClose(results[2] as Float32Array, dbBound, rows, `${level} dbias ${at}`);
          const sum = { values: dw.values.map((v, i) => v + (first[i] as number)), scale: dwBound.scale.map((s, i) => s + Math.abs(first[i] as number)) };
          expectClose(results[3] as Float32Array, sum, rows, `${level} dweight_sum ${at}`);
          const biasSum = { values: db.values.map((v, i) => v + (firstBias[i] as number)), scale: dbBound.scale.map((s, i) => s + Math.abs(firstBias[i] as number)) };
          expectClose(results[4] as Float32Array, biasSum, rows, `${level} dbias_sum ${at}`);
          expectClose(results[5] as Float32Array, dbBound, rows, `${level} dbias alone ${at}`);
        }
      }
  }, 300_000);
});

// A GPU has no such threads.
test.skipIf(DEVICE !== 0)('products large enough that a few threads share their work: the bits of one thread alone, sums as in double', () => {
  const [rows, I, O] = [522, 400, 1100]; // more than one block of columns and of K, ends of panels, tiles and pieces
  const [x, w, dy, residual, bias, first] = [uniform(rows * I), uniform(O * I), uniform(rows * O), uniform(rows * O), uniform(O), uniform(O * I)];
  const at = (values: Float32Array, columns: number) => (i: number, j: number): number => values[i * columns + j] as number;
  const [X, W, dY] = [at(x, I), at(w, I), at(dy, O)];
  const levels = everyLevel(() => {
    const [y, dx, dw, sum, db] = [output([rows, O]), output([rows, I]), output([O, I]), input([O, I], first), output([O])];
    const given = { dy: input([rows, O], dy), x: input([rows, I], x), weight: input([O, I], w) };
    kernels.linear({ x: given.x, weight: given.weight, bias: input([O], bias), residual: input([rows, O], residual), y, activation: 0 });
    kernels.linearGrad({ ...given, dx, dweight: dw, dweightSum: sum, dbias: db });
    const results = [y, dx, dw, sum, db].map(read);
    freeAll(y, dx, dw, db);
    return results as [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array];
  }, [1, 2, 3, 4, 5]);
  /** Row i of `got` [m, n] against sums over K of a(i, p) b(p, j), plus rest(i, j). */
  const checkRow = (got: Float32Array, i: number, n: number, k: number, a: (p: number) => number, b: (p: number, j: number) => number, rest: (j: number) => number, what: string): void => {
    const want = product(1, n, k, (_, p) => a(p), b);
    want.values.forEach((v, j) => (want.values[j] = v + rest(j)));
    expectClose(got.subarray(i * n, (i + 1) * n), want, k, what);
  };
  for (const { level, runs: [alone, ...others] } of levels) {
    for (const other of others) alone.forEach((values, i) => expect(firstBitDifference(values, other[i] as Float32Array), `${level}: result ${i} of more threads`).toBeNull());
    const [y, dx, dw, sum, db] = alone;
    for (const i of [0, 5, 300, rows - 1]) {
      checkRow(y, i, O, I, (p) => X(i, p), (p, j) => W(j, p), (j) => (bias[j] as number) + (residual[i * O + j] as number), `${level} y, row ${i}`);
      checkRow(dx, i, I, O, (p) => dY(i, p), W, () => 0, `${level} dx, row ${i}`);
    }
    for (const i of [0, 48, 1023, O - 1]) {
      checkRow(dw, i, I, rows, (p) => dY(p, i), X, () => 0, `${level} dweight, row ${i}`);
      checkRow(sum, i, I, rows, (p) => dY(p, i), X, (j) => first[i * I + j] as number, `${level} dweight_sum, row ${i}`);
    }
    checkRow(db, 0, O, rows, () => 1, dY, () => 0, `${level} dbias`);
  }
}, 120_000);

test('GELU and its derivative over the whole range', () => {
  const x = Float32Array.from({ length: 4001 }, (_, i) => (i - 2000) / 250);
  for (const extreme of [1e-30, -1e-30, 1e4, -1e4, 3e38, -3e38]) x[Math.floor(rng.uniform() * x.length)] = extreme;
  const one = Float32Array.of(1);
  everywhere(() => {
    const [y, dx] = [output([x.length, 1]), output([x.length, 1])];
    kernels.linear({ x: input([x.length, 1], x), weight: input([1, 1], one), bias: null, residual: null, y, pre: null, activation: 1 });
    kernels.linearGrad({ dy: input([x.length, 1], new Float32Array(x.length).fill(1)), x: null, weight: input([1, 1], one), pre: input([x.length, 1], x), dx });
    const result = [read(y), read(dx)];
    result[0]?.forEach((v, i) => expect(Math.abs(v - (x[i] as number) * phi(x[i] as number)), `gelu(${x[i]})`).toBeLessThanOrEqual((1e-7 + U) * Math.abs(x[i] as number)));
    result[1]?.forEach((v, i) => expect(Math.abs(v - geluDerivative(x[i] as number)), `gelu'(${x[i]})`).toBeLessThanOrEqual(2e-7));
    freeAll(y, dx);
    return result;
  });
});

test('NaN and infinities pass through GELU as they do in its definition', () => {
  const x = Float32Array.of(NaN, Infinity, -1e30, 0);
  everywhere(() => {
    const [y, dx] = [output([4, 1]), output([4, 1])];
    kernels.linear({ x: input([4, 1], x), weight: input([1, 1], Float32Array.of(1)), y, activation: 1 });
    kernels.linearGrad({ dy: input([4, 1], new Float32Array(4).fill(1)), weight: input([1, 1], Float32Array.of(1)), pre: input([4, 1], x), dx });
    const [values, slopes] = [read(y), read(dx)];
    freeAll(y, dx);
    expect([...values.subarray(0, 2)]).toEqual([NaN, Infinity]);
    expect(Math.abs(values[2] as number)).toBeLessThan(1e-6);
    expect(values[3]).toBe(0);
    expect(slopes[0]).toBeNaN();
    expect(slopes[3]).toBe(0.5);
    return [values, slopes];
  });
});

describe.skipIf(lacking('patch_embed'))('patch_embed', () => {
  test.each([[2, 3, 8, 12, 4, 10], [1, 1, 3, 3, 1, 2], [1, 2, 32, 16, 16, 5], [0, 3, 8, 8, 4, 6]])('B %i, Cin %i, %ix%i, patch %i, C %i: forward and gradients', (B, channels, H, W, p, C) => {
    const [gh, gw, K] = [H / p, W / p, channels * p * p];
    const tokens = B * gh * gw;
    const pixel = (t: number, e: number): number => {
      const [b, i, j] = [Math.floor(t / (gh * gw)), Math.floor(t / gw) % gh, t % gw];
      const [c, y, x] = [Math.floor(e / (p * p)), Math.floor(e / p) % p, e % p];
      return ((b * channels + c) * H + i * p + y) * W + j * p + x;
    };
    const [images, w, bias, dy] = [uniform(B * channels * H * W), uniform(C * K), uniform(C), uniform(tokens * C)];
    const y = product(tokens, C, K, (t, e) => images[pixel(t, e)] as number, (e, c) => w[c * K + e] as number);
    y.values.forEach((v, i) => (y.values[i] = v + (bias[i % C] as number)));
    y.scale.forEach((v, i) => (y.scale[i] = v + Math.abs(bias[i % C] as number)));
    const dw = product(C, K, tokens, (c, t) => dy[t * C + c] as number, (t, e) => images[pixel(t, e)] as number);
    const db = product(1, C, tokens, () => 1, (t, c) => dy[t * C + c] as number);
    const folded = product(tokens, K, C, (t, c) => dy[t * C + c] as number, (c, e) => w[c * K + e] as number);
    const di = { values: new Float64Array(images.length), scale: new Float64Array(images.length) };
    for (let t = 0; t < tokens; t++)
      for (let e = 0; e < K; e++) {
        di.values[pixel(t, e)] = folded.values[t * K + e] as number;
        di.scale[pixel(t, e)] = folded.scale[t * K + e] as number;
      }
    const runs = everywhere(() => {
      const [outY, outI, outW, outB] = [output([B, gh, gw, C]), output([B, channels, H, W]), output([C, K]), output([C])];
      kernels.patchEmbed({ images: input([B, channels, H, W], images), weight: input([C, K], w), bias: input([C], bias), y: outY, patch: p });
      kernels.patchEmbedGrad({ dy: input([B, gh, gw, C], dy), images: input([B, channels, H, W], images), weight: input([C, K], w), dimages: outI, dweight: outW, dbias: outB, patch: p });
      const result = [read(outY), read(outI), read(outW), read(outB)];
      freeAll(outY, outI, outW, outB);
      return result;
    });
    for (const { level, results } of runs) {
      expectClose(results[0] as Float32Array, y, K, `${level} y`);
      expectClose(results[1] as Float32Array, di, C, `${level} dimages`);
      expectClose(results[2] as Float32Array, dw, tokens, `${level} dweight`);
      expectClose(results[3] as Float32Array, db, tokens, `${level} dbias`);
    }
  });
});
