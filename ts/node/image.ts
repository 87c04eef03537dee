import * as tf from '@tensorflow/tfjs-core';
import { join } from 'node:path';
import { MessageChannel, type MessagePort, Worker, receiveMessageOnPort } from 'node:worker_threads';
import sharp, { type Sharp } from 'sharp';
import { SimmimError } from '../errors';

type Format = 'jpeg' | 'png' | 'gif' | 'bmp' | 'other';

/** Pixels as the image worker hands them over: frames x height x width x channels, 8 bits each. */
export interface Pixels {
  frames: number;
  height: number;
  width: number;
  channels: number;
  data: Uint8Array;
}

/** What the image worker is asked: 0 `channels` are those of the file, `ratio` divides width and height. */
export interface DecodeRequest {
  bytes: Uint8Array;
  channels: number;
  ratio: number;
}

function formatOf(bytes: Uint8Array): Format {
  const starts = (...magic: number[]): boolean => magic.every((b, i) => bytes[i] === b);
  if (starts(0xff, 0xd8, 0xff)) return 'jpeg';
  if (starts(0x89, 0x50, 0x4e, 0x47)) return 'png';
  if (starts(0x47, 0x49, 0x46)) return 'gif';
  return starts(0x42, 0x4d) ? 'bmp' : 'other';
}

let bridge: { port: MessagePort; signal: Int32Array } | undefined;

/** sharp only works asynchronously and tfjs-node's decoders are synchronous: a worker decodes while this thread waits. */
function decodeInWorker(request: DecodeRequest): Pixels {
  if (!bridge) {
    const { port1, port2 } = new MessageChannel();
    const signal = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(join(__dirname, '../../dist/node/image_worker.js'), { workerData: { port: port2, signal }, transferList: [port2] });
    worker.unref();
    port1.unref();
    bridge = { port: port1, signal };
  }
  const { port, signal } = bridge;
  Atomics.store(signal, 0, 0);
  port.postMessage(request);
  Atomics.wait(signal, 0, 0, 60_000);
  const answer = receiveMessageOnPort(port)?.message as { pixels: Pixels } | { error: string } | undefined;
  if (!answer) throw new SimmimError('internal', 'decodeImage', 'the image worker did not answer');
  if ('error' in answer) throw new SimmimError('corrupt', 'decodeImage', answer.error);
  return answer.pixels;
}

/** Uncompressed Windows bitmaps of 24 and 32 bits, which sharp does not read. */
function decodeBitmap(bytes: Uint8Array, wanted: number): Pixels {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 54) throw new SimmimError('corrupt', 'decodeBmp', `${bytes.length} bytes are no bitmap`);
  const [start, width, signedHeight, bits, compression] = [view.getUint32(10, true), view.getInt32(18, true), view.getInt32(22, true), view.getUint16(28, true), view.getUint32(30, true)];
  const height = Math.abs(signedHeight);
  if ((bits !== 24 && bits !== 32) || (compression !== 0 && compression !== 3)) throw new SimmimError('unsupported', 'decodeBmp', `${bits} bits with compression ${compression}, expected 24 or 32 bits uncompressed`);
  const from = bits / 8;
  const row = Math.ceil((width * from) / 4) * 4;
  if (width <= 0 || start + row * height > bytes.length) throw new SimmimError('corrupt', 'decodeBmp', `the file ends before its ${width} x ${height} pixels`);
  const channels = wanted === 0 ? from : wanted;
  const data = new Uint8Array(width * height * channels).fill(255);
  for (let y = 0; y < height; y++) {
    const line = start + (signedHeight > 0 ? height - 1 - y : y) * row;
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * channels;
      const [b, g, r, a] = [0, 1, 2, 3].map((c) => (c < from ? (bytes[line + x * from + c] as number) : 255)) as [number, number, number, number];
      if (channels < 3) data[at] = Math.round(0.299 * r + 0.587 * g + 0.114 * b);
      else data.set(channels === 4 ? [r, g, b, a] : [r, g, b], at);
    }
  }
  return { frames: 1, height, width, channels, data };
}

function toTensor(pixels: Pixels, animated: boolean): tf.Tensor3D | tf.Tensor4D {
  const { frames, height, width, channels } = pixels;
  const data = Int32Array.from(pixels.data);
  return animated ? tf.tensor4d(data, [frames, height, width, channels], 'int32') : tf.tensor3d(data.subarray(0, height * width * channels), [height, width, channels], 'int32');
}

