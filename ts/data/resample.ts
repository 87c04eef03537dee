/**
 * Antialiased resizing of 8-bit images exactly as Pillow's `Image.resize` does it (src/libImaging/Resample.c):
 * a horizontal pass rounded to 8 bits, then a vertical pass, with 22-bit fixed-point weights. Fused with
 * crop, flip and normalisation. This file is the definition; the native `resample` kernel gives the same bits.
 */
import { SimmimError } from '../errors';

/** Interpolation filters: triangle of support 1, or Keys' cubic with a = -0.5 and support 2. */
export type Interpolation = 'bilinear' | 'bicubic';

/** A decoded picture: [height, width, 3] RGB, 8 bits, row-major. */
export interface DecodedImage {
  width: number;
  height: number;
  data: Uint8Array;
}

/** A rectangle in pixels. */
export interface Box {
  top: number;
  left: number;
  height: number;
  width: number;
}

/**
 * Which pixels to make: `box` of the source is resized to `resized` = [height, width] (nothing outside the
 * box is read, as if it had been cut out first); of the result only `window` is computed; then it is
 * mirrored left to right when `flip`.
 */
export interface ResampleGeometry {
  box: Box;
  resized: readonly [number, number];
  window: Box;
  flip: boolean;
  interpolation: Interpolation;
}

/** Mean and standard deviation of each channel, for values in [0, 1]. */
export interface Normalisation {
  mean: readonly [number, number, number];
  std: readonly [number, number, number];
}

const PRECISION_BITS = 22; // 32 bits, minus 8 of the pixel, minus 2 for overshooting sums

function weightAt(interpolation: Interpolation, distance: number): number {
  const x = Math.abs(distance);
  if (interpolation === 'bilinear') return x < 1 ? 1 - x : 0;
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** Fixed-point filter of one axis: output i reads `count[i]` pixels from `first[i]` on, weights at i * taps. */
interface AxisFilter {
  taps: number;
  first: Int32Array;
  count: Int32Array;
  weights: Int32Array;
}

/** Filter of outputs [from, from + length) when `inSize` pixels become `outSize`. */
function axisFilter(inSize: number, outSize: number, from: number, length: number, interpolation: Interpolation): AxisFilter {
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1); // widening the filter when shrinking is the antialiasing
  const support = (interpolation === 'bilinear' ? 1 : 2) * filterScale;
  const taps = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(length);
  const count = new Int32Array(length);
  const weights = new Int32Array(length * taps);
  const exact = new Float64Array(taps);
  for (let i = 0; i < length; i++) {
    const center = (from + i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(center - support + 0.5));
    const n = Math.min(inSize, Math.trunc(center + support + 0.5)) - low;
    let total = 0;
    for (let x = 0; x < n; x++) {
      const w = weightAt(interpolation, (x + low - center + 0.5) * (1 / filterScale));
      exact[x] = w;
      total += w;
    }
    first[i] = low;
    count[i] = n;
    for (let x = 0; x < n; x++) {
      const w = total === 0 ? 0 : (exact[x] as number) / total;
      weights[i * taps + x] = Math.trunc((w < 0 ? -0.5 : 0.5) + w * (1 << PRECISION_BITS));
    }
  }
  return { taps, first, count, weights };
}

function checkBox(name: string, box: Box, height: number, width: number, outer: string): void {
  const ok =
    [box.top, box.left, box.height, box.width].every(Number.isInteger) &&
    box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 &&
    box.top + box.height <= height && box.left + box.width <= width;
  if (!ok) {
    const got = `top ${box.top}, left ${box.left}, ${box.height} x ${box.width}`;
    throw new SimmimError('invalid_argument', 'resample', `${name} (${got}) must be a non-empty rectangle inside the ${outer} of ${height} x ${width} (height x width)`);
  }
}

function checkGeometry(image: DecodedImage, geometry: ResampleGeometry): void {
  const bytes = image.width * image.height * 3;
  if (image.data.length !== bytes) {
    throw new SimmimError('invalid_argument', 'resample', `image has ${image.data.length} bytes, expected ${bytes} = ${image.height} * ${image.width} * 3`);
  }
  checkBox('box', geometry.box, image.height, image.width, 'image');
  checkBox('window', geometry.window, geometry.resized[0], geometry.resized[1], 'resized box');
}

