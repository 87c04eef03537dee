import * as tf from '@tensorflow/tfjs-core';
import sharp from 'sharp';
import type { Batch, Normalisation } from '../data';
import type { Context } from '../nn/context';
import type { BuiltModel } from '../train/model_build';
import { writeWhole } from '../formats/whole_file';

/** One picture as interleaved RGB bytes, H * W * 3. */
type Rgb = Uint8Array;

/** What is shown of one image. */
export interface PictureRow {
  name: string;
  /** Original, masked (hidden parts grey), reconstruction, reconstruction with the visible pixels pasted. */
  pictures: [Rgb, Rgb, Rgb, Rgb];
}

export const COLUMNS = ['original', 'masked', 'reconstruction', 'with visible pixels'] as const;

/** Colour of hidden pixels. */
const GREY = 128;
const GAP = 4;
/** Small pictures are enlarged by whole factors to about this size. */
const SHOWN_SIZE = 160;

/** Reconstructs a batch under the masks of `clock` (seed, step, micro, 0). */
export function pictureRows(built: BuiltModel, batch: Batch, size: readonly [number, number], clock: readonly [number, number, number]): PictureRow[] {
  const [height, width] = size;
  const count = batch.files.length;
  const patch = built.model.encoder.patchSize;
  let predicted = new Float32Array(0); // not returned: tf.tidy would search typed arrays for tensors, element by element
  let mask = new Float32Array(0);
  tf.tidy(() => {
    const time = tf.tensor1d(Int32Array.of(...clock, 0), 'int32');
    const ctx: Context = { training: false, precision: 'f32', clock: time };
    const images = tf.tensor(batch.images, [count, 3, height, width], 'float32');
    const hidden = built.masks(time, count);
    predicted = new Float32Array(atFullSize(built.model.reconstruct(images, hidden, ctx), size).dataSync());
    mask = new Float32Array(hidden.dataSync());
  });
  const columns = width / patch;
  const hiddenAt = (b: number, i: number): boolean => mask[b * (height / patch) * columns + Math.floor(Math.floor(i / width) / patch) * columns + Math.floor((i % width) / patch)] === 1;
  return batch.files.map((name, b) => {
    const part = (values: Float32Array): Rgb => toRgb(values.subarray(b * 3 * height * width, (b + 1) * 3 * height * width), built.statistics);
    const [original, reconstruction] = [part(batch.images), part(predicted)];
    const where = Array.from({ length: height * width }, (_, i) => hiddenAt(b, i));
    return { name, pictures: [original, original.map((v, i) => (where[Math.floor(i / 3)] ? GREY : v)), reconstruction, original.map((v, i) => (where[Math.floor(i / 3)] ? (reconstruction[i] as number) : v))] };
  });
}

/** A picture [B, C, R, S] of lower resolution with its pixels repeated to [B, C, H, W]. */
function atFullSize(picture: tf.Tensor, [height, width]: readonly [number, number]): tf.Tensor {
  const [batch = 0, channels = 0, rows = 0, columns = 0] = picture.shape;
  if (rows === height && columns === width) return picture;
  const spread = tf.mul(tf.reshape(picture, [batch, channels, rows, 1, columns, 1]), tf.ones([1, 1, 1, height / rows, 1, width / columns]));
  return tf.reshape(spread, [batch, channels, height, width]);
}

/** Planar normalised values to interleaved bytes. */
function toRgb(planar: Float32Array, { mean, std }: Normalisation): Rgb {
  const pixels = planar.length / 3;
  const out = new Uint8Array(planar.length);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < pixels; i++) {
      const value = ((planar[c * pixels + i] as number) * (std[c] as number) + (mean[c] as number)) * 255;
      out[i * 3 + c] = Math.max(0, Math.min(255, Math.round(value)));
    }
  }
  return out;
}

const enlargement = ([height, width]: readonly [number, number]): number => Math.max(1, Math.round(SHOWN_SIZE / Math.max(height, width)));

function png(rgb: Rgb, [height, width]: readonly [number, number], scale: number): Promise<Buffer> {
  return sharp(rgb, { raw: { width, height, channels: 3 } }).resize(width * scale, height * scale, { kernel: 'nearest' }).png().toBuffer();
}

/** Writes all rows into one PNG: original, masked, reconstruction, reconstruction with visible pixels pasted. */
export async function writeGrid(file: string, rows: readonly PictureRow[], size: readonly [number, number]): Promise<void> {
  const scale = enlargement(size);
  const [h, w] = [size[0] * scale + GAP, size[1] * scale + GAP];
  const tiles = await Promise.all(rows.flatMap((row, y) => row.pictures.map(async (rgb, x) => ({ input: await png(rgb, size, scale), top: GAP + y * h, left: GAP + x * w }))));
  const canvas = sharp({ create: { width: GAP + COLUMNS.length * w, height: GAP + rows.length * h, channels: 3, background: '#ffffff' } });
  writeWhole(file, 'visualize', await canvas.composite(tiles).png().toBuffer());
}

const escape = (text: string): string => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** Writes one HTML file with everything in it. `facts` are shown above the pictures. */
export async function writePage(file: string, rows: readonly PictureRow[], size: readonly [number, number], title: string, facts: Record<string, string>): Promise<void> {
  const scale = enlargement(size);
  const cells = await Promise.all(rows.map(async (row) => {
    const images = await Promise.all(row.pictures.map(async (rgb) => `<td><img src="data:image/png;base64,${(await png(rgb, size, scale)).toString('base64')}" alt=""></td>`));
    return `<tr><th>${escape(row.name)}</th>${images.join('')}</tr>`;
  }));
  const style = 'body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#222}th{font-weight:500;text-align:left;padding:0 1rem}img{display:block}dt{float:left;clear:left;width:16rem;color:#666}dd{margin-left:16rem}';
  writeWhole(file, 'visualize', `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${escape(title)}</title><style>${style}</style>
<h1>${escape(title)}</h1>
<dl>${Object.entries(facts).map(([key, value]) => `<dt>${escape(key)}</dt><dd>${escape(value)}</dd>`).join('')}</dl>
<table><tr><th></th>${COLUMNS.map((c) => `<th>${c}</th>`).join('')}</tr>
${cells.join('\n')}
</table></html>
`);
}
