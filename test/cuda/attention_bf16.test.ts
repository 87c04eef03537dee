/** Attention in bf16 on the tensor cores: at most twice as far from the exact values as the same formula with its probabilities and gradients of scores rounded to bf16. */
import { describe, expect, test } from 'vitest';
import { kernels, loadAddon, type NativeTensor } from '../../ts/native';
import { Rng } from '../../ts/rng';
import { DEVICE, everyLevel, size } from '../helpers/native_kernels';

const addon = loadAddon();
const words = new Uint32Array(1);
const asFloat = new Float32Array(words.buffer);
function bits(value: number): number {
  asFloat[0] = value;
  const u = words[0] as number;
  return (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
}
function widen(value: number): number {
  words[0] = value << 16;
  return asFloat[0] as number;
}
const rounded = (value: number): number => widen(bits(value));
const exact = (value: number): number => value;

interface Instance {
  /** Place of each token in the tensor, and what its scores get added: -Infinity where there is no key. */
  tokens: number[];
  added(i: number, j: number): number;
  /** Entry of the bias gradient for query i and key j. */
  entry(i: number, j: number): number;
}
interface Case {
  tokens: number;
  heads: number;
  d: number;
  scale: number;
  scales?: number[];
  instances: Instance[];
}
type Results = Record<'y' | 'dqkv' | 'dbias' | 'dscales', number[]>;
/** With the sum of the magnitudes that the gradient of each scale is made of. */
type Expected = Results & { scaleTerms: number[] };

/** The formula in float64, `round` applied where the kernel has to round. */
function reference(c: Case, qkv: Float32Array, dy: Float32Array, entries: number, round: (v: number) => number): Expected {
  const { heads, d } = c;
  const channels = heads * d;
  const out: Expected = { scaleTerms: new Array<number>(heads).fill(0), y: new Array<number>(c.tokens * channels).fill(0), dqkv: new Array<number>(c.tokens * 3 * channels).fill(0), dbias: new Array<number>(entries * heads).fill(0), dscales: new Array<number>(heads).fill(0) };
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, v, i) => sum + v * (b[i] as number), 0);
  for (const { tokens, added, entry } of c.instances) {
    for (let h = 0; h < heads; h++) {
      const vectors = [0, 1, 2].map((part) => tokens.map((t) => Array.from(qkv.subarray((t * 3 + part) * channels + h * d, (t * 3 + part) * channels + (h + 1) * d))));
      const [q, k, v] = vectors as [number[][], number[][], number[][]];
      const dys = tokens.map((t) => Array.from(dy.subarray(t * channels + h * d, t * channels + (h + 1) * d)));
      const length = (x: number[]): number => (c.scales ? Math.sqrt(dot(x, x)) : 1);
      const scale = c.scales?.[h] ?? c.scale;
      const [qn, kn] = [q, k].map((rows) => rows.map((row) => row.map((x) => x / length(row)))) as [number[][], number[][]];
      const dq = q.map(() => new Array<number>(d).fill(0));
      const dk = k.map(() => new Array<number>(d).fill(0));
      const dv = v.map(() => new Array<number>(d).fill(0));
      tokens.forEach((t, i) => {
        const scores = tokens.map((_, j) => scale * dot(qn[i] as number[], kn[j] as number[]) + added(i, j));
        const peak = Math.max(...scores);
        const total = scores.reduce((sum, s) => sum + Math.exp(s - peak), 0);
        const p = scores.map((s) => Math.exp(s - peak) / total);
        const dp = v.map((row) => dot(dys[i] as number[], row));
        const mean = dot(p, dp);
        p.forEach((w, j) => {
          const ds = w * ((dp[j] as number) - mean);
          out.dbias[entry(i, j) * heads + h] = (out.dbias[entry(i, j) * heads + h] as number) + ds;
          if (c.scales) out.scaleTerms[h] = (out.scaleTerms[h] as number) + Math.abs(ds * dot(qn[i] as number[], kn[j] as number[]));
          if (c.scales) out.dscales[h] = (out.dscales[h] as number) + round(ds) * dot((qn[i] as number[]), (kn[j] as number[]).map(round));
          for (let e = 0; e < d; e++) {
            const at = t * channels + h * d + e;
            out.y[at] = (out.y[at] as number) + round(w) * ((v[j] as number[])[e] as number);
            const [dqi, dkj, dvj] = [dq[i], dk[j], dv[j]] as [number[], number[], number[]];
            const operand = (x: number): number => (c.scales ? round(x) : x);
            dqi[e] = (dqi[e] as number) + scale * round(ds) * operand((kn[j] as number[])[e] as number);
            dkj[e] = (dkj[e] as number) + scale * round(ds) * operand((qn[i] as number[])[e] as number);
            dvj[e] = (dvj[e] as number) + round(w) * ((dys[i] as number[])[e] as number);
          }
        });
      });
      const project = (dn: number[], normal: number[], row: number[]): number[] => {
        const n = normal.map(round);
        return c.scales ? dn.map((x, e) => (x - (n[e] as number) * dot(n, dn)) / length(row)) : dn;
      };
      tokens.forEach((t, i) => {
        const gradients = [project(dq[i] as number[], qn[i] as number[], q[i] as number[]), project(dk[i] as number[], kn[i] as number[], k[i] as number[]), dv[i] as number[]];
        gradients.forEach((row, part) => row.forEach((x, e) => (out.dqkv[(t * 3 + part) * channels + h * d + e] = round(x))));
      });
    }
  }
  out.y = out.y.map(round);
  return out;
}

