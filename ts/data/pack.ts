/** Writes a dataset as tar shards that `openTar` reads: few large files instead of many small ones. */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import sharp from 'sharp';
import { SimmimError } from '../errors';
import type { ImageDataset, Sample } from './dataset';
import { decodeImage, encodePpm } from './decode';
import type { DecodedImage } from './resample';
import { loadImage, readSample } from './sample';
import { SHARD_INDEX, type ShardRecord } from './shards';
import { sideBySide } from './side_by_side';

export interface PackOptions {
  /**
   * `copy` keeps the files' bytes (records without a file become PNG); `jpeg`, `png` re-encode; `ppm` stores decoded
   * pixels: large, and nothing to decode in training. Default copy.
   */
  format?: (typeof PACK_FORMATS)[number];
  /** Re-encoding: the longer side is reduced to this. Default: as it is. */
  maxSide?: number;
  /** JPEG quality, 1 to 100. Default 90. */
  quality?: number;
  /** A new shard begins when one has reached this. Default 256 MiB. */
  shardBytes?: number;
  /** Replaces shards that are in the folder; otherwise they are an error. Default false. */
  overwrite?: boolean;
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

export const PACK_FORMATS = ['copy', 'jpeg', 'png', 'ppm'] as const;
const ENDINGS = { jpeg: 'jpg', png: 'png', ppm: 'ppm' } as const;
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
  pictures = 0;
  private readonly hash = createHash('sha256');
  private readonly temporary: string;
  private readonly descriptor: number;

  constructor(readonly file: string) {
    this.temporary = `${file}.partial`;
    this.descriptor = openSync(this.temporary, 'w');
  }

  write(block: Uint8Array): void {
    for (let at = 0; at < block.length; ) at += writeSync(this.descriptor, block, at);
    this.bytes += block.length;
    this.hash.update(block);
  }

  finish(): ShardRecord {
    fsyncSync(this.descriptor);
    closeSync(this.descriptor);
    renameSync(this.temporary, this.file);
    return { file: basename(this.file), bytes: this.bytes, pictures: this.pictures, sha256: this.hash.digest('hex') };
  }

  abandon(): void {
    closeSync(this.descriptor);
    rmSync(this.temporary, { force: true });
  }
}

/** The pixels as a file of another format. */
function reencoded(image: DecodedImage, format: 'jpeg' | 'png' | 'ppm', { maxSide, quality }: Encoding): Promise<Buffer> {
  const { data, width, height } = image;
  const small = Math.max(width, height) <= maxSide;
  if (format === 'ppm' && small) return Promise.resolve(encodePpm(image));
  let picture = sharp(data, { raw: { width, height, channels: 3 } });
  if (!small) picture = picture.resize({ width: maxSide, height: maxSide, fit: 'inside', kernel: 'lanczos3' });
  if (format === 'jpeg') return picture.jpeg({ quality }).toBuffer();
  if (format === 'png') return picture.png().toBuffer();
  return picture.raw().toBuffer({ resolveWithObject: true }).then(({ data: pixels, info }) => encodePpm({ width: info.width, height: info.height, data: pixels }));
}

type Encoding = Required<Pick<PackOptions, 'format' | 'maxSide' | 'quality'>>;

