import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { damagedShards, datasetStats, loadImage, openCifar, openCsv, openDataset, openImageFolder, openPipeline, openTar, openZip, packDataset, type ImageDataset } from '../../ts/data';
import { sharedDir } from '../helpers/golden';

let dir: string;
let folder: ImageDataset;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'simmim-containers-'));
  for (const [c, name] of ['ant', 'bee'].entries()) {
    mkdirSync(join(dir, 'set', name), { recursive: true });
    for (let i = 0; i < 4; i++) {
      const data = new Uint8Array(20 * 16 * 3).fill(40 * i + 60 * c);
      writeFileSync(join(dir, 'set', name, `${i}.png`), await sharp(data, { raw: { width: 20, height: 16, channels: 3 } }).png().toBuffer());
    }
  }
  folder = openImageFolder(join(dir, 'set'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A zip file of the given members; the inverse of what openZip reads, written by the format's description (APPNOTE 4.3). */
function zip(members: { name: string; body: Buffer; deflate: boolean }[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, body, deflate } of members) {
    const packed = deflate ? deflateRawSync(body) : body;
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(deflate ? 8 : 0, 4);
    fields.writeUInt32LE(crc32(body), 10);
    fields.writeUInt32LE(packed.length, 14);
    fields.writeUInt32LE(body.length, 18);
    fields.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), fields, Buffer.from(name), packed]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00', 'latin1'), fields, rest, Buffer.from(name)]));
    parts.push(local);
    offset += local.length;
  }
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(directory.reduce((n, d) => n + d.length, 0), 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, ...directory, end]);
}

async function same(a: ImageDataset, b: ImageDataset): Promise<void> {
  expect(a.samples.map((s) => [s.name, s.label])).toEqual(b.samples.map((s) => [s.name, s.label]));
  expect(a.classes).toEqual(b.classes);
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a.sample(i), b.sample(i)];
    expect(await loadImage(x.location, x.name)).toEqual(await loadImage(y.location, y.name));
  }
}

/** As {@link same} where the names' endings differ. */
async function samePixels(a: ImageDataset, b: ImageDataset): Promise<void> {
  expect(a.samples.map((s) => [s.name.replace(/\.\w+$/, ''), s.label])).toEqual(b.samples.map((s) => [s.name.replace(/\.\w+$/, ''), s.label]));
  for (let i = 0; i < a.length; i++) {
    const [x, y] = await Promise.all([a, b].map((set) => loadImage(set.sample(i).location, set.sample(i).name)));
    expect(Buffer.from(x?.data ?? [])).toEqual(Buffer.from(y?.data ?? []));
  }
}

