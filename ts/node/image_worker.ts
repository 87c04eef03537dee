/** The worker behind the synchronous decoders of image.ts. */
import { type MessagePort, workerData } from 'node:worker_threads';
import sharp from 'sharp';
import type { Pixels } from './image';

const { port, signal } = workerData as { port: MessagePort; signal: Int32Array };

async function decode(bytes: Uint8Array, wanted: number): Promise<Pixels> {
  const picture = sharp(bytes, { failOn: 'error', animated: true, ignoreIcc: true });
  const { pages = 1, channels: own = 3 } = await picture.metadata();
  const channels = wanted === 0 ? own : wanted;
  if (channels < 3) picture.toColourspace('b-w');
  else picture.toColourspace('srgb');
  if (channels === 4 || channels === 2) picture.ensureAlpha();
  else picture.removeAlpha();
  const { data, info } = await picture.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  return { frames: pages, height: info.height / pages, width: info.width, channels: info.channels, data };
}

port.on('message', ({ bytes, channels }: { bytes: Uint8Array; channels: number }) => {
  void decode(bytes, channels)
    .then((pixels) => port.postMessage({ pixels }), (error: unknown) => port.postMessage({ error: error instanceof Error ? error.message : String(error) }))
    .then(() => {
      Atomics.store(signal, 0, 1);
      Atomics.notify(signal, 0);
    });
});
