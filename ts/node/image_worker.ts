/** The worker behind the synchronous decoders of image.ts. */
import { type MessagePort, workerData } from 'node:worker_threads';
import sharp from 'sharp';
import type { DecodeRequest, Pixels } from './image';

const { port, signal } = workerData as { port: MessagePort; signal: Int32Array };

/** One channel from three by the weights of JPEG's and libpng's luma (libvips would convert through linear light). */
function toGrey(rgb: Uint8Array): Uint8Array {
  const grey = new Uint8Array(rgb.length / 3);
  for (let i = 0; i < grey.length; i++) grey[i] = Math.round(0.299 * (rgb[3 * i] as number) + 0.587 * (rgb[3 * i + 1] as number) + 0.114 * (rgb[3 * i + 2] as number));
  return grey;
}

async function decode({ bytes, channels: wanted, ratio }: DecodeRequest): Promise<Pixels> {
  const picture = sharp(bytes, { failOn: 'error', animated: true, ignoreIcc: true });
  const { pages = 1, channels: own = 3, width: fullWidth = 1, height: fullHeight = 1 } = await picture.metadata();
  const channels = wanted === 0 ? own : wanted;
  if (ratio > 1) picture.resize(Math.ceil(fullWidth / ratio), Math.ceil(fullHeight / ratio), { fit: 'fill', kernel: 'linear' });
  if (own < 3 && channels < 3) picture.toColourspace('b-w');
  else picture.toColourspace('srgb');
  if (channels === 4 || channels === 2) picture.ensureAlpha();
  else picture.removeAlpha();
  const { data, info } = await picture.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  const pixels = { frames: pages, height: info.height / pages, width: info.width, channels: info.channels, data };
  return channels === 1 && info.channels === 3 ? { ...pixels, channels: 1, data: toGrey(data) } : pixels;
}

port.on('message', (request: DecodeRequest) => {
  void decode(request)
    .then((pixels) => port.postMessage({ pixels }), (error: unknown) => port.postMessage({ error: error instanceof Error ? error.message : String(error) }))
    .then(() => {
      Atomics.store(signal, 0, 1);
      Atomics.notify(signal, 0);
    });
});