describe('containers', () => {
  test('zip, stored and deflated, is the folder it was made of', async () => {
    const members = folder.samples.map((s, i) => ({ name: s.name, body: readFileSync(s.location.file), deflate: i % 2 === 0 }));
    const file = join(dir, 'set.zip');
    writeFileSync(file, zip([...members, { name: 'ant/readme.txt', body: Buffer.from('x'), deflate: false }, { name: '__MACOSX/ant/0.png', body: Buffer.from('x'), deflate: false }]));
    await same(openZip(file), folder);
    await same(openDataset(file), folder);
    const bytes = readFileSync(file);
    writeFileSync(join(dir, 'cut.zip'), bytes.subarray(0, bytes.length - 30));
    expect(() => openZip(join(dir, 'cut.zip'))).toThrow(/dataset: archive '.*cut.zip' is no zip file, or cut off/);
    expect(() => openZip(join(dir, 'none.zip'))).toThrow(/does not exist/);
    expect(() => openDataset(join(dir, 'none.zip'))).toThrow(/does not exist/);
    expect(() => openDataset(join(file, 'below'))).toThrow(/does not exist/);
  });

  test('packed shards are the folder they were made of, the same bytes each time, and feed the pipeline alike', async () => {
    const out = join(dir, 'shards');
    const result = await packDataset(folder, out, { shardBytes: 3000 });
    expect(result.shards.length).toBeGreaterThan(1);
    expect(result.pictures).toBe(8);
    expect((await packDataset(folder, join(dir, 'again'), { shardBytes: 3000 })).sha256).toBe(result.sha256);
    await same(openTar(result.shards), folder);
    await same(openDataset(out), folder);
    const options = { batchSize: 4, seed: 3, workers: 1, transform: { size: [8, 8] as const } };
    const [a, b] = [openPipeline(folder, options), openPipeline(openDataset(out), options)];
    for (let i = 0; i < 4; i++) expect((await a.next()).images).toEqual((await b.next()).images);
    await Promise.all([a.close(), b.close()]);
    const jpeg = await packDataset(folder, join(dir, 'jpeg'), { format: 'jpeg', maxSide: 10 });
    const small = openTar(jpeg.shards).sample(0);
    expect(await loadImage(small.location, small.name)).toMatchObject({ width: 10, height: 8 });
  });

  test('system tar reads our shards; long names survive', async () => {
    const long = `${'n'.repeat(120)}.png`;
    mkdirSync(join(dir, 'long'));
    copyFileSync(join(dir, 'set/ant/1.png'), join(dir, 'long', long));
    const { shards } = await packDataset(openImageFolder(join(dir, 'long')), join(dir, 'longshards'));
    expect(openTar(shards).sample(0).name).toBe(long);
    const { execFileSync } = await import('node:child_process');
    expect(execFileSync('tar', ['-tf', shards[0] as string], { encoding: 'utf8' }).trim()).toBe(long);
    execFileSync('tar', ['-cf', join(dir, 'system.tar'), '-C', join(dir, 'set'), 'ant', 'bee']);
    expect(openTar(join(dir, 'system.tar')).samples.map((s) => s.name).sort()).toEqual(folder.samples.map((s) => s.name));
  });

  test('ppm shards hold the decoded pixels; decoding them again is exact', async () => {
    await samePixels(openDataset((await packDataset(folder, join(dir, 'ppm'), { format: 'ppm' })).shards[0] as string), folder);
    const small = await packDataset(folder, join(dir, 'ppmsmall'), { format: 'ppm', maxSide: 10 });
    const { location, name } = openTar(small.shards).sample(3);
    expect(await loadImage(location, name)).toMatchObject({ width: 10, height: 8, data: expect.objectContaining({ length: 240 }) });
    writeFileSync(join(dir, 'cut.ppm'), 'P6\n4 4\n255\nabc');
    await expect(loadImage({ file: join(dir, 'cut.ppm'), offset: 0, bytes: -1, codec: 'image' }, 'cut.ppm')).rejects.toThrow(/'cut.ppm' is not a readable image: 3 bytes of pixels, expected 4 x 4 x 3/);
  });

  test('a folder of shards knows its own: missing, cut, foreign and damaged ones, and no second pack on top', async () => {
    const out = join(dir, 'listed');
    const { shards } = await packDataset(folder, out, { shardBytes: 3000 });
    const [first = '', second = ''] = shards;
    expect(await damagedShards(out)).toEqual([]);
    await expect(packDataset(folder, out)).rejects.toThrow(/already holds shard-00000.tar/);
    const bytes = readFileSync(second);
    bytes[600] = (bytes[600] as number) ^ 1;
    writeFileSync(second, bytes);
    expect(await damagedShards(out)).toEqual(['shard-00001.tar']);
    writeFileSync(second, bytes.subarray(0, 1024));
    expect(() => openDataset(out)).toThrow(/shard 'shard-00001.tar' of '.*listed' has 1024 bytes, expected \d+: it was cut off or replaced/);
    rmSync(second);
    expect(() => openDataset(out)).toThrow(/shard 'shard-00001.tar' of '.*listed' is missing/);
    copyFileSync(first, second);
    copyFileSync(first, join(out, 'more.tar'));
    expect(() => openDataset(out)).toThrow(/'more.tar' of '.*listed' is not in its shards.json/);
    expect((await packDataset(folder, out, { overwrite: true })).shards).toHaveLength(1);
    await same(openDataset(out), folder);
  });

  test('a pipeline over shards continues in the middle of an epoch with the same bits', async () => {
    const set = openDataset(join(dir, 'shards'));
    const options = { batchSize: 2, seed: 11, workers: 1, transform: { size: [8, 8] as const } };
    const whole = openPipeline(set, options);
    const batches = [];
    for (let i = 0; i < 7; i++) batches.push(await whole.next());
    await whole.close();
    const rest = openPipeline(set, { ...options, workers: 0 });
    rest.restore({ epoch: 0, step: 3, broken: [] });
    for (let i = 3; i < 7; i++) expect(await rest.next()).toEqual(batches[i]);
    await rest.close();
  });

  test('a corrupt shard is one clear sentence', async () => {
    const { shards } = await packDataset(folder, join(dir, 'broken'));
    const bytes = readFileSync(shards[0] as string);
    const file = join(dir, 'cut.tar');
    writeFileSync(file, bytes.subarray(0, 700));
    expect(() => openTar(file)).toThrow(/dataset: archive '.*cut.tar' (is cut off inside|ends too early)/);
    const flipped = Buffer.from(bytes);
    flipped[3] = 1;
    writeFileSync(file, flipped);
    expect(() => openTar(file)).toThrow(/wrong checksum/);
  });

  test('broken pictures are left out of a pack, by name', async () => {
    mkdirSync(join(dir, 'mixed'));
    copyFileSync(join(dir, 'set/ant/1.png'), join(dir, 'mixed/a.png'));
    writeFileSync(join(dir, 'mixed/b.png'), 'nothing');
    const told: string[] = [];
    const result = await packDataset(openImageFolder(join(dir, 'mixed')), join(dir, 'mixedout'), { onBroken: (name) => told.push(name) });
    expect([result.pictures, result.broken, told]).toEqual([1, ['b.png'], ['b.png']]);
    const stats = await datasetStats(openImageFolder(join(dir, 'mixed')));
    expect(stats.broken.map((b) => b.name)).toEqual(['b.png']);
    expect(stats.mean[0]).toBeCloseTo(40 / 255, 12);
    expect(stats.std[0]).toBe(0);
    expect([stats.width.median, stats.height.median]).toEqual([20, 16]);
  });

  test('CIFAR records: labels, names, pixels and statistics as documented', async () => {
    const set = openCifar(join(sharedDir(), 'data/cifar10-subset/test.bin'));
    expect([set.length, set.classes.length]).toEqual([2000, 10]);
    expect(set.classCounts()).toEqual(new Array(10).fill(200));
    const bytes = readFileSync(join(sharedDir(), 'data/cifar10-subset/test.bin'));
    const { data } = await loadImage(set.sample(7).location, 'x');
    expect([...data.subarray(0, 3)]).toEqual([1, 1025, 2049].map((at) => bytes[7 * 3073 + at]));
    const stats = await datasetStats(set);
    for (const [c, mean] of [0.4934, 0.4831, 0.447].entries()) expect(Math.abs((stats.mean[c] as number) - mean)).toBeLessThan(0.01); // the train set's
    writeFileSync(join(dir, 'odd.bin'), Buffer.alloc(100));
    expect(() => openCifar(join(dir, 'odd.bin'))).toThrow(/has 100 bytes, expected a multiple of 3,073/);
  });

  test('CSV: labels by name, quotes, and each mistake with its line', async () => {
    const file = join(dir, 'set/list.csv');
    const write = (text: string): string => {
      writeFileSync(file, text);
      return file;
    };
    const set = openCsv(write('label,file\r\nzebra,ant/0.png\n"a, b",bee/1.png\n\nzebra,"ant/1.png"\n'));
    expect(set.classes).toEqual(['a, b', 'zebra']);
    expect(set.samples.map((s) => s.label)).toEqual([1, 0, 1]);
    expect(openCsv(write('file\nant/0.png\n')).classes).toEqual([]);
    expect(() => openCsv(write('name\nant/0.png\n'))).toThrow(/has the columns name, expected one called file/);
    expect(() => openCsv(write('file,label\nant/9.png,x\n'))).toThrow(/line 2 of '.*list.csv': image 'ant\/9.png' does not exist/);
    expect(() => openCsv(write('file,label\nant/0.png,\n'))).toThrow(/line 2 .* has no label/);
    expect(() => openCsv(write('file,label\n"ant/0.png,x\n'))).toThrow(/line 2 .* is no CSV/);
    expect(() => openCsv(write('file,label\nant/0.png,x\n'), { classes: ['y'] })).toThrow(/label 'x' is not among the 1 classes y/);
    rmSync(file);
  });
});
