/** The native half of a loader thread: baseline JPEG decoding and the fused resampling, on storages that are kept. */
import { kernels, mailbox, type NativeStorage, type NativeTensor } from '../native';
import type { JpegHeader } from './jpeg_header';
import type { Box, DecodedImage, ResampleGeometry } from './resample';

/** A picture, or the part of it that a crop needs, in native memory. `release` it. */
export interface NativePixels {
  tensor: NativeTensor;
  /** Place of its first pixel in the picture. */
  top: number;
  left: number;
}

/** Native pictures of one JavaScript environment; not to be shared between threads. */
export class NativeImages {
  private readonly table: NativeTensor;
  private staged: NativeStorage | null = null;
  private stagedBytes = 0;

  constructor(normalisation: Float32Array) {
    const handle = mailbox().addon.upload(0, normalisation, normalisation.length);
    this.table = { storage: { handle, dtype: 'f32' }, shape: [3, 256] };
  }

  /** Pixels of `box` of a baseline JPEG with libjpeg-turbo's bits, or null when the file is not for this decoder. */
  decodeJpeg(bytes: Uint8Array, header: JpegHeader, box: Box): NativePixels | null {
    const pixels: NativeTensor = { storage: { handle: 0, dtype: 'u8' }, shape: [box.height, box.width, 4] };
    const status: NativeTensor = { storage: { handle: 0, dtype: 'i32' }, shape: [1] };
    const source = this.stage(bytes);
    kernels.jpegDecode({ bytes: source, pixels, status, length: bytes.length, imageHeight: header.height, imageWidth: header.width, top: box.top, left: box.left });
    const failed = new Int32Array(1);
    const { addon } = mailbox();
    addon.readInto(status.storage.handle, failed);
    addon.release(status.storage.handle);
    if (failed[0] === 0) return { tensor: pixels, top: box.top, left: box.left };
    addon.release(pixels.storage.handle);
    return null;
  }

  /** A decoded picture as native memory. */
  upload(image: DecodedImage): NativePixels {
    const handle = mailbox().addon.upload(2, image.data, image.data.length);
    return { tensor: { storage: { handle, dtype: 'u8' }, shape: [image.height, image.width, 3] }, top: 0, left: 0 };
  }

  /** Crops, resizes, flips and normalises into `out` [3, window.height, window.width]; the bits of ts/data/resample.ts. */
  resample(pixels: NativePixels, geometry: ResampleGeometry, out: Float32Array): void {
    const { box, window, resized } = geometry;
    const y: NativeTensor = { storage: { handle: 0, dtype: 'f32' }, shape: [3, window.height, window.width] };
    kernels.resample({
      pixels: pixels.tensor, table: this.table, y,
      top: box.top - pixels.top, left: box.left - pixels.left, boxHeight: box.height, boxWidth: box.width,
      resizedHeight: resized[0], resizedWidth: resized[1], windowTop: window.top, windowLeft: window.left,
      flip: geometry.flip, bicubic: geometry.interpolation === 'bicubic',
    });
    const { addon } = mailbox();
    addon.readInto(y.storage.handle, out);
    addon.release(y.storage.handle);
  }

  release(pixels: NativePixels): void {
    mailbox().addon.release(pixels.tensor.storage.handle);
  }

  /** Frees what is kept between pictures. */
  dispose(): void {
    const { addon } = mailbox();
    addon.release(this.table.storage.handle);
    if (this.staged) addon.release(this.staged.handle);
    this.staged = null;
    this.stagedBytes = 0;
  }

  private stage(bytes: Uint8Array): NativeTensor {
    const { addon } = mailbox();
    if (!this.staged || this.stagedBytes < bytes.length) {
      if (this.staged) addon.release(this.staged.handle);
      this.stagedBytes = Math.max(1 << 17, 2 ** Math.ceil(Math.log2(bytes.length)));
      this.staged = { handle: addon.allocate(2, this.stagedBytes), dtype: 'u8' };
    }
    addon.writeInto(this.staged.handle, bytes, 0);
    return { storage: this.staged, shape: [this.stagedBytes] };
  }
}