/** Windows of a map that they tile, rolled by `shift`. */
function windows(batch: number, side: number, window: number, shift: number, table: Float32Array, heads: number, h: number): Instance[] {
  const across = Math.ceil(side / window);
  const padded = across * window;
  const region = (i: number): number => (shift === 0 || i < padded - window ? 0 : i < padded - shift ? 1 : 2);
  return Array.from({ length: batch * across * across }, (_, w) => {
    const cells: { token: number; region: number; x: number; y: number }[] = [];
    const [image, row, column] = [Math.floor(w / across / across), Math.floor(w / across) % across, w % across];
    for (let y = 0; y < window; y++) {
      for (let x = 0; x < window; x++) {
        const [ry, rx] = [row * window + y, column * window + x];
        const [py, px] = [(ry + shift) % padded, (rx + shift) % padded];
        if (py < side && px < side) cells.push({ token: (image * side + py) * side + px, region: region(ry) * 3 + region(rx), x, y });
      }
    }
    const entry = (i: number, j: number): number => {
      const [a, b] = [cells[i], cells[j]] as [{ x: number; y: number }, { x: number; y: number }];
      return (a.y - b.y + window - 1) * (2 * window - 1) + a.x - b.x + window - 1;
    };
    return { tokens: cells.map(({ token }) => token), entry, added: (i, j) => (table[entry(i, j) * heads + h] as number) + (cells[i]?.region === cells[j]?.region ? 0 : -100) };
  });
}

const live: number[] = [];
function upload(shape: readonly number[], values: Float32Array, dtype: 'f32' | 'bf16'): NativeTensor {
  const host = dtype === 'bf16' ? Uint16Array.from(values, bits) : values;
  const handle = addon.upload(dtype === 'bf16' ? 3 : 0, host, host.length, DEVICE);
  live.push(handle);
  return { storage: { handle, dtype, device: DEVICE }, shape };
}
const output = (shape: readonly number[], dtype: 'f32' | 'bf16'): NativeTensor => ({ storage: { handle: 0, dtype, device: DEVICE }, shape });
function take(tensor: NativeTensor): number[] {
  const n = size(tensor.shape);
  const values = tensor.storage.dtype === 'bf16' ? new Uint16Array(n) : new Float32Array(n);
  addon.readInto(tensor.storage.handle, values);
  addon.release(tensor.storage.handle);
  return tensor.storage.dtype === 'bf16' ? Array.from(values, widen) : Array.from(values);
}

function expectRoundingOnly(run: () => Results, c: Case, qkv: Float32Array, dy: Float32Array, entries: number): void {
  const truth = reference(c, qkv, dy, entries, exact);
  const low = reference(c, qkv, dy, entries, rounded);
  const [{ runs }] = everyLevel(run) as unknown as [{ runs: [Results, ...Results[]] }];
  const [got, ...others] = runs;
  for (const other of others) expect(other, 'in another order').toEqual(got);
  for (const name of ['y', 'dqkv', 'dbias', 'dscales'] as const) {
    const worst = (values: number[]): number => values.reduce((most, v, i) => Math.max(most, Math.abs(v - (truth[name][i] as number))), 0);
    const largest = truth[name].reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    expect(got[name].length, name).toBe(truth[name].length);
    // The sums themselves are f32; so is dbias, which the reference does not round.
    expect(got[name].every(Number.isFinite), name).toBe(true);
    // The gradient of a scale is one number: the deviation of another rounding is no measure. Three factors of each term are rounded.
    const terms = name === 'dscales' ? 3 * 2 ** -9 * Math.max(...truth.scaleTerms) : 0;
    expect(worst(got[name]), name).toBeLessThanOrEqual(2 * worst(low[name]) + terms + 2 ** -18 * largest);
  }
}

