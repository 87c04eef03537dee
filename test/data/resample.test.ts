import { describe, expect, test } from 'vitest';
import { fixtures, maxAbsDiff, readFixture } from '../helpers/golden';
import { normalisationTable, normaliseInto, resampleInto, resampleU8, type DecodedImage, type Interpolation, type ResampleGeometry } from '../../ts/data/resample';
import { roundHalfEven } from '../../ts/data/draws';
import { drawGeometry, randomResizedCrop, transform } from '../../ts/data/transform';
import { Rng } from '../../ts/rng';

interface AugmentJson {
  crops: { top: number; left: number; height: number; width: number; hflip: boolean }[];
  crop_size: number;
  mean: [number, number, number];
  std: [number, number, number];
  crop_deviation: Record<string, { pil_vs_exact: number }>;
  eval: { size: number; resize_shorter_side: number };
  crop_params: { image_width: number; image_height: number; scale: [number, number]; ratio: [number, number]; uniforms: number[]; uniforms_after: number; top: number; left: number; height: number; width: number }[];
}

for (const name of fixtures(/^augment/)) {
  const fixture = readFixture<AugmentJson>(name);
  const [height, width] = fixture.shape('photo') as [number, number, number];
  const photo: DecodedImage = { width, height, data: fixture.values('photo') as Uint8Array };
  const size = fixture.json.crop_size;
  const table = normalisationTable({ mean: fixture.json.mean, std: fixture.json.std });
  const geometryOf = (i: number, interpolation: Interpolation): ResampleGeometry => {
    const crop = fixture.json.crops[i] as AugmentJson['crops'][number];
    return { box: crop, resized: [size, size], window: { top: 0, left: 0, height: size, width: size }, flip: crop.hflip, interpolation };
  };

  describe(`${name}: crop and resize`, () => {
    for (let i = 0; i < fixture.json.crops.length; i++) {
      for (const mode of ['bilinear', 'bicubic'] as const) {
        test(`crop ${i} ${mode} has Pillow's bits`, () => {
          const got = resampleU8(photo, geometryOf(i, mode));
          expect(maxAbsDiff(got, fixture.values(`crop/${i}/${mode}/u8`))).toBe(0);
          // Pillow itself is this far from the unrounded filter.
          const bound = (fixture.json.crop_deviation[`crop${i}/${mode}`] as { pil_vs_exact: number }).pil_vs_exact;
          expect(maxAbsDiff(got, fixture.values(`crop/${i}/${mode}/exact`))).toBeLessThanOrEqual(bound + 1e-3);
        });
      }
    }

    test('normalised crop has the bits of ToTensor + Normalize', () => {
      const out = new Float32Array(3 * size * size);
      resampleInto(photo, geometryOf(0, 'bilinear'), table, out);
      expect(maxAbsDiff(out, fixture.values('crop/0/bilinear/normalised'))).toBe(0);
    });

    test('evaluation transform', () => {
      const t = transform({ size: [fixture.json.eval.size, fixture.json.eval.size], crop: 'center' });
      const geometry = drawGeometry(height, width, t, () => { throw new Error('no draw expected'); });
      expect(Math.min(...geometry.resized)).toBe(fixture.json.eval.resize_shorter_side);
      const u8 = resampleU8(photo, geometry);
      expect(maxAbsDiff(u8, fixture.values('eval/u8'))).toBe(0);
      const out = new Float32Array(u8.length);
      normaliseInto(u8, table, out);
      expect(maxAbsDiff(out, fixture.values('eval/normalised'))).toBe(0);
    });

    test('crop boxes from given uniform numbers', () => {
      for (const c of fixture.json.crop_params) {
        let at = 0;
        const box = randomResizedCrop(c.image_height, c.image_width, c.scale, c.ratio, () => c.uniforms[at++] ?? c.uniforms_after);
        expect(box).toEqual({ top: c.top, left: c.left, height: c.height, width: c.width });
      }
    });
  });
}

