/**
 * Image files to 8-bit RGB by sharp (libvips): JPEG, PNG, WebP, AVIF, TIFF, GIF.
 *
 * As torchvision's `Image.open(f).convert('RGB')` does: first frame or page; grey repeated three times;
 * palettes looked up; alpha dropped, not blended over a background; embedded RGB profiles ignored. Other
 * than Pillow: EXIF orientation is applied (Pillow keeps the sensor's orientation); 16-bit samples keep their
 * upper 8 bits (Pillow clips 16-bit grey to white); CMYK goes through libvips' CMYK profile (Pillow: 255 - ink,
 * scaled), so its colours differ. JPEGs decode to the same bits.
 */
import sharp from 'sharp';
import { SimmimError } from '../errors';
import type { DecodedImage } from './resample';

const MAX_PIXELS = 0x3fff * 0x3fff; // sharp's own limit: a picture above it is more likely a bomb than a photograph

/**
 * Decodes one picture. Throws corrupt, naming the picture, when the bytes are empty, truncated, damaged or
 * no image of a known format.
 */
export async function decodeImage(bytes: Uint8Array, name: string): Promise<DecodedImage> {
  if (bytes.length === 0) throw new SimmimError('corrupt', 'decode', `'${name}' is empty (0 bytes)`);
  if (bytes[0] === 0x50 && bytes[1] === 0x36) return decodePpm(bytes, name);
  try {
    const { data, info } = await sharp(bytes, { failOn: 'error', ignoreIcc: true, autoOrient: true, limitInputPixels: MAX_PIXELS, sequentialRead: true })
      .removeAlpha()
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    if (info.channels === 3) return { width: info.width, height: info.height, data };
    return { width: info.width, height: info.height, data: repeatChannels(data, info.channels) };
  } catch (error) {
    throw new SimmimError('corrupt', 'decode', `'${name}' is not a readable image: ${firstLine(error)}`, { cause: error });
  }
}

/** Binary PPM (P6) of 8 bits, as `simmim pack --format ppm` writes: nothing to decode but its header. */
function decodePpm(bytes: Uint8Array, name: string): DecodedImage {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 64)).toString('latin1');
  const [header = '', width = '', height = ''] = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(text) ?? [];
  const data = bytes.subarray(header.length);
  const size = { width: Number(width), height: Number(height) };
  if (header === '' || data.length === 0 || data.length !== size.width * size.height * 3) {
    throw new SimmimError('corrupt', 'decode', `'${name}' is not a readable image: ${header === '' ? 'no PPM header of 8-bit colours' : `${data.length} bytes of pixels, expected ${size.width} x ${size.height} x 3`}`);
  }
  return { ...size, data };
}

/** A picture as binary PPM; the inverse of reading one. */
export function encodePpm({ width, height, data }: DecodedImage): Buffer {
  return Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`, 'latin1'), data]);
}

/**
 * For loader threads: libvips works single-threaded (the pictures are what runs side by side) and keeps no
 * cache (each file is decoded once). Both settings are of the whole process.
 */
export function decodeSideBySide(): void {
  sharp.concurrency(1);
  sharp.cache(false);
}

/** Grey (1 channel, or grey with a second one to drop) as RGB. */
function repeatChannels(data: Uint8Array, channels: number): Uint8Array {
  const pixels = data.length / channels;
  const out = new Uint8Array(pixels * 3);
  for (let i = 0; i < pixels; i++) out.fill(data[i * channels] as number, i * 3, i * 3 + 3);
  return out;
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] as string;
}