function checkChannels(op: string, channels: number): void {
  if (![0, 1, 3, 4].includes(channels)) throw new SimmimError('invalid_argument', op, `channels is ${channels}, expected 0 (as in the file), 1, 3 or 4`);
}

/**
 * A picture as int32 [height, width, channels]; a GIF as [frames, height, width, 3] unless `expandAnimations` is false.
 * JPEG, PNG, GIF, BMP, WebP, AVIF and TIFF. `channels` 0 keeps what the file has. Synchronous, as in tfjs-node.
 * Throws `corrupt` when the bytes are no image.
 */
export function decodeImage(contents: Uint8Array, channels = 0, dtype = 'int32', expandAnimations = true): tf.Tensor3D | tf.Tensor4D {
  if (dtype !== 'int32') throw new SimmimError('unsupported', 'decodeImage', `dtype is ${dtype}, expected int32`);
  checkChannels('decodeImage', channels);
  const format = formatOf(contents);
  const pixels = format === 'bmp' ? decodeBitmap(contents, channels) : decodeInWorker({ bytes: contents, channels: format === 'gif' ? 3 : channels, ratio: 1 });
  return toTensor(pixels, format === 'gif' && expandAnimations);
}

function decoder<T extends tf.Tensor>(op: string, format: Format) {
  return (contents: Uint8Array, channels = 0): T => {
    if (formatOf(contents) !== format) throw new SimmimError('corrupt', op, `the bytes are no ${format.toUpperCase()} image`);
    return decodeImage(contents, channels) as unknown as T;
  };
}
/** A JPEG as int32 [height, width, channels], width and height divided by `ratio` (1, 2, 4 or 8) and rounded up. */
export function decodeJpeg(contents: Uint8Array, channels = 0, ratio = 1): tf.Tensor3D {
  checkChannels('decodeJpeg', channels);
  if (![1, 2, 4, 8].includes(ratio)) throw new SimmimError('invalid_argument', 'decodeJpeg', `ratio is ${ratio}, expected 1, 2, 4 or 8`);
  if (formatOf(contents) !== 'jpeg') throw new SimmimError('corrupt', 'decodeJpeg', 'the bytes are no JPEG image');
  return toTensor(decodeInWorker({ bytes: contents, channels, ratio }), false) as tf.Tensor3D;
}
/** A PNG as int32 [height, width, channels]. */
export const decodePng = decoder<tf.Tensor3D>('decodePng', 'png');
/** A Windows bitmap as int32 [height, width, channels]. */
export const decodeBmp = decoder<tf.Tensor3D>('decodeBmp', 'bmp');
/** A GIF as int32 [frames, height, width, 3]. */
export const decodeGif = decoder<tf.Tensor4D>('decodeGif', 'gif');

/** sharp over the pixels of an [height, width, channels] tensor of 0 to 255. */
async function raw(op: string, image: tf.Tensor3D): Promise<Sharp> {
  const [height, width, channels] = image.shape;
  if (image.shape.length !== 3 || ![1, 3, 4].includes(channels)) throw new SimmimError('invalid_argument', op, `image has shape [${image.shape}], expected [height, width, 1, 3 or 4]`);
  const data = Uint8ClampedArray.from(await image.data<'int32'>());
  return sharp(new Uint8Array(data.buffer), { raw: { width, height, channels: channels as 1 | 3 | 4 } });
}

/** JPEG bytes of an image tensor [height, width, 1 or 3]. `quality` 0 to 100. */
export async function encodeJpeg(image: tf.Tensor3D, _format: '' | 'grayscale' | 'rgb' = '', quality = 95, progressive = false, optimizeSize = false, chromaDownsampling = true): Promise<Uint8Array> {
  const picture = await raw('encodeJpeg', image);
  if (image.shape[2] === 1) picture.toColourspace('b-w');
  return picture.jpeg({ quality: Math.max(1, quality), progressive, optimiseCoding: optimizeSize, chromaSubsampling: chromaDownsampling ? '4:2:0' : '4:4:4' }).toBuffer();
}

/** PNG bytes of an image tensor [height, width, 1, 3 or 4]. `compression` 0 to 9. */
export async function encodePng(image: tf.Tensor3D, compression = 1): Promise<Uint8Array> {
  const picture = await raw('encodePng', image);
  if (image.shape[2] === 1) picture.toColourspace('b-w');
  return picture.png({ compressionLevel: compression }).toBuffer();
}