describe('resample', () => {
  const image = (h: number, w: number): DecodedImage => {
    const rng = new Rng(7, 1, h * 1000 + w);
    return { width: w, height: h, data: Uint8Array.from({ length: h * w * 3 }, () => rng.below(256)) };
  };
  const whole = (h: number, w: number) => ({ top: 0, left: 0, height: h, width: w });

  test('same size is the identity; flip mirrors; a window is a part of the whole', () => {
    const source = image(9, 7);
    const base = { box: whole(9, 7), resized: [9, 7] as const, window: whole(9, 7), flip: false };
    for (const interpolation of ['bilinear', 'bicubic'] as const) {
      expect(resampleU8(source, { ...base, interpolation })).toEqual(source.data);
      const big = { ...base, resized: [23, 31] as const, window: whole(23, 31), interpolation };
      const full = resampleU8(source, big);
      const mirrored = resampleU8(source, { ...big, flip: true });
      const part = resampleU8(source, { ...big, window: { top: 5, left: 11, height: 4, width: 6 } });
      for (let y = 0; y < 4; y++) for (let x = 0; x < 6; x++) for (let c = 0; c < 3; c++) expect(part[(y * 6 + x) * 3 + c]).toBe(full[((y + 5) * 31 + x + 11) * 3 + c]);
      for (let y = 0; y < 23; y++) for (let x = 0; x < 31; x++) expect(mirrored[(y * 31 + x) * 3]).toBe(full[(y * 31 + 30 - x) * 3]);
    }
  });

  test('one-pixel pictures and one-pixel outputs', () => {
    const dot: DecodedImage = { width: 1, height: 1, data: Uint8Array.of(10, 200, 255) };
    const out = resampleU8(dot, { box: whole(1, 1), resized: [3, 2], window: whole(3, 2), flip: false, interpolation: 'bicubic' });
    expect([...out]).toEqual(Array.from({ length: 6 }, () => [10, 200, 255]).flat());
    expect(resampleU8(image(50, 40), { box: whole(50, 40), resized: [1, 1], window: whole(1, 1), flip: true, interpolation: 'bilinear' }).length).toBe(3);
  });

  test('a rectangle that does not fit is refused by name', () => {
    const base = { box: whole(9, 7), resized: [4, 4] as const, window: whole(4, 4), flip: false, interpolation: 'bilinear' as const };
    expect(() => resampleU8(image(9, 7), { ...base, box: { top: 1, left: 0, height: 9, width: 7 } })).toThrow(/resample: box .*inside the image of 9 x 7/);
    expect(() => resampleU8(image(9, 7), { ...base, window: whole(5, 4) })).toThrow(/resample: window .*inside the resized box of 4 x 4/);
    expect(() => resampleU8({ width: 3, height: 3, data: new Uint8Array(5) }, base)).toThrow(/image has 5 bytes, expected 27/);
  });
});

describe('transform', () => {
  test('rounds halves to even, as Python', () => {
    expect([0.5, 1.5, 2.5, 3.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 4, 2, 3]);
  });

  test('random crops stay inside, respect area and ratio', () => {
    const rng = new Rng(3);
    for (let i = 0; i < 2000; i++) {
      const [h, w] = [1 + rng.below(300), 1 + rng.below(300)];
      const b = randomResizedCrop(h, w, [0.67, 1], [3 / 4, 4 / 3], () => rng.uniform());
      expect(b.top >= 0 && b.left >= 0 && b.height >= 1 && b.width >= 1 && b.top + b.height <= h && b.left + b.width <= w).toBe(true);
    }
  });

  test('a rectangular centre crop always fits', () => {
    for (const [h, w] of [[10, 300], [300, 10], [33, 32], [500, 375]] as const) {
      for (const size of [[64, 160], [160, 64], [32, 32]] as const) {
        const g = drawGeometry(h, w, transform({ size, crop: 'center' }), () => 0);
        expect(g.window.top >= 0 && g.window.left >= 0 && g.window.top + size[0] <= g.resized[0] && g.window.left + size[1] <= g.resized[1]).toBe(true);
      }
    }
  });

  test('bad options are refused by name', () => {
    expect(() => transform({ size: [0, 32] })).toThrow(/transform: size is \[0, 32\]/);
    expect(() => transform({ size: [32, 32], scale: [0.9, 0.5] })).toThrow(/scale is \[0.9, 0.5\]/);
    expect(() => transform({ size: [32, 32], flip: 2 })).toThrow(/flip is 2/);
    expect(() => transform({ size: [32, 32], resizeRatio: 0.5 })).toThrow(/resizeRatio is 0.5/);
  });
});
