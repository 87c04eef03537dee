import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { VisionTransformer, type Encoder } from '../models';
import { unknownName } from '../models/options';
import type { Context } from '../nn/context';

/** One place in an encoder whose output is probed. */
export interface Layer {
  /** The name under which the encoder shows it: `tokens`, `blocks.3`, `layers.1.blocks.0`, `norm`. */
  name: string;
  /** For people: `embedding`, `block 4` (counted from 1 through all stages), `norm`. */
  label: string;
  channels: number;
}

/** How the tokens of a layer become one vector: their mean (a ViT's without the class token), or a ViT's class token. */
export type Pooling = 'mean' | 'cls';

const OP = 'layers';

/** Every layer of an encoder, from the embedding to the final norm. */
export function layersOf(encoder: Encoder): Layer[] {
  const found: Layer[] = [];
  let block = 0;
  const add = (name: string, channels: number): void => void found.push({ name, label: `block ${++block}`, channels });
  if (encoder instanceof VisionTransformer) {
    found.push({ name: 'tokens', label: 'embedding', channels: encoder.channels });
    encoder.blocks.forEach((_, i) => add(`blocks.${i}`, encoder.channels));
    if (encoder.norm) found.push({ name: 'norm', label: 'norm', channels: encoder.channels });
    return found;
  }
  const { layers } = encoder as Encoder & { layers: readonly { blocks: readonly unknown[] }[] };
  const channels = (stage: number): number => encoder.channels / 2 ** (layers.length - 1 - stage);
  found.push({ name: 'tokens', label: 'embedding', channels: channels(0) });
  layers.forEach(({ blocks }, i) => blocks.forEach((_, j) => add(`layers.${i}.blocks.${j}`, channels(i))));
  return [...found, { name: 'norm', label: 'norm', channels: encoder.channels }];
}

/**
 * The layers that a user means: `all`, `last` (the last block), or a list with commas of block numbers from 1 and of
 * names. Throws `invalid_argument` naming the nearest.
 */
export function chooseLayers(encoder: Encoder, wanted: string): Layer[] {
  const all = layersOf(encoder);
  const blocks = all.filter(({ label }) => label.startsWith('block'));
  if (wanted === 'all') return all;
  return wanted.split(',').map((part) => {
    const text = part.trim();
    if (text === 'last') return blocks.at(-1) as Layer;
    if (/^\d+$/.test(text)) return blocks[Number(text) - 1] ?? refuse(`there is no block ${text}: ${encoder.name} has blocks 1 to ${blocks.length}`);
    return all.find(({ name, label }) => name === text || label === text) ?? unknownName(OP, 'layer', text, ['all', 'last', ...all.map((l) => l.name)]);
  });
}

function refuse(message: string): never {
  throw new SimmimError('invalid_argument', OP, message);
}

/** A ViT's output [B, L + 1, C] without its class token, or a Swin's map [B, h, w, C], as patch tokens [B, L, C]. */
export function patchTokens(output: tf.Tensor): tf.Tensor3D {
  const { shape } = output;
  if (shape.length === 3) return tf.slice(output, [0, 1, 0], [-1, -1, -1]) as tf.Tensor3D;
  return tf.reshape(output, [shape[0] as number, (shape[1] as number) * (shape[2] as number), shape[3] as number]);
}

/** One vector for each image: [B, C]. */
export function pooled(output: tf.Tensor, pooling: Pooling): tf.Tensor2D {
  if (pooling === 'mean') return tf.tidy(() => tf.mean(patchTokens(output), 1));
  if (output.rank !== 3) refuse('pooling is cls, but only a ViT has a class token; use mean');
  return tf.tidy(() => tf.reshape(tf.slice(output, [0, 0, 0], [-1, 1, -1]), [output.shape[0] as number, output.shape[2] as number]));
}

/**
 * Runs a frozen encoder on images [B, C, H, W] and gives `use` each wanted layer's output (see {@link patchTokens}) as it
 * comes; outputs die when `use` returns. What `use` returns is kept, by layer name.
 */
export function forwardLayers<T extends tf.Tensor>(encoder: Encoder, images: tf.Tensor, layers: readonly Layer[], use: (output: tf.Tensor, layer: Layer) => T): Map<string, T> {
  const wanted = new Map(layers.map((layer) => [layer.name, layer]));
  const found = new Map<string, T>();
  const observe = (name: string, output: tf.Tensor): void => {
    const layer = wanted.get(name);
    if (layer) found.set(name, tf.keep(use(output, layer)));
  };
  tf.tidy(() => {
    const ctx: Context = { training: false, precision: 'f32', clock: tf.tensor1d(new Int32Array(4), 'int32'), observe };
    encoder.forward(images, null, ctx);
  });
  return found;
}
