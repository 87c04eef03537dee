import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { describe, expect, test } from 'vitest';
import { goldenDir, maxAbsDiff, readFixture, sharedDir } from '../helpers/golden';
import { decodeImage } from '../../ts/data/decode';

const WIDTH = 40;
const HEIGHT = 30;
const pixels = Uint8Array.from({ length: WIDTH * HEIGHT * 3 }, (_, i) => (i * 7 + (i >> 5) * 13) & 255);
const picture = (): Sharp => sharp(pixels, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } });
const grey16 = (): Sharp => sharp(Uint16Array.from({ length: WIDTH * HEIGHT }, (_, i) => (i * 50) & 65535), { raw: { width: WIDTH, height: HEIGHT, channels: 1 } }).toColourspace('grey16');

describe('decode', () => {
  test('the golden photograph, as Pillow reads it', async () => {
    const image = await decodeImage(readFileSync(join(goldenDir(), 'augment_photo.png')), 'photo');
    expect(maxAbsDiff(image.data, readFixture('augment').values('photo'))).toBe(0);
  });

  test('lossless formats give the very pixels', async () => {
    for (const made of [picture().png(), picture().webp({ lossless: true }), picture().avif({ lossless: true, chromaSubsampling: '4:4:4' }), picture().tiff({ compression: 'lzw' }), picture().ensureAlpha(0).png()]) {
      const image = await decodeImage(await made.toBuffer(), 'x');
      expect([image.width, image.height]).toEqual([WIDTH, HEIGHT]);
      expect(maxAbsDiff(image.data, pixels)).toBe(0);
    }
  });

  test('grey, 16 bits, palettes, CMYK and animations become 8-bit RGB', async () => {
    const grey = await decodeImage(await picture().greyscale().png().toBuffer(), 'grey');
    for (let i = 0; i < WIDTH * HEIGHT; i++) expect(new Set(grey.data.subarray(i * 3, i * 3 + 3)).size).toBe(1);
    const deep = await decodeImage(await grey16().png().toBuffer(), 'grey16');
    for (let i = 0; i < WIDTH * HEIGHT; i++) expect(deep.data[i * 3]).toBe(((i * 50) & 65535) >> 8);
    const others = [picture().png({ palette: true, colours: 16 }), picture().gif(), picture().toColourspace('cmyk').jpeg(), picture().jpeg({ progressive: true }), picture().toColourspace('rgb16').png(), picture().greyscale().jpeg(), grey16().tiff()];
    for (const made of others) expect((await decodeImage(await made.toBuffer(), 'x')).data.length).toBe(pixels.length);
    const first = await decodeImage(await picture().gif().toBuffer(), 'first');
    const animation = await sharp([await picture().png().toBuffer(), await picture().negate().png().toBuffer()], { join: { animated: true } }).gif().toBuffer();
    expect((await sharp(animation).metadata()).pages).toBe(2);
    const still = await decodeImage(animation, 'animation');
    expect([still.width, still.height]).toEqual([first.width, first.height]);
    expect(maxAbsDiff(still.data, first.data)).toBeLessThanOrEqual(8); // the palette is shared by two frames
  });

  test('EXIF orientation is applied', async () => {
    const upright = await decodeImage(await picture().jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).toBuffer(), 'x');
    const at = (x: number, y: number): number => upright.data[(y * WIDTH + x) * 3] as number;
    const turned = async (orientation: number) => decodeImage(await picture().jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).withMetadata({ orientation }).toBuffer(), 'x');
    const half = await turned(3);
    expect(half.data[0]).toBe(at(WIDTH - 1, HEIGHT - 1));
    const clockwise = await turned(6);
    expect([clockwise.width, clockwise.height]).toEqual([HEIGHT, WIDTH]);
    expect(clockwise.data[0]).toBe(at(0, HEIGHT - 1));
  });

  test('what is no picture is refused by name', async () => {
    const jpeg = await picture().jpeg().toBuffer();
    const png = await picture().png().toBuffer();
    await expect(decodeImage(new Uint8Array(0), 'a.jpg')).rejects.toThrow("decode: 'a.jpg' is empty (0 bytes)");
    for (const bytes of [jpeg.subarray(0, jpeg.length >> 1), png.subarray(0, png.length >> 1), Buffer.from('<html>'), jpeg.subarray(0, 3)]) {
      await expect(decodeImage(bytes, 'a.jpg')).rejects.toThrow(/decode: 'a.jpg' is not a readable image: /);
    }
  });

  test('real photographs of all kinds decode', async () => {
    const dir = join(sharedDir(), 'data/photos-cc0');
    for (const file of readdirSync(dir).filter((f) => f.endsWith('.jpg'))) {
      const image = await decodeImage(readFileSync(join(dir, file)), file);
      expect(image.data.length).toBe(image.width * image.height * 3);
    }
  });
});
