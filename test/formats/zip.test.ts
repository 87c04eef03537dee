import { describe, expect, it } from 'vitest';
import { bufferSource } from '../../ts/formats/byte_source';
import { readZipDirectory, readZipEntry } from '../../ts/formats/zip';
import { zipOf, type TestEntry } from './zip_writer';

const text = Buffer.from('masked image modelling '.repeat(100));
const read = (entries: TestEntry[]): string[] => {
  const source = bufferSource(zipOf(entries), 'test.zip');
  return [...readZipDirectory(source).values()].map((entry) => Buffer.from(readZipEntry(source, entry)).toString());
};

describe('zip', () => {
  it('reads stored, deflated, empty and zip64 entries', () => {
    const content = read([{ name: 'a', data: text }, { name: 'b', data: text, deflate: true }, { name: 'c', data: Buffer.alloc(0) }, { name: 'd', data: text, deflate: true, wide: true }]);
    expect(content).toEqual([String(text), String(text), '', String(text)]);
  });

  it.each<[string, TestEntry[], RegExp]>([
    ['a bomb', [{ name: 'a', data: text, deflate: true, size: 2 ** 31 }], /claims 2147483648 bytes from/],
    ['more content than said', [{ name: 'a', data: text, deflate: true, size: 10 }], /does not inflate to its 10 bytes/],
    ['less content than said', [{ name: 'a', data: text, deflate: true, size: text.length + 1 }], /has 2300 bytes, its directory says 2301/],
    ['a wrong checksum', [{ name: 'a', data: text, crc: 5 }], /CRC-32/],
    ['one name twice', [{ name: 'a', data: text }, { name: 'a', data: text }], /'a' appears twice/],
  ])('refuses %s', (_, entries, message) => {
    expect(() => read(entries)).toThrow(message);
  });

  it('refuses every truncation', () => {
    const whole = zipOf([{ name: 'a', data: text, deflate: true }]);
    for (let length = 0; length < whole.length; length++) expect(() => readZipDirectory(bufferSource(whole.subarray(0, length))), `${length}`).toThrow(/truncated/);
  });
});
