import { describe, expect, it } from 'vitest';
import { geometricPositions, resizeBiasTable, resizePositionEmbedding } from '../../ts/models/position_bias';
import { maxAbsDiff, readFixture } from '../helpers/golden';

interface Case {
  rule: 'geometric' | 'bicubic';
  heads: number;
  src_size: number;
  dst_size: number;
  extra_tokens?: number;
  q?: number;
  src_positions?: number[];
  ape_src_grid?: number;
  ape_dst_grid?: number;
}

const fixture = readFixture<{ cases: Record<string, Case>; tolerance: number }>('rpb_remap');
const values = (name: string): Float32Array => fixture.values(name) as Float32Array;

describe.each(Object.entries(fixture.json.cases))('%s', (name, c) => {
  it('gives the official table', () => {
    const got = resizeBiasTable(values(`${name}/src`), c.heads, [c.src_size, c.src_size], [c.dst_size, c.dst_size], c.rule, c.extra_tokens ?? 0);
    expect(maxAbsDiff(got, values(`${name}/dst`))).toBeLessThanOrEqual(fixture.json.tolerance);
  });

  if (c.q !== undefined && c.src_positions) {
    it('spreads the offsets as the official code', () => {
      const { q, positions } = geometricPositions(c.src_size, c.dst_size);
      expect(q).toBe(c.q);
      expect(maxAbsDiff(positions, c.src_positions ?? [])).toBeLessThan(1e-12);
    });
  }

  if (c.ape_src_grid !== undefined && c.ape_dst_grid !== undefined) {
    const [from, to] = [c.ape_src_grid, c.ape_dst_grid];
    it('gives the official absolute position embedding', () => {
      const channels = fixture.shape(`${name}/ape_src`)[2] as number;
      const got = resizePositionEmbedding(values(`${name}/ape_src`), channels, [from, from], [to, to]);
      expect(maxAbsDiff(got, values(`${name}/ape_dst`))).toBeLessThanOrEqual(fixture.json.tolerance);
    });
  }
});

describe('resizing in general', () => {
  const table = Float32Array.from({ length: 5 * 7 * 2 }, (_, i) => Math.sin(i));

  it.each(['geometric', 'bicubic'] as const)('%s keeps constants, and rectangles are resized side by side', (rule) => {
    const flat = resizeBiasTable(new Float32Array(70).fill(0.5), 2, [5, 7], [9, 11], rule);
    expect(maxAbsDiff(flat, new Float32Array(198).fill(0.5))).toBeLessThan(1e-6);
    const turned = (values: Float32Array, h: number, w: number): Float32Array => Float32Array.from(values, (_, i) => values[(((i >> 1) % h) * w + Math.floor((i >> 1) / h)) * 2 + (i & 1)] as number);
    const got = resizeBiasTable(table, 2, [5, 7], [9, 11], rule);
    const other = resizeBiasTable(turned(table, 5, 7), 2, [7, 5], [11, 9], rule);
    expect(maxAbsDiff(turned(got, 9, 11), other)).toBeLessThan(1e-6);
  });

  it('handles windows of one and two tokens', () => {
    expect(Array.from(resizeBiasTable(Float32Array.of(3), 1, [1, 1], [3, 3], 'geometric'))).toEqual(new Array(9).fill(3));
    expect(resizeBiasTable(new Float32Array(9).fill(1), 1, [3, 3], [5, 5], 'geometric').every((v) => Math.abs(v - 1) < 1e-6)).toBe(true);
  });

  it('copies the rows of the class token', () => {
    const vit = Float32Array.of(...new Array<number>(9).fill(0), 1, 2, 3);
    expect(Array.from(resizeBiasTable(vit, 1, [3, 3], [5, 5], 'geometric', 3).slice(25))).toEqual([1, 2, 3]);
    const embedding = resizePositionEmbedding(Float32Array.of(7, 1, 1, 1, 1), 1, [2, 2], [3, 3], 1);
    expect(embedding[0]).toBe(7);
    expect(maxAbsDiff(embedding.subarray(1), new Array<number>(9).fill(1))).toBeLessThan(1e-6); // PyTorch's weights sum to one within 5e-7
  });

  it('refuses a table of another size', () => {
    expect(() => resizeBiasTable(table, 2, [5, 5], [9, 9], 'geometric')).toThrow(/table has 70 values, expected 50/);
    expect(() => resizePositionEmbedding(table, 2, [5, 5], [9, 9])).toThrow(/embedding has 70 values, expected 50/);
  });
});