const random = (n: number, seed: number, scale = 1): Float32Array => {
  const rng = new Rng(seed);
  return Float32Array.from({ length: n }, () => rounded(scale * rng.normal()));
};

describe('window attention', () => {
  test.each([
    ['window 6 of Swin-B at 192 pixels, head of 32', 1, 12, 6, 3, 1, 32, false],
    ['window 7, padded and shifted, head of 32', 1, 10, 7, 3, 1, 32, false],
    ['window 8, cosine, shifted', 1, 8, 8, 4, 1, 16, true],
    ['window 12, cosine', 1, 12, 12, 0, 1, 32, true],
    ['window 16, shifted: several chunks of keys', 1, 16, 16, 8, 1, 16, true],
    ['window 2, two heads of 40, several windows in a group', 2, 6, 2, 1, 2, 40, true],
  ] as const)('%s', (_, batch, side, window, shift, heads, d, cosine) => {
    const channels = heads * d;
    const entries = (2 * window - 1) ** 2;
    const [qkv, dy, table] = [random(batch * side * side * 3 * channels, 1), random(batch * side * side * channels, 2), random(entries * heads, 3, 0.5)];
    const scales = cosine ? Array.from({ length: heads }, (__, h) => 4 + h) : undefined;
    // One case for each head: the biases differ.
    const c: Case = { tokens: batch * side * side, heads, d, scale: d ** -0.5, instances: windows(batch, side, window, shift, table, heads, 0), ...(scales && { scales }) };
    if (heads > 1) table.forEach((__, i) => (table[i] = table[i - (i % heads)] as number));
    const run = (): Results => {
      const shape = [batch, side, side];
      const common = { heads, scale: d ** -0.5, window: [window, window], shift: [shift, shift] };
      const inputs = { qkv: upload([...shape, 3 * channels], qkv, 'bf16'), table: upload([entries, heads], table, 'f32'), scales: scales ? upload([heads], Float32Array.from(scales), 'f32') : null };
      const y = output([...shape, channels], 'bf16');
      kernels.windowAttention({ ...inputs, y, ...common });
      const g = { dqkv: output([...shape, 3 * channels], 'bf16'), dtable: output([entries, heads], 'f32'), dscales: scales ? output([heads], 'f32') : null };
      kernels.windowAttentionGrad({ dy: upload([...shape, channels], dy, 'bf16'), ...inputs, ...g, ...common });
      const results = { y: take(y), dqkv: take(g.dqkv), dbias: take(g.dtable), dscales: g.dscales ? take(g.dscales) : new Array<number>(heads).fill(0) };
      for (const handle of live.splice(0)) addon.release(handle);
      return results;
    };
    expectRoundingOnly(run, c, qkv, dy, entries);
  });
});

test('attention of ViT: 50 and 197 tokens, with a bias', () => {
  for (const [batch, length, heads, d] of [[3, 50, 2, 16], [1, 197, 1, 64]] as const) {
    const channels = heads * d;
    const [qkv, dy, bias] = [random(batch * length * 3 * channels, 4), random(batch * length * channels, 5), random(heads * length * length, 6, 0.5)];
    if (heads > 1) bias.copyWithin(length * length, 0, length * length);
    const entry = (i: number, j: number): number => i * length + j;
    const instances = Array.from({ length: batch }, (__, b): Instance => ({ tokens: Array.from({ length }, (___, i) => b * length + i), entry, added: (i, j) => bias[entry(i, j)] as number }));
    const run = (): Results => {
      const inputs = { qkv: upload([batch, length, 3 * channels], qkv, 'bf16'), bias: upload([heads, length, length], bias, 'f32') };
      const y = output([batch, length, channels], 'bf16');
      kernels.attention({ ...inputs, y, heads, scale: d ** -0.5 });
      const g = { dqkv: output([batch, length, 3 * channels], 'bf16'), dbias: output([heads, length, length], 'f32') };
      kernels.attentionGrad({ dy: upload([batch, length, channels], dy, 'bf16'), ...inputs, ...g, heads, scale: d ** -0.5 });
      const [yValues, dqkv, byHead] = [take(y), take(g.dqkv), take(g.dbias)];
      const dbias = Array.from({ length: length * length * heads }, (__, i) => byHead[(i % heads) * length * length + Math.floor(i / heads)] as number);
      for (const handle of live.splice(0)) addon.release(handle);
      return { y: yValues, dqkv, dbias, dscales: new Array<number>(heads).fill(0) };
    };
    expectRoundingOnly(run, { tokens: batch * length, heads, d, scale: d ** -0.5, instances }, qkv, dy, length * length);
  }
});
