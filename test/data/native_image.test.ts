import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { afterEach, describe, expect, test } from 'vitest';
import { maxAbsDiff, sharedDir } from '../helpers/golden';
import { decodeImage } from '../../ts/data/decode';
import { readJpegHeader } from '../../ts/data/jpeg_header';
import { NativeImages } from '../../ts/data/native_image';
import { normalisationTable, resampleInto, type Box, type DecodedImage, type ResampleGeometry } from '../../ts/data/resample';
import { IMAGENET } from '../../ts/image_statistics';
import { kernels, loadAddon, mailbox } from '../../ts/native';
import { Rng } from '../../ts/rng';

const table = normalisationTable(IMAGENET);
const levels = loadAddon().info().isaLevels;
const best = levels[levels.length - 1] as (typeof levels)[number];
afterEach(() => loadAddon().setIsa(best));

/** Smooth, so that JPEG and resizing behave as on photographs, with noise and edges. */
function picture(seed: number, height: number, width: number): DecodedImage {
  const rng = new Rng(seed);
  const data = new Uint8Array(height * width * 3);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < 3; c++) {
    data[(y * width + x) * 3 + c] = Math.max(0, Math.min(255, 128 + 100 * Math.sin((x * (c + 1)) / 9) * Math.cos(y / (5 + c)) + ((x >> 4) & 1 ? 40 : 0) + rng.below(30)));
  }
  return { width, height, data };
}

/** The crop of a native decode as RGB, or null where the decoder declines. */
function crop(native: NativeImages, bytes: Uint8Array, box: Box): Uint8Array | null {
  const header = readJpegHeader(bytes);
  const pixels = header && native.decodeJpeg(bytes, header, box);
  if (!pixels) return null;
  const rgbx = new Uint8Array(box.height * box.width * 4);
  loadAddon().readInto(pixels.tensor.storage.handle, rgbx);
  native.release(pixels);
  const rgb = new Uint8Array(box.height * box.width * 3);
  for (let i = 0; i < box.height * box.width; i++) rgb.set(rgbx.subarray(i * 4, i * 4 + 3), i * 3);
  return rgb;
}

function cut(image: DecodedImage, box: Box): Uint8Array {
  const out = new Uint8Array(box.height * box.width * 3);
  for (let y = 0; y < box.height; y++) out.set(image.data.subarray(((box.top + y) * image.width + box.left) * 3, ((box.top + y) * image.width + box.left + box.width) * 3), y * box.width * 3);
  return out;
}

function randomBox(rng: Rng, height: number, width: number): Box {
  const h = 1 + rng.below(height);
  const w = 1 + rng.below(width);
  return { top: rng.below(height - h + 1), left: rng.below(width - w + 1), height: h, width: w };
}

describe('resample kernel', () => {
  test('has the bits of the definition at every level, for many geometries', () => {
    const rng = new Rng(11);
    for (let i = 0; i < 60; i++) {
      const [height, width] = [1 + rng.below(90), 1 + rng.below(90)];
      const source = picture(i, height, width);
      const resized: [number, number] = [1 + rng.below(i % 3 === 0 ? 200 : 40), 1 + rng.below(40)];
      const geometry: ResampleGeometry = { box: randomBox(rng, height, width), resized, window: randomBox(rng, resized[0], resized[1]), flip: rng.below(2) === 1, interpolation: i % 2 ? 'bicubic' : 'bilinear' };
      const size = 3 * geometry.window.height * geometry.window.width;
      const expected = new Float32Array(size);
      resampleInto(source, geometry, table, expected);
      for (const level of levels) {
        loadAddon().setIsa(level);
        const native = new NativeImages(table);
        const pixels = native.upload(source);
        const got = new Float32Array(new SharedArrayBuffer(size * 4));
        native.resample(pixels, geometry, got);
        native.release(pixels);
        native.dispose();
        expect(maxAbsDiff(got, expected), `case ${i} at ${level}: ${JSON.stringify(geometry)}`).toBe(0);
      }
    }
  });

  test('refuses what does not fit, by name, and leaks nothing', () => {
    const before = loadAddon().stats().handles;
    const native = new NativeImages(table);
    const pixels = native.upload(picture(1, 8, 8));
    const y = { storage: { handle: 0, dtype: 'f32' as const }, shape: [3, 4, 4] };
    const args = { pixels: pixels.tensor, table: { storage: pixels.tensor.storage, shape: [3, 256] }, y, top: 0, left: 0, boxHeight: 8, boxWidth: 8, resizedHeight: 4, resizedWidth: 4, windowTop: 0, windowLeft: 0, flip: false, bicubic: false };
    expect(() => kernels.resample(args)).toThrow(/resample: table/);
    const real = { ...args, table: { storage: { handle: mailbox().addon.upload(0, table, 768), dtype: 'f32' as const }, shape: [3, 256] } };
    expect(() => kernels.resample({ ...real, top: 1 })).toThrow(/resample: box \(top 1, left 0, 8 x 8\) must be .* inside the pixels of 8 x 8/);
    expect(() => kernels.resample({ ...real, windowLeft: 1 })).toThrow(/resample: window/);
    mailbox().addon.release(real.table.storage.handle);
    native.release(pixels);
    native.dispose();
    expect(loadAddon().stats().handles).toBe(before);
  });
});

