/** Affine transforms of 8-bit RGB pictures with the bits of Pillow's Image.transform(AFFINE, BICUBIC). */
import type { DecodedImage } from './resample';

/** Output pixel (x, y) shows the input at (a x + b y + c, d x + e y + f), all measured from pixel centres. */
export type AffineMatrix = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

const clip = (v: number, n: number): number => (v < 0 ? 0 : v < n ? v : n - 1);

/** Pillow's cubic through four samples (a = -1), at fraction t between the middle two. */
function cubic(v1: number, v2: number, v3: number, v4: number, t: number): number {
  return v2 + t * (v3 - v1 + t * (2 * (v1 - v2) + v3 - v4 + t * (v2 - v1 - v3 + v4)));
}

/** One channel at (left + 1 + dx, top + 1 + dy), from 4 x 4 samples starting at (left, top). */
function sample({ data, width, height }: DecodedImage, left: number, top: number, dx: number, dy: number, channel: number): number {
  const line = (y: number): number => {
    const row = y * width;
    const at = (x: number): number => data[(row + clip(x, width)) * 3 + channel] as number;
    return cubic(at(left), at(left + 1), at(left + 2), at(left + 3), dx);
  };
  // Pillow clips the first row; a later row outside of the picture repeats the one before.
  const first = line(clip(top, height));
  const second = top + 1 >= 0 && top + 1 < height ? line(top + 1) : first;
  const third = top + 2 >= 0 && top + 2 < height ? line(top + 2) : second;
  const fourth = top + 3 >= 0 && top + 3 < height ? line(top + 3) : third;
  return cubic(first, second, third, fourth, dy);
}

/** The transformed picture, of the same size; what comes from outside is `fill`. Bicubic, values truncated to 8 bits. */
export function affine(image: DecodedImage, [a, b, c, d, e, f]: AffineMatrix, fill: readonly [number, number, number]): DecodedImage {
  const { width, height } = image;
  const data = new Uint8Array(image.data.length);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 3) {
      const sx = a * (x + 0.5) + b * (y + 0.5) + c;
      const sy = d * (x + 0.5) + e * (y + 0.5) + f;
      if (sx < 0 || sx >= width || sy < 0 || sy >= height) {
        data.set(fill, at);
        continue;
      }
      const left = Math.floor(sx - 0.5);
      const top = Math.floor(sy - 0.5);
      for (let channel = 0; channel < 3; channel++) {
        const v = sample(image, left - 1, top - 1, sx - 0.5 - left, sy - 0.5 - top, channel);
        data[at + channel] = v <= 0 ? 0 : v >= 255 ? 255 : v;
      }
    }
  }
  return { width, height, data };
}

/** Matrix of Pillow's Image.rotate: `degrees` counter-clockwise round the centre. */
export function rotation(width: number, height: number, degrees: number): AffineMatrix {
  const radians = (-(((degrees % 360) + 360) % 360) * Math.PI) / 180;
  const round15 = (v: number): number => Number(v.toFixed(15));
  const cos = round15(Math.cos(radians));
  const sin = round15(Math.sin(radians));
  const [cx, cy] = [width / 2, height / 2];
  return [cos, sin, cos * -cx + sin * -cy + cx, -sin, cos, -sin * -cx + cos * -cy + cy];
}