async function encode(sample: Sample, o: Encoding): Promise<{ name: string; body: Buffer }> {
  const { codec } = sample.location;
  const plain = sample.name.replace(/[#\\]/g, '_').replace(/^\/+/, '');
  if (o.format === 'copy' && codec === 'image') {
    const body = readSample(sample.location, sample.name);
    await decodeImage(body, sample.name); // what is broken is found now, not in training
    return { name: plain, body };
  }
  const format = o.format === 'copy' ? 'png' : o.format;
  const body = await reencoded(await loadImage(sample.location, sample.name), format, o);
  const stem = extname(plain) && codec !== 'cifar' ? plain.slice(0, -extname(plain).length) : plain;
  return { name: `${stem}.${ENDINGS[format]}`, body };
}

/** Checks the options and empties or makes the folder. */
function prepare(folder: string, o: Encoding & { shardBytes: number }, overwrite: boolean): void {
  const refuse = (message: string): never => {
    throw new SimmimError('invalid_argument', OP, message);
  };
  if (!PACK_FORMATS.includes(o.format)) refuse(`format is '${String(o.format)}', expected ${PACK_FORMATS.slice(0, -1).join(', ')} or ${PACK_FORMATS.at(-1) ?? ''}`);
  if (!(o.quality >= 1 && o.quality <= 100)) refuse(`quality is ${o.quality}, expected 1 to 100`);
  if (!(o.maxSide >= 1)) refuse(`maxSide is ${o.maxSide}, expected at least 1`);
  if (!(o.shardBytes >= 1)) refuse(`shardBytes is ${o.shardBytes}, expected at least 1`);
  try {
    mkdirSync(folder, { recursive: true });
    const old = readdirSync(folder).filter((name) => name === SHARD_INDEX || /\.tar(\.partial)?$/.test(name));
    if (old.length > 0 && !overwrite) refuse(`'${folder}' already holds ${old[0] ?? ''}: old and new shards would be read as one set; give another folder, or overwrite`);
    for (const name of old) rmSync(join(folder, name));
  } catch (error) {
    if (error instanceof SimmimError) throw error;
    throw new SimmimError('io', OP, `cannot make the folder '${folder}': ${(error as Error).message}`);
  }
}

/**
 * Packs a dataset into `folder`/shard-00000.tar and so on, members named CLASS/NAME as in the dataset (samples
 * with a label but no class folder get one), and a list of them with their checksums (`shards.json`), written last.
 * Throws invalid_argument for options that make no sense and for a folder with shards in it, io when it cannot be
 * written.
 */
export async function packDataset(dataset: ImageDataset, folder: string, options: PackOptions = {}): Promise<PackResult> {
  const o = { format: options.format ?? 'copy', maxSide: options.maxSide ?? Infinity, quality: options.quality ?? 90, shardBytes: options.shardBytes ?? 256 * 2 ** 20 };
  prepare(folder, o, options.overwrite ?? false);
  const records: ShardRecord[] = [];
  const broken: string[] = [];
  const hash = createHash('sha256');
  let shard: Shard | null = null;
  const finish = (): void => {
    if (!shard) return;
    const end = Buffer.alloc(2 * BLOCK);
    shard.write(end);
    hash.update(end);
    records.push(shard.finish());
    shard = null;
  };
  const encoded = async (sample: Sample): Promise<{ sample: Sample; made: { name: string; body: Buffer } | SimmimError }> => {
    try {
      return { sample, made: await encode(sample, o) };
    } catch (error) {
      if (!(error instanceof SimmimError)) throw error;
      return { sample, made: error };
    }
  };
  try {
    for await (const { sample, made } of sideBySide(dataset.samples, encoded)) {
      if (made instanceof SimmimError) {
        broken.push(sample.name);
        options.onBroken?.(sample.name, made.message);
        continue;
      }
      const label = sample.label >= 0 ? (dataset.classes[sample.label] as string) : null;
      const block = member(label === null || made.name.startsWith(`${label}/`) ? made.name : `${label}/${made.name}`, made.body);
      shard ??= new Shard(join(folder, `shard-${String(records.length).padStart(5, '0')}.tar`));
      shard.write(block);
      shard.pictures++;
      hash.update(block);
      if (shard.bytes >= o.shardBytes) finish();
    }
    finish();
    if (records.length === 0) throw new SimmimError('corrupt', OP, `none of the ${dataset.length} pictures of '${dataset.source}' can be read, the first being '${broken[0] ?? ''}'`);
    writeFileSync(join(folder, SHARD_INDEX), `${JSON.stringify({ format: 1, shards: records }, null, 1)}\n`);
  } catch (error) {
    (shard as Shard | null)?.abandon();
    throw error;
  }
  return { shards: records.map(({ file }) => join(folder, file)), pictures: records.reduce((n, r) => n + r.pictures, 0), broken, sha256: hash.digest('hex') };
}
