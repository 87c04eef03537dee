/** Writes a dataset as tar shards that `openTar` reads: few large files instead of many small ones. */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { extname, join } from 'node:path';
import sharp from 'sharp';
import { SimmimError } from '../errors';
import type { ImageDataset, Sample } from './dataset';
import { decodeImage } from './decode';
import { loadImage, readSample } from './sample';

export interface PackOptions {
  /** `copy` keeps the files' bytes (records without a file become PNG); `jpeg`, `png` re-encode. Default copy. */
  format?: 'copy' | 'jpeg' | 'png';
  /** Re-encoding: the longer side is reduced to this. Default: as it is. */
  maxSide?: number;
  /** JPEG quality, 1 to 100. Default 90. */
  quality?: number;
  /** A new shard begins when one has reached this. Default 256 MiB. */
  shardBytes?: number;
  /** Told of each broken picture, which is left out. */
  onBroken?: (name: string, reason: string) => void;
}

export interface PackResult {
  shards: string[];
  pictures: number;
  broken: string[];
  /** SHA-256 of all shards in order, hexadecimal. */
  sha256: string;
}

const OP = 'pack';
const BLOCK = 512;
const NAME_BYTES = 100;

function header(name: string, bytes: number, kind: '0' | 'L'): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(name.slice(0, NAME_BYTES), 0, NAME_BYTES, 'utf8');
  block.write('0000644\0', 100, 'latin1');
  block.write('0000000\0', 108, 'latin1');
  block.write('0000000\0', 116, 'latin1');
  block.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  block.write('00000000000\0', 136, 'latin1'); // no times: the same dataset packs to the same bytes
  block.write('        ', 148, 'latin1');
  block.write(kind, 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  const sum = block.reduce((a, b) => a + b, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

const padding = (bytes: number): Buffer => Buffer.alloc((BLOCK - (bytes % BLOCK)) % BLOCK);

/** Blocks of one member; names over 100 bytes are preceded by a GNU long-name member. */
function member(name: string, body: Uint8Array): Buffer {
  const long = Buffer.from(`${name}\0`, 'utf8');
  const parts = long.length > NAME_BYTES ? [header('././@LongLink', long.length, 'L'), long, padding(long.length)] : [];
  return Buffer.concat([...parts, header(name, body.length, '0'), body, padding(body.length)]);
}

/** One tar file: written under a temporary name, synced, then renamed. */
class Shard {
  bytes = 0;
  private readonly temporary: string;
  private readonly descriptor: number;

  constructor(readonly file: string) {
    this.temporary = `${file}.partial`;
    this.descriptor = openSync(this.temporary, 'w');
  }

  write(block: Uint8Array): void {
    for (let at = 0; at < block.length; ) at += writeSync(this.descriptor, block, at);
    this.bytes += block.length;
  }

  finish(): void {
    fsyncSync(this.descriptor);
    closeSync(this.descriptor);
    renameSync(this.temporary, this.file);
  }

  abandon(): void {
    closeSync(this.descriptor);
    rmSync(this.temporary, { force: true });
  }
}

async function encode(sample: Sample, o: Required<Omit<PackOptions, 'onBroken'>>): Promise<{ name: string; body: Buffer }> {
  const plain = sample.name.replace(/[#\\]/g, '_').replace(/^\/+/, '');
  if (o.format === 'copy' && sample.location.codec === 'image') {
    const body = readSample(sample.location, sample.name);
    await decodeImage(body, sample.name); // what is broken is found now, not in training
    return { name: plain, body };
  }
  const { data, width, height } = await loadImage(sample.location, sample.name);
  let picture = sharp(data, { raw: { width, height, channels: 3 } });
  if (Math.max(width, height) > o.maxSide) picture = picture.resize({ width: o.maxSide, height: o.maxSide, fit: 'inside', kernel: 'lanczos3' });
  const jpeg = o.format === 'jpeg';
  const body = await (jpeg ? picture.jpeg({ quality: o.quality }) : picture.png()).toBuffer();
  const stem = extname(plain) ? plain.slice(0, -extname(plain).length) : plain;
  return { name: `${sample.location.codec === 'cifar' ? plain : stem}.${jpeg ? 'jpg' : 'png'}`, body };
}

/**
 * Packs a dataset into `folder`/shard-00000.tar and so on, members named CLASS/NAME as in the dataset (samples
 * with a label but no class folder get one). Throws invalid_argument for options that make no sense, io when
 * the folder cannot be written.
 */
export async function packDataset(dataset: ImageDataset, folder: string, options: PackOptions = {}): Promise<PackResult> {
  const { format = 'copy', maxSide = Infinity, quality = 90, shardBytes = 256 * 2 ** 20 } = options;
  const o = { format, maxSide, quality, shardBytes };
  if (!['copy', 'jpeg', 'png'].includes(o.format)) throw new SimmimError('invalid_argument', OP, `format is '${String(o.format)}', expected copy, jpeg or png`);
  if (!(o.quality >= 1 && o.quality <= 100)) throw new SimmimError('invalid_argument', OP, `quality is ${o.quality}, expected 1 to 100`);
  if (!(o.maxSide >= 1)) throw new SimmimError('invalid_argument', OP, `maxSide is ${o.maxSide}, expected at least 1`);
  if (!(o.shardBytes >= 1)) throw new SimmimError('invalid_argument', OP, `shardBytes is ${o.shardBytes}, expected at least 1`);
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new SimmimError('io', OP, `cannot make the folder '${folder}': ${(error as Error).message}`);
  }
  const result: PackResult = { shards: [], pictures: 0, broken: [], sha256: '' };
  const hash = createHash('sha256');
  let shard: Shard | null = null;
  const put = (block: Buffer): void => {
    if (!shard) {
      shard = new Shard(join(folder, `shard-${String(result.shards.length).padStart(5, '0')}.tar`));
      result.shards.push(shard.file);
    }
    shard.write(block);
    hash.update(block);
  };
  const finish = (): void => {
    if (!shard) return;
    put(Buffer.alloc(2 * BLOCK));
    shard.finish();
    shard = null;
  };
  try {
    for (const sample of dataset.samples) {
      const made = await encode(sample, o).catch((error: unknown) => {
        if (!(error instanceof SimmimError)) throw error;
        result.broken.push(sample.name);
        options.onBroken?.(sample.name, error.message);
        return null;
      });
      if (!made) continue;
      const label = sample.label >= 0 ? (dataset.classes[sample.label] as string) : null;
      put(member(label === null || made.name.startsWith(`${label}/`) ? made.name : `${label}/${made.name}`, made.body));
      result.pictures++;
      if (((shard as Shard | null)?.bytes ?? 0) >= o.shardBytes) finish();
    }
    finish();
  } catch (error) {
    (shard as Shard | null)?.abandon();
    throw error;
  }
  result.sha256 = hash.digest('hex');
  return result;
}
