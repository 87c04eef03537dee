/** One row of a batch: read, decode, crop, resize, flip, normalise. Runs in worker threads or inline, with the same bits. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { inflateRawSync } from 'node:zlib';
import { SimmimError } from '../errors';
import type { Rng } from '../rng';
import type { Region, SampleLocation } from './dataset';
import { decodeImage } from './decode';
import { eraseInto, erasingBox } from './erasing';
import { readJpegHeader } from './jpeg_header';
import { NativeImages } from './native_image';
import { applyRandAugment, colorJitter } from './rand_augment';
import { normaliseInto, normalisationTable, resampleInto, shiftInto, type DecodedImage } from './resample';
import { augmentationRng, noiseRng } from './sampler';
import { drawGeometry, type DrawnGeometry, type Transform } from './transform';

/** What a row is made from; `position` and the epoch choose its draws. */
export interface SampleJob {
  /** Row of the batch to write. */
  row: number;
  name: string;
  location: SampleLocation;
  position: number;
}

const CIFAR_SIDE = 32;
const CIFAR_PLANE = CIFAR_SIDE * CIFAR_SIDE;

/** Bytes of a sample's range. Throws io, naming the sample, when the file cannot be read or is too short. */
export function readSample(location: SampleLocation, name: string): Buffer {
  try {
    if (location.bytes < 0) return readFileSync(location.file);
    const descriptor = openSync(location.file, 'r');
    try {
      const bytes = Buffer.allocUnsafe(location.bytes);
      const got = readSync(descriptor, bytes, 0, location.bytes, location.offset);
      if (got !== location.bytes) throw new Error(`'${location.file}' ends ${location.bytes - got} bytes too early`);
      return bytes;
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw new SimmimError('io', 'read', `cannot read '${name}': ${(error as Error).message}`, { cause: error });
  }
}

/** A CIFAR record's 3,072 planar bytes as [32, 32, 3]. */
function fromPlanar(planes: Uint8Array, name: string): DecodedImage {
  if (planes.length !== 3 * CIFAR_PLANE) throw new SimmimError('corrupt', 'decode', `'${name}' has ${planes.length} bytes, expected ${3 * CIFAR_PLANE} = 3 * 32 * 32`);
  const data = new Uint8Array(planes.length);
  for (let c = 0; c < 3; c++) for (let i = 0; i < CIFAR_PLANE; i++) data[i * 3 + c] = planes[c * CIFAR_PLANE + i] as number;
  return { width: CIFAR_SIDE, height: CIFAR_SIDE, data };
}

function inflated(bytes: Uint8Array, name: string): Uint8Array {
  try {
    return inflateRawSync(bytes);
  } catch (error) {
    throw new SimmimError('corrupt', 'decode', `'${name}' cannot be unpacked: ${(error as Error).message}`, { cause: error });
  }
}

/** Reads and decodes a sample as it is: no crop, no region. Throws io or corrupt, naming it. */
export async function loadImage(location: SampleLocation, name: string): Promise<DecodedImage> {
  return decodeSample(readSample(location, name), location, name);
}

/** Decodes a sample's bytes. Throws corrupt, naming it. */
export async function decodeSample(bytes: Uint8Array, location: SampleLocation, name: string): Promise<DecodedImage> {
  if (location.codec === 'cifar') return fromPlanar(bytes, name);
  return decodeImage(location.codec === 'deflate' ? inflated(bytes, name) : bytes, name);
}

/** The rectangle of a region in a picture of height x width, at least one pixel. */
function regionBox(height: number, width: number, region: Region): { top: number; left: number; height: number; width: number } {
  const top = Math.min(height - 1, Math.round(region.top * height));
  const left = Math.min(width - 1, Math.round(region.left * width));
  return { top, left, height: Math.max(1, Math.round(region.bottom * height) - top), width: Math.max(1, Math.round(region.right * width) - left) };
}

/** `native`: the addon's kernels; `reference`: their TypeScript definitions, with the same bits (for tests, or without an addon). */
export type SampleKernels = 'native' | 'reference';

/** Makes rows for one transform and seed. */
export class SampleMaker {
  private readonly table: Float32Array;
  /** What the resampling writes: normalised values, or the 8-bit levels themselves when operations on them follow. */
  private readonly levels: Float32Array;
  private readonly onBytes: boolean;
  private readonly native: NativeImages | null;

  constructor(
    private readonly transform: Transform,
    private readonly seed: number,
    use: SampleKernels = 'native',
  ) {
    this.table = normalisationTable(transform.normalisation);
    this.onBytes = transform.randAugment !== null || transform.colorJitter > 0;
    this.levels = this.onBytes ? Float32Array.from({ length: 768 }, (_, i) => i & 255) : this.table;
    this.native = use === 'native' ? new NativeImages(this.levels) : null;
  }

  /** Fills `out` [3, H, W]. Rejects with io or corrupt, naming the sample, when it cannot be had. */
  async make(job: SampleJob, epoch: number, out: Float32Array): Promise<void> {
    const rng = augmentationRng(this.seed, epoch, job.position);
    if (!this.native || job.location.codec !== 'image') this.crop(await loadImage(job.location, job.name), job, rng, out);
    else {
      const bytes = readSample(job.location, job.name);
      if (!this.cropJpeg(this.native, bytes, job, rng, out)) {
        rng.state = augmentationRng(this.seed, epoch, job.position).state;
        this.crop(await decodeImage(bytes, job.name), job, rng, out);
      }
    }
    this.augment(job, epoch, rng, out);
  }

  /** Frees native memory. */
  dispose(): void {
    this.native?.dispose();
  }

  /** The direct way of baseline JPEGs: only the crop is decoded. False when the picture must go the general way. */
  private cropJpeg(native: NativeImages, bytes: Uint8Array, job: SampleJob, rng: Rng, out: Float32Array): boolean {
    const header = readJpegHeader(bytes);
    if (!header) return false;
    const geometry = this.geometry(header.height, header.width, job, rng);
    const pixels = native.decodeJpeg(bytes, header, geometry.box);
    if (!pixels) return false;
    native.resample(pixels, geometry, out);
    native.release(pixels);
    this.shift(geometry, out);
    return true;
  }

  private crop(image: DecodedImage, job: SampleJob, rng: Rng, out: Float32Array): void {
    const geometry = this.geometry(image.height, image.width, job, rng);
    if (!this.native) {
      resampleInto(image, geometry, this.levels, out);
    } else {
      const pixels = this.native.upload(image);
      this.native.resample(pixels, geometry, out);
      this.native.release(pixels);
    }
    this.shift(geometry, out);
  }

  private shift({ shift }: DrawnGeometry, out: Float32Array): void {
    if (shift) shiftInto(out, this.transform.size, shift, this.levels);
  }

  /** RandAugment or colour jitter on the 8-bit crop, then normalisation, then erasing: timm's order. */
  private augment(job: SampleJob, epoch: number, rng: Rng, out: Float32Array): void {
    const { size, randAugment, colorJitter: strength, erasing } = this.transform;
    const [height, width] = size;
    if (this.onBytes) {
      const plane = height * width;
      const data = new Uint8Array(3 * plane);
      for (let c = 0; c < 3; c++) for (let i = 0; i < plane; i++) data[i * 3 + c] = out[c * plane + i] as number;
      let image: DecodedImage = { width, height, data };
      if (randAugment) image = applyRandAugment(image, randAugment, rng);
      else image = colorJitter(image, strength, rng); // as the official recipe: one or the other
      normaliseInto(image.data, this.table, out);
    }
    const box = erasing && erasingBox(height, width, erasing, () => rng.uniform());
    if (box) {
      const noise = noiseRng(this.seed, epoch, job.position, out.length);
      eraseInto(out, height, width, box, () => noise.normal());
    }
  }

  private geometry(height: number, width: number, job: SampleJob, rng: Rng): DrawnGeometry {
    const uniform = (): number => rng.uniform();
    const { region } = job.location;
    if (!region) return drawGeometry(height, width, this.transform, uniform);
    const part = regionBox(height, width, region);
    const inside = drawGeometry(part.height, part.width, this.transform, uniform);
    return { ...inside, box: { ...inside.box, top: inside.box.top + part.top, left: inside.box.left + part.left } };
  }
}