/** Horizontal pass over the source rows [rowFrom, rowTo) of the box: [rows, window.width, 3]. */
function horizontalPass(image: DecodedImage, geometry: ResampleGeometry, rowFrom: number, rowTo: number): Uint8ClampedArray {
  const { box, window, interpolation } = geometry;
  const filter = axisFilter(box.width, geometry.resized[1], window.left, window.width, interpolation);
  const out = new Uint8ClampedArray((rowTo - rowFrom) * window.width * 3);
  const half = 1 << (PRECISION_BITS - 1);
  let at = 0;
  for (let y = rowFrom; y < rowTo; y++) {
    const row = ((box.top + y) * image.width + box.left) * 3;
    for (let x = 0; x < window.width; x++) {
      let r = half;
      let g = half;
      let b = half;
      const n = filter.count[x] as number;
      let source = row + (filter.first[x] as number) * 3;
      for (let k = 0, w = x * filter.taps; k < n; k++, w++, source += 3) {
        const weight = filter.weights[w] as number;
        r += weight * (image.data[source] as number);
        g += weight * (image.data[source + 1] as number);
        b += weight * (image.data[source + 2] as number);
      }
      out[at++] = r >> PRECISION_BITS;
      out[at++] = g >> PRECISION_BITS;
      out[at++] = b >> PRECISION_BITS;
    }
  }
  return out;
}

/**
 * Crops, resizes and flips: [window.height, window.width, 3], 8 bits, the bits that Pillow gives for
 * `image.crop(box).resize(resized).crop(window)`. Throws invalid_argument when a rectangle does not fit.
 */
export function resampleU8(image: DecodedImage, geometry: ResampleGeometry): Uint8Array {
  checkGeometry(image, geometry);
  const { box, window, interpolation, flip } = geometry;
  const filter = axisFilter(box.height, geometry.resized[0], window.top, window.height, interpolation);
  const last = window.height - 1;
  const rowFrom = filter.first[0] as number;
  const rowTo = (filter.first[last] as number) + (filter.count[last] as number);
  const rows = horizontalPass(image, geometry, rowFrom, rowTo);
  const out = new Uint8ClampedArray(window.height * window.width * 3);
  const half = 1 << (PRECISION_BITS - 1);
  const stride = window.width * 3;
  for (let y = 0; y < window.height; y++) {
    const n = filter.count[y] as number;
    const source = ((filter.first[y] as number) - rowFrom) * stride;
    for (let x = 0; x < window.width; x++) {
      const target = (y * window.width + (flip ? window.width - 1 - x : x)) * 3;
      for (let c = 0; c < 3; c++) {
        let sum = half;
        for (let k = 0, at = source + x * 3 + c; k < n; k++, at += stride) sum += (filter.weights[y * filter.taps + k] as number) * (rows[at] as number);
        out[target + c] = sum >> PRECISION_BITS;
      }
    }
  }
  return new Uint8Array(out.buffer);
}

/** float32 of `(u8 / 255 - mean) / std`, [3 * 256], each operation rounded to float32 as ToTensor and Normalize do. */
export function normalisationTable({ mean, std }: Normalisation): Float32Array {
  const table = new Float32Array(3 * 256);
  for (let c = 0; c < 3; c++) {
    const m = Math.fround(mean[c] as number);
    const s = Math.fround(std[c] as number);
    for (let v = 0; v < 256; v++) table[c * 256 + v] = Math.fround(Math.fround(Math.fround(v / 255) - m) / s);
  }
  return table;
}

/** Writes a [H, W, 3] 8-bit image as planar normalised floats [3, H, W] into `out`. */
export function normaliseInto(pixels: Uint8Array, table: Float32Array, out: Float32Array): void {
  const plane = pixels.length / 3;
  if (out.length !== pixels.length || table.length !== 768) {
    throw new SimmimError('invalid_argument', 'normalise', `out has ${out.length} values, expected ${pixels.length} = 3 * H * W (and a table of 768, got ${table.length})`);
  }
  for (let i = 0, at = 0; i < plane; i++, at += 3) {
    out[i] = table[pixels[at] as number] as number;
    out[plane + i] = table[256 + (pixels[at + 1] as number)] as number;
    out[2 * plane + i] = table[512 + (pixels[at + 2] as number)] as number;
  }
}

/** Crop, resize, flip and normalise in one go into `out`, planar [3, window.height, window.width]. */
export function resampleInto(image: DecodedImage, geometry: ResampleGeometry, table: Float32Array, out: Float32Array): void {
  normaliseInto(resampleU8(image, geometry), table, out);
}

/** Moves a planar image [3, H, W] in place by [down, right] pixels; what comes in is black, `table`'s value of 0. */
export function shiftInto(out: Float32Array, [height, width]: readonly [number, number], [down, right]: readonly [number, number], table: Float32Array): void {
  const plane = height * width;
  const source = out.slice();
  for (let c = 0; c < 3; c++) {
    const black = table[c * 256] as number;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const [fromY, fromX] = [y - down, x - right];
        const inside = fromY >= 0 && fromY < height && fromX >= 0 && fromX < width;
        out[c * plane + y * width + x] = inside ? (source[c * plane + fromY * width + fromX] as number) : black;
      }
    }
  }
}
