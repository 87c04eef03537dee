import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SimmimError } from '../../ts/errors';
import { bufferSource } from '../../ts/formats/byte_source';
import { PickleDict, type PickleValue } from '../../ts/formats/pickle';
import { DTYPE_BYTES, swapBytes, toNumbers, type RawTensor } from '../../ts/formats/raw_tensor';
import { readSafetensors } from '../../ts/formats/safetensors';
import { parseTorchFile, readTorchTensors, toPlain, torchTensors, withTorchFile, type TorchFile, type TorchTensor } from '../../ts/formats/torch_pth';
import { readZipDirectory, readZipEntry } from '../../ts/formats/zip';
import { goldenDir } from '../helpers/golden';
import { zipOf } from './zip_writer';

const file = (name: string): string => join(goldenDir(), 'checkpoints_pth', name);
const json = <T>(name: string): T => JSON.parse(readFileSync(file(`${name}.json`), 'utf8')) as T;
const stored = (name: string): Map<string, RawTensor> => readSafetensors(file(`${name}.safetensors`)).tensors;

function itemsOf(value: PickleValue | undefined): Map<PickleValue, PickleValue> {
  if (!(value instanceof PickleDict)) throw new Error('not a dict');
  return value.items;
}

function failure(body: () => unknown): SimmimError {
  try {
    body();
  } catch (error) {
    if (error instanceof SimmimError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

interface Expected {
  top_level_keys: string[];
  model_keys: string[];
  int64_tensors: string[];
  epoch: number;
  max_accuracy: number;
  optimizer: { step: Record<string, number>; param_groups: unknown };
  lr_scheduler: unknown;
  amp?: unknown;
  config: Record<string, unknown>;
  config_class: string;
}

describe.each(['zip', 'legacy'])('official checkpoint, %s format', (format) => {
  const path = file(`ckpt_${format}.pth`);
  const expected = json<Expected>(`expected_${format}`);
  const use = <T>(body: (torch: TorchFile) => T): T => withTorchFile(path, body);

  it('has every model and optimizer tensor, bit for bit', () => {
    const read = use((torch) => readTorchTensors(torchTensors(torch.root), statSync(path).size));
    for (const [name, want] of stored('expected')) {
      const got = read.get(name);
      expect(got, name).toBeDefined();
      expect(got?.shape, name).toEqual(want.shape);
      // The fixture holds int64 tensors as int32.
      if (got?.dtype === 'I64') expect(Array.from(toNumbers(got)), name).toEqual(Array.from(toNumbers(want)));
      else expect(Buffer.from(got?.data ?? []).equals(Buffer.from(want.data)), name).toBe(true);
    }
    for (const name of expected.int64_tensors) expect(read.get(`model/${name}`)?.dtype).toBe('I64');
  });

  it('has every other field', () => {
    use((torch) => {
      const root = itemsOf(torch.root);
      expect(torch.format).toBe(format);
      expect([...root.keys()]).toEqual(expected.top_level_keys);
      expect([...itemsOf(root.get('model')).keys()]).toEqual(expected.model_keys);
      expect(root.get('epoch')).toBe(expected.epoch);
      expect(root.get('max_accuracy')).toBe(expected.max_accuracy);
      expect(toPlain(root.get('lr_scheduler') ?? null)).toEqual(expected.lr_scheduler);
      expect(toPlain(root.get('config') ?? null)).toEqual(expected.config);
      expect((root.get('config') as PickleDict).className).toBe(expected.config_class);
      if (expected.amp !== undefined) expect(toPlain(root.get('amp') ?? null)).toEqual(expected.amp);
      expect(toPlain(itemsOf(root.get('optimizer')).get('param_groups') ?? null)).toEqual(expected.optimizer.param_groups);
    });
  });
});

interface Odd {
  dtypes: Record<string, string>;
  shapes: Record<string, number[]>;
  nested: { list: [number[], unknown[]]; text: string; float: number; big: number };
}
const DTYPES: Record<string, string> = { float32: 'F32', float64: 'F64', float16: 'F16', bfloat16: 'BF16', int64: 'I64', int32: 'I32', int16: 'I16', int8: 'I8', uint8: 'U8', bool: 'BOOL' };

function checkOdd(torch: TorchFile): void {
  const expected = json<Odd>('expected_odd');
  const values = stored('expected_odd');
  const tensors = torchTensors(itemsOf(torch.root).get('model') ?? null);
  expect([...tensors.keys()].sort()).toEqual(Object.keys(expected.shapes).sort());
  for (const [name, tensor] of tensors) {
    const got = tensor.read();
    expect(got.dtype, name).toBe(DTYPES[expected.dtypes[name] as string]);
    expect(got.shape, name).toEqual(expected.shapes[name]);
    const want = toNumbers(values.get(name) as RawTensor);
    // expected_odd holds float32: doubles are compared after the same rounding.
    expect(Array.from(toNumbers(got), got.dtype === 'F64' ? Math.fround : Number), name).toEqual(Array.from(want));
  }
}

describe('views, dtypes and odd shapes', () => {
  it.each(['zip', 'legacy'])('%s format', (format) => {
    withTorchFile(file(`odd_${format}.pth`), (torch) => {
      checkOdd(torch);
      const { list, ...rest } = json<Odd>('expected_odd').nested;
      const nested = itemsOf(itemsOf(torch.root).get('nested') ?? null);
      const [tensor, others] = nested.get('list') as PickleValue[];
      expect(Array.from(toNumbers((tensor as TorchTensor).read()))).toEqual(list[0]);
      expect(toPlain(others ?? null)).toEqual(list[1]);
      expect(toPlain(itemsOf(torch.root).get('nested') ?? null)).toMatchObject(rest);
    });
  });

  it('reads storages of a big-endian machine', () => {
    const source = bufferSource(readFileSync(file('odd_zip.pth')));
    const storageDtype = new Map<string, keyof typeof DTYPE_BYTES>();
    for (const tensor of torchTensors(parseTorchFile(source).root).values()) storageDtype.set(`odd_zip/data/${tensor.storage.key}`, tensor.dtype);
    const entries = [...readZipDirectory(source).values()].map((entry) => {
      let data = new Uint8Array(readZipEntry(source, entry));
      const dtype = storageDtype.get(entry.name);
      if (dtype) swapBytes(data, DTYPE_BYTES[dtype]);
      if (entry.name.endsWith('byteorder')) data = new Uint8Array(Buffer.from('big'));
      return { name: entry.name, data };
    });
    checkOdd(parseTorchFile(bufferSource(zipOf(entries))));
  });

  it('reads each storage of an open file once', () => {
    const bytes = readFileSync(file('ckpt_zip.pth'));
    let read = 0;
    const source = { name: 'counted', size: bytes.length, read: (at: number, length: number) => ((read += length), bytes.subarray(at, at + length)) };
    for (const tensor of torchTensors(parseTorchFile(source).root).values()) tensor.read();
    for (const tensor of torchTensors(parseTorchFile(bufferSource(bytes)).root).values()) tensor.read();
    expect(read).toBeLessThan(1.6 * bytes.length); // directory tail, headers and padding come on top of the content
  });
});

/** A zip file as torch.save writes it, with any bytes as its pickle and one storage of eight floats. */
function torchZip(pickle: string | Buffer, storage = new Uint8Array(32)): Uint8Array {
  return zipOf([{ name: 'm/data.pkl', data: Buffer.isBuffer(pickle) ? pickle : Buffer.from(pickle, 'latin1') }, { name: 'm/data/0', data: storage }]);
}
const load = (bytes: Uint8Array): PickleValue => parseTorchFile(bufferSource(bytes, 'm.pth')).root;
const short = (text: string): string => `\x8c${String.fromCharCode(text.length)}${text}`;
/** Pickle of a float tensor over storage '0' of `elements`, with these offset, shape and strides (one byte each). */
const tensorPickle = (elements: string, offset: number, shape: string, strides: string): string =>
  `\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((${short('storage')}ctorch\nFloatStorage\n${short('0')}${short('cpu')}${elements}tQK${String.fromCharCode(offset)}(${shape}t(${strides}t\x89}tR.`;

describe('hostile files', () => {
  it.each([
    ['os.system', '\x80\x02cos\nsystem\n(S'],
    ['builtins.eval', `\x80\x02c__builtin__\neval\n(${short('1')}tR.`],
    ['builtins.getattr', `\x80\x04${short('builtins')}${short('getattr')}\x93.`],
    ['torch.nn.modules.linear.Linear', '\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81.'],
    ['torch.load', '\x80\x02ctorch\nload\n)R.'],
  ])('names the global %s and runs nothing', (name, pickle) => {
    const error = failure(() => load(torchZip(pickle)));
    expect(error.code).toBe('unsupported');
    expect(error.message).toContain(`'${name}'`);
  });

  it('names an opcode that weights do not use', () => {
    expect(failure(() => load(torchZip('\x80\x02i__main__\nX\n.'))).message).toContain('opcode 0x69');
  });

  it('accepts argparse.Namespace as a dict of attributes', () => {
    const value = load(torchZip(`\x80\x02cargparse\nNamespace\n)\x81}(${short('lr')}K\x05${short('__proto__')}K\x06ub.`));
    const plain = toPlain(value) as Record<string, unknown>;
    expect(plain.lr).toBe(5);
    expect(Object.hasOwn(plain, '__proto__')).toBe(true);
    expect(({} as Record<string, unknown>).lr).toBeUndefined();
  });

  it('reads what training scripts leave beside the weights: numpy scalars and arrays, paths, defaultdicts', () => {
    // As pickle.dumps(value, 2) of numpy 2 writes them.
    const type = (code: string, order: string): string => `cnumpy\ndtype\nX\x02\x00\x00\x00${code}\x89\x88\x87R(K\x03X\x01\x00\x00\x00${order}NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb`;
    const encode = (bytes: number[]): string => {
      const text = Buffer.from(Buffer.from(bytes).toString('latin1'), 'utf8').toString('latin1');
      return `c_codecs\nencode\nX${String.fromCharCode(text.length)}\x00\x00\x00${text}X\x06\x00\x00\x00latin1\x86R`;
    };
    const scalar = (core: string, code: string, order: string, bytes: number[]): string => `\x80\x02cnumpy.${core}.multiarray\nscalar\n${type(code, order)}${encode(bytes)}\x86R.`;
    expect(load(torchZip(scalar('_core', 'f8', '<', [0, 0, 0, 0, 0, 0, 12, 64])))).toBe(3.5);
    expect(load(torchZip(scalar('core', 'i8', '<', [252, 255, 255, 255, 255, 255, 255, 255])))).toBe(-4);
    expect(load(torchZip(scalar('core', 'f4', '>', [63, 128, 0, 0])))).toBe(1);
    expect(load(torchZip(scalar('core', 'b1', '|', [1])))).toBe(true);
    const array = `\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85${encode([98])}\x87R(K\x01K\x02\x85${type('f4', '<')}\x89${encode([0, 0, 0, 0, 0, 0, 0, 0])}tb.`;
    expect(toPlain(load(torchZip(array)))).toEqual({ dtype: 'f4', shape: [2] });
    expect(load(torchZip('\x80\x02cpathlib\nPosixPath\nX\x01\x00\x00\x00aX\x01\x00\x00\x00b\x86R.'))).toBe('a/b');
    expect(toPlain(load(torchZip('\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RX\x01\x00\x00\x00kK\x05s.')))).toEqual({ k: 5 });
    expect(failure(() => load(torchZip(scalar('core', 'f8', '<', [1, 2])))).message).toContain('a scalar of type f8 without its 8 bytes');
    expect(failure(() => load(torchZip(scalar('core', 'O8', '|', [1, 2, 3, 4, 5, 6, 7, 8])))).message).toContain("has the type 'O8'");
    expect(failure(() => load(torchZip('\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.'))).message).toContain("encoded as 'rot13'");
    expect(failure(() => load(torchZip('\x80\x02c__builtin__\nlist\n)R.'))).code).toBe('unsupported');
  });

  it('refuses a view outside its storage', () => {
    expect(failure(() => load(torchZip(tensorPickle('K\x08', 1, 'K\x08', 'K\x01')))).message).toMatch(/reaches element 8 of a storage of 8/);
  });

  it('refuses a view that expands a few bytes into gigabytes', () => {
    const big = '\x8a\x05\x00\x00\x00\x00\x08'; // 2^35
    expect(failure(() => load(torchZip(tensorPickle('K\x08', 0, big, 'K\x00')))).message).toMatch(/expands to/);
  });

  it('refuses a storage whose size contradicts its entry', () => {
    expect(failure(() => load(torchZip(tensorPickle('K\x09', 0, 'K\x08', 'K\x01')))).message).toMatch(/needs 36 bytes, its entry has 32/);
  });

  it('notices a changed byte of a tensor', () => {
    const bytes = torchZip(tensorPickle('K\x08', 0, 'K\x08', 'K\x01'), new Uint8Array(32).fill(0xab));
    bytes[bytes.indexOf(0xab) + 3] = 0;
    expect(failure(() => [...torchTensors(load(bytes)).values()].map((t) => t.read())).message).toMatch(/CRC-32/);
  });

  it('does not blow up on containers that share containers', () => {
    // Each list holds the previous one twice: 2^60 leaves when walked as a tree.
    let pickle = '\x80\x04]\x94';
    for (let i = 0; i < 60; i++) pickle += `](h${String.fromCharCode(i)}h${String.fromCharCode(i)}e\x94`;
    const value = load(torchZip(`${pickle}.`));
    expect(failure(() => torchTensors(value)).code).toBe('corrupt');
    expect(failure(() => toPlain(value)).code).toBe('unsupported');
  });

  it('bounds repeated copies of one list', () => {
    const pickle = `\x80\x04](${'N'.repeat(5000)}e\x94${`c__builtin__\nset\nh\x00\x85R`.repeat(5000)}.`;
    expect(failure(() => load(torchZip(pickle))).message).toMatch(/over and over/);
  });

  it('says what a file is not', () => {
    expect(failure(() => load(Buffer.from('hello'))).message).toMatch(/not a file written by torch.save/);
    expect(failure(() => load(zipOf([{ name: 'a.txt', data: Buffer.from('x') }]))).message).toMatch(/0 entries data.pkl/);
    expect(failure(() => load(Buffer.from('\x80\x02K\x01.', 'latin1'))).message).toMatch(/does not start as torch.save/);
    expect(failure(() => withTorchFile('/nonexistent/x.pth', () => 0)).code).toBe('not_found');
  });
});
