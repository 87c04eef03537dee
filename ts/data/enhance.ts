/**
 * Colour operations on 8-bit RGB pictures with Pillow's bits (ImageOps, ImageEnhance), as timm's RandAugment
 * and torchvision's ColorJitter use them. All return a new picture and leave the given one alone.
 */
import type { DecodedImage } from './resample';

const like = (image: DecodedImage, data: Uint8Array): DecodedImage => ({ width: image.width, height: image.height, data });

/** Looks every value up in one table of 256 for all channels, or in three tables behind one another. */
function lookUp(image: DecodedImage, table: Uint8Array): DecodedImage {
  const perChannel = table.length === 768;
  const data = new Uint8Array(image.data.length);
  for (let i = 0; i < data.length; i++) data[i] = table[(perChannel ? (i % 3) * 256 : 0) + (image.data[i] as number)] as number;
  return like(image, data);
}

const tableOf = (f: (level: number) => number): Uint8Array => Uint8Array.from({ length: 256 }, (_, i) => f(i));

/** 255 - value. */
export const invert = (image: DecodedImage): DecodedImage => lookUp(image, tableOf((i) => 255 - i));

/** Values of at least `threshold` (0 to 256) are inverted. */
export const solarize = (image: DecodedImage, threshold: number): DecodedImage => lookUp(image, tableOf((i) => (i < threshold ? i : 255 - i)));

/** `amount` is added to values below 128, up to 255. */
export const solarizeAdd = (image: DecodedImage, amount: number): DecodedImage => lookUp(image, tableOf((i) => (i < 128 ? Math.min(255, i + amount) : i)));

/** Keeps the upper `bits` (0 to 8) of each value. */
export const posterize = (image: DecodedImage, bits: number): DecodedImage => (bits >= 8 ? image : lookUp(image, tableOf((i) => i & ~((1 << (8 - bits)) - 1))));

function histogram(image: DecodedImage, channel: number): Uint32Array {
  const counts = new Uint32Array(256);
  for (let i = channel; i < image.data.length; i += 3) counts[image.data[i] as number] = (counts[image.data[i] as number] as number) + 1;
  return counts;
}

/** Stretches each channel so that its darkest value becomes 0 and its lightest 255. */
export function autoContrast(image: DecodedImage): DecodedImage {
  const table = new Uint8Array(768);
  for (let c = 0; c < 3; c++) {
    const counts = histogram(image, c);
    const low = counts.findIndex((n) => n > 0);
    const high = counts.findLastIndex((n) => n > 0);
    const scale = 255 / (high - low);
    const offset = -low * scale;
    for (let i = 0; i < 256; i++) table[c * 256 + i] = high <= low ? i : Math.max(0, Math.min(255, Math.trunc(i * scale + offset)));
  }
  return lookUp(image, table);
}

/** Makes each channel's histogram flat. */
export function equalize(image: DecodedImage): DecodedImage {
  const table = new Uint8Array(768);
  for (let c = 0; c < 3; c++) {
    const counts = histogram(image, c);
    const used = counts.filter((n) => n > 0);
    const total = image.data.length / 3;
    const step = used.length <= 1 ? 0 : Math.floor((total - (used[used.length - 1] as number)) / 255);
    let n = Math.floor(step / 2);
    for (let i = 0; i < 256; i++) {
      table[c * 256 + i] = step === 0 ? i : Math.min(255, Math.floor(n / step));
      n += counts[i] as number;
    }
  }
  return lookUp(image, table);
}

/** Luma as Pillow's mode L: ITU-R 601 in 16-bit fixed point. */
function luma(image: DecodedImage): Uint8Array {
  const out = new Uint8Array(image.data.length / 3);
  for (let i = 0, at = 0; i < out.length; i++, at += 3) {
    out[i] = ((image.data[at] as number) * 19595 + (image.data[at + 1] as number) * 38470 + (image.data[at + 2] as number) * 7471 + 0x8000) >> 16;
  }
  return out;
}

/** `degenerate + factor * (image - degenerate)` in float32, truncated; factor 0 gives `degenerate`, 1 the picture. */
function blend(image: DecodedImage, factor: number, degenerate: (i: number) => number): DecodedImage {
  const alpha = Math.fround(factor);
  const data = new Uint8Array(image.data.length);
  for (let i = 0; i < data.length; i++) {
    const from = degenerate(i);
    const v = Math.fround(from + Math.fround(alpha * ((image.data[i] as number) - from)));
    data[i] = v <= 0 ? 0 : v >= 255 ? 255 : v;
  }
  return like(image, data);
}

/** Saturation: factor 0 is grey, 1 unchanged. */
export function color(image: DecodedImage, factor: number): DecodedImage {
  const grey = luma(image);
  return blend(image, factor, (i) => grey[Math.floor(i / 3)] as number);
}

/** Factor 0 is flat at the mean luma, 1 unchanged. */
export function contrast(image: DecodedImage, factor: number): DecodedImage {
  const grey = luma(image);
  const mean = Math.trunc(grey.reduce((sum, v) => sum + v, 0) / grey.length + 0.5);
  return blend(image, factor, () => mean);
}

/** Factor 0 is black, 1 unchanged. */
export const brightness = (image: DecodedImage, factor: number): DecodedImage => blend(image, factor, () => 0);

/** Factor 0 is smoothed by a 3 x 3 filter (borders stay), 1 unchanged. */
export function sharpness(image: DecodedImage, factor: number): DecodedImage {
  const { width, height, data } = image;
  const smooth = new Uint8Array(data);
  const stride = width * 3;
  for (let y = 1; y < height - 1; y++) {
    for (let i = y * stride + 3; i < (y + 1) * stride - 3; i++) {
      let sum = 4 * (data[i] as number);
      for (let row = i - stride; row <= i + stride; row += stride) sum += (data[row - 3] as number) + (data[row] as number) + (data[row + 3] as number);
      smooth[i] = Math.floor((2 * sum + 13) / 26);
    }
  }
  return blend(image, factor, (i) => smooth[i] as number);
}