describe('jpeg_decode kernel', () => {
  test('has the bits of libjpeg-turbo on real photographs', async () => {
    const root = join(sharedDir(), 'data');
    const folders = ['photos-cc0', 'flowers5/val/roses', 'flowers5/val/daisy', 'caltech10/test/leopards', 'caltech10/test/watch', 'caltech10/test/bonsai'];
    const native = new NativeImages(table);
    const rng = new Rng(5);
    let direct = 0;
    let all = 0;
    for (const folder of folders) {
      for (const file of readdirSync(join(root, folder)).filter((f) => /\.jpe?g$/i.test(f))) {
        const bytes = readFileSync(join(root, folder, file));
        const reference = await decodeImage(bytes, file);
        all++;
        for (const box of [{ top: 0, left: 0, height: reference.height, width: reference.width }, randomBox(rng, reference.height, reference.width)]) {
          const got = crop(native, bytes, box);
          if (!got) continue;
          direct++;
          expect(maxAbsDiff(got, cut(reference, box)), `${file} ${JSON.stringify(box)}`).toBe(0);
        }
      }
    }
    native.dispose();
    expect(direct).toBeGreaterThan(1.9 * all); // nearly every photograph takes the direct way
  });

  test('samplings, qualities, odd sizes and crops, at every level', async () => {
    const rng = new Rng(3);
    for (let i = 0; i < 40; i++) {
      const [height, width] = [1 + rng.below(70), 5 + rng.below(70)];
      const source = picture(i, height, width);
      const made = sharp(source.data, { raw: { width, height, channels: 3 } });
      if (i % 5 === 4) made.greyscale();
      const bytes = await made.jpeg({ quality: [10, 50, 75, 95, 100][i % 5] as number, chromaSubsampling: i % 2 ? '4:2:0' : '4:4:4', optimiseCoding: i % 3 === 0 }).toBuffer();
      const reference = await decodeImage(bytes, 'x');
      const box = i % 4 === 0 ? { top: 0, left: 0, height, width } : randomBox(rng, height, width);
      for (const level of levels) {
        loadAddon().setIsa(level);
        const native = new NativeImages(table);
        const got = crop(native, bytes, box);
        native.dispose();
        expect(got, `case ${i}`).not.toBeNull();
        expect(maxAbsDiff(got as Uint8Array, cut(reference, box)), `case ${i} at ${level} ${JSON.stringify(box)} of ${height} x ${width}`).toBe(0);
      }
    }
  });

  // Two 45 x 37 JPEGs written by Pillow: 4:2:2, and 4:2:0 with a restart marker after every second unit.
  test.each([
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAlAC0DASEAAhEBAxEB/8QAGAAAAwEBAAAAAAAAAAAAAAAAAgMEBQH/xAAoEAACAgEDAwMEAwAAAAAAAAABAgMRAAQSIQUxURMiQTJhcYGRwdH/xAAYAQEBAQEBAAAAAAAAAAAAAAABAgADBP/EABsRAQEBAAMBAQAAAAAAAAAAAAABEQIhQTFR/9oADAMBAAIRAxEAPwACNgJAFjzgLHZsDPPXoA4Zn7cHih2ODHuWUiiPPzgTNQSgXbxZvO6jStMkbJwa5x0FJqjKaMFj4N85UhG3dIrLx4wpwhuoRyCooZHVTwaoYpeoaZpfeCj9rP8AeKdUzpvlirle/GWbhQC/HnJ9X4leHaooAMvbGxOJIjH2O2hm9Znwn09Go22yAgr98y9GG1EluCTVX98vjeq4361OlSH1ZYCbCH2/jLpQwYVx+8HSD1K2L8d8i2lCCpPHIIwpg6Lkuu1JW+oH6W/w5O8OrQFYtIqX3cPf8Ydb2LPwjpu+HqI9T5G2hm5KAW/WXyutJjMfWSN4GciZtgN8X2rI1eHXxZ5rjDLsFIDGu1ZqEEw2SqV4IPBzQSVigvnJtU//2Q==',
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAlAC0DASIAAhEBAxEB/8QAGQAAAgMBAAAAAAAAAAAAAAAAAAQCAwUB/8QAKBAAAQQBAwMEAgMAAAAAAAAAAQACAxEhBBIxBUFREyIyYXGBkcHR/8QAGAEBAQEBAQAAAAAAAAAAAAAABAEAAgP/xAAZEQEBAQEBAQAAAAAAAAAAAAAAAREhAjH/3QAEAAL/2gAMAwEAAhEDEQA/AIEbASALHlQbHZsBVM1RlNGCx2N5TTCNu6Rrm48I1JLvDnP4wcUOCox7mykUR57qbuoRyCooZHtacGqCqb1DTOl94LH8Wf7VxNf/0KNQSwN24s2u6jSumZG5mDWVKdm+WKst5wnNwoBvbyjb0nCr4drRQAc3hWxPEkRj4O2gu6lti/HKS2lhBaTjIIWv1n//0UoT6ejaNtuYCC37WXow7USW8Emqv7W3ReS9u1krvkD8Xf4Uu+HVsBbFpGsvl4ff8I0ubHtfPXelSH1ZYCbDD7fwnpQ4OFY/ayem74eoj1O420FuSgF36VrqP//STfrJHeAuROdsBvF8UhCKWuvFnNYUy9waQHGuKQhao//TzJhslaW4IOCtBkriwXlCEOmP/9k=',
  ])('other samplings and restart markers', async (text) => {
    const bytes = Buffer.from(text, 'base64');
    const reference = await decodeImage(bytes, 'x');
    const native = new NativeImages(table);
    for (const box of [{ top: 0, left: 0, height: 37, width: 45 }, { top: 11, left: 7, height: 20, width: 31 }, { top: 36, left: 44, height: 1, width: 1 }]) {
      expect(maxAbsDiff(crop(native, bytes, box) ?? [], cut(reference, box))).toBe(0);
    }
    native.dispose();
  });

  test('declines what it cannot do, and never reads outside of damaged files', async () => {
    const source = picture(1, 40, 60);
    const whole = { top: 0, left: 0, height: 40, width: 60 };
    const native = new NativeImages(table);
    const make = (): Sharp => sharp(source.data, { raw: { width: 60, height: 40, channels: 3 } });
    const good = await make().jpeg({ quality: 90 }).toBuffer();
    expect(crop(native, good, whole)).not.toBeNull();
    for (const other of [await make().jpeg({ progressive: true }).toBuffer(), await make().png().toBuffer(), await make().toColourspace('cmyk').jpeg().toBuffer(), await make().jpeg().withMetadata({ orientation: 6 }).toBuffer(), good.subarray(0, good.length - 40), Buffer.alloc(0)]) {
      expect(crop(native, other, whole)).toBeNull();
    }
    const rng = new Rng(17);
    let declined = 0;
    for (let i = 0; i < 600; i++) {
      const damaged = Buffer.from(good);
      for (let n = 1 + rng.below(4); n > 0; n--) damaged[2 + rng.below(damaged.length - 4)] = rng.below(256);
      const header = readJpegHeader(damaged);
      const inside = header && header.height >= 40 && header.width >= 60 ? whole : { top: 0, left: 0, height: 1, width: 1 };
      if (crop(native, damaged, inside) === null) declined++;
    }
    native.dispose();
    expect(declined).toBeGreaterThan(50);
  });
});
