/** What must be known of a JPEG before its pixels: size, and whether the native baseline decoder may try it. */

export interface JpegHeader {
  width: number;
  height: number;
}

const SOF_BASELINE = 0xc0;
const SOF_EXTENDED = 0xc1;
const SOS = 0xda;
const APP1 = 0xe1;
const SCAN_END = 64;

/**
 * Size of a baseline JPEG that needs no turning, or null when the file is something else, is cut off at
 * its end, or has an EXIF orientation other than upright: then the general decoder takes it.
 */
export function readJpegHeader(bytes: Uint8Array): JpegHeader | null {
  if (bytes.length < 4 || bytes[0] !== 0xff || bytes[1] !== 0xd8 || !endsWithMarker(bytes)) return null;
  let size: JpegHeader | null = null;
  for (let at = 2; at + 4 <= bytes.length; ) {
    if (bytes[at] !== 0xff) return null;
    const marker = bytes[at + 1] as number;
    if (marker === 0xff) {
      at++;
      continue;
    }
    if (marker === SOS) return size;
    const length = u16(bytes, at + 2);
    if (length < 2 || at + 2 + length > bytes.length) return null;
    const body = bytes.subarray(at + 4, at + 2 + length);
    if (marker === SOF_BASELINE || marker === SOF_EXTENDED) {
      if (size !== null || body.length < 6) return null;
      size = { height: u16(body, 1), width: u16(body, 3) };
      if (size.height === 0 || size.width === 0) return null;
    } else if (marker === APP1 && orientation(body) !== 1) return null;
    at += 2 + length;
  }
  return null;
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

/** Whether the end-of-image marker closes the file, at most a few padding bytes before its end. */
function endsWithMarker(bytes: Uint8Array): boolean {
  for (let at = bytes.length - 2; at >= Math.max(2, bytes.length - SCAN_END); at--) {
    if (bytes[at] === 0xff && bytes[at + 1] === 0xd9) return true;
  }
  return false;
}

/** EXIF orientation 1 to 8; 1 for segments that are no EXIF or say nothing of it; 0 for damaged ones. */
function orientation(body: Uint8Array): number {
  if (body.length < 14 || String.fromCharCode(...body.subarray(0, 6)) !== 'Exif\0\0') return 1;
  const tiff = new DataView(body.buffer, body.byteOffset + 6, body.length - 6);
  const little = tiff.getUint16(0) === 0x4949;
  const directory = tiff.getUint32(4, little);
  if (directory + 2 > tiff.byteLength) return 0;
  const entries = tiff.getUint16(directory, little);
  for (let i = 0; i < entries; i++) {
    const entry = directory + 2 + 12 * i;
    if (entry + 12 > tiff.byteLength) return 0;
    if (tiff.getUint16(entry, little) === 0x0112) return tiff.getUint16(entry + 8, little);
  }
  return 1;
}
