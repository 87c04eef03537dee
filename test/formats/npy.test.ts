import { describe, expect, it } from 'vitest';
import { encodeNpy, parseNpy } from '../../ts/formats/npy';
import { DTYPE_BYTES, swapBytes, toNumbers, type RawTensor, type StoredDType } from '../../ts/formats/raw_tensor';

const raw = (dtype: StoredDType, shape: number[], bytes: Uint8Array): RawTensor => ({ dtype, shape, data: bytes });
function file(header: string, data: Uint8Array, version = 1): Buffer {
  const size = Buffer.alloc(version === 1 ? 2 : 4);
  if (version === 1) size.writeUInt16LE(header.length);
  else size.writeUInt32LE(header.length);
  return Buffer.concat([Buffer.from('\x93NUMPY', 'latin1'), Buffer.from([version, 0]), size, Buffer.from(header, 'latin1'), data]);
}
const header = (descr: string, shape: string, fortran = 'False'): string => `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': ${shape}, }\n`;

describe('npy', () => {
  const dtypes = (Object.keys(DTYPE_BYTES) as StoredDType[]).filter((dtype) => dtype !== 'BF16');
  it.each(dtypes)('writes and reads %s, in both byte orders', (dtype) => {
    const bytes = Uint8Array.from({ length: 6 * DTYPE_BYTES[dtype] }, (_, i) => (dtype === 'BOOL' ? i % 2 : (i * 37 + 11) % 120));
    const written = encodeNpy(raw(dtype, [2, 3], bytes));
    expect(written.length % 64).toBe(bytes.length % 64);
    expect(parseNpy(written)).toEqual(raw(dtype, [2, 3], bytes));
    if (DTYPE_BYTES[dtype] === 1) return;
    const swapped = new Uint8Array(bytes);
    swapBytes(swapped, DTYPE_BYTES[dtype]);
    const big = Buffer.from(written.subarray(0, written.length - bytes.length)).toString('latin1').replace("'<", "'>");
    expect(parseNpy(Buffer.concat([Buffer.from(big, 'latin1'), swapped]))).toEqual(raw(dtype, [2, 3], bytes));
  });

  it('turns Fortran order into C order, in every version', () => {
    for (const version of [1, 2, 3]) {
      const tensor = parseNpy(file(header('|u1', '(2, 3)', 'True'), Uint8Array.of(1, 4, 2, 5, 3, 6), version));
      expect(tensor.shape).toEqual([2, 3]);
      expect(Array.from(toNumbers(tensor))).toEqual([1, 2, 3, 4, 5, 6]);
    }
  });

  it('reads scalars, vectors and empty arrays', () => {
    expect(parseNpy(file(header('|u1', '()'), Uint8Array.of(7))).shape).toEqual([]);
    expect(parseNpy(file(header('|u1', '(2L,)'), Uint8Array.of(7, 8))).shape).toEqual([2]);
    expect(parseNpy(file(header('<f4', '(0, 5)'), new Uint8Array(0))).shape).toEqual([0, 5]);
    for (const shape of [[], [3], [0, 2]]) {
      const data = new Uint8Array(shape.reduce((a, b) => a * b, 1));
      expect(parseNpy(encodeNpy(raw('U8', shape, data))).shape).toEqual(shape);
    }
  });

  it.each([
    ['objects', file(header('|O', '(1,)'), new Uint8Array(8)), /unsupported|type '\|O'/],
    ['complex numbers', file(header('<c8', '(1,)'), new Uint8Array(8)), /type '<c8'/],
    ['structures', file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", new Uint8Array(4)), /structured/],
    ['a shape larger than the file', file(header('<f8', '(99999999999, 99999)'), new Uint8Array(8)), /needs .* bytes, the file has 8/],
    ['bytes left over', file(header('|u1', '(1,)'), new Uint8Array(2)), /needs 1 bytes, the file has 2/],
    ['other files', Buffer.from('PK\x03\x04 something else'), /signature/],
    ['an unknown version', file(header('|u1', '(1,)'), new Uint8Array(1), 9), /version 9/],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => parseNpy(bytes)).toThrow(message);
  });

  it('refuses to write bfloat16', () => {
    expect(() => encodeNpy(raw('BF16', [1], new Uint8Array(2)))).toThrow(/no numpy type/);
  });
});
