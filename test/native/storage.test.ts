import { afterEach, describe, expect, test } from 'vitest';
import { SimmimError } from '../../ts/errors';
import { kernels, loadAddon, mailbox } from '../../ts/native';

const addon = mailbox().addon;

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(SimmimError);
    return `${(error as SimmimError).code} ${(error as SimmimError).message}`;
  }
  return 'no error';
}

afterEach(() => {
  addon.failAllocationAt(0);
  expect(addon.stats().handles).toBe(0);
});

describe('handles', () => {
  test('values come back as written, and the generation makes a stale handle an error', () => {
    const handle = addon.upload(0, Float32Array.of(1, -2, 3.5), 3);
    const target = new Float32Array(3);
    addon.readInto(handle, target);
    expect([...target]).toEqual([1, -2, 3.5]);
    expect(addon.release(handle)).toBe(true);
    expect(addon.release(handle)).toBe(false);
    expect(code(() => addon.readInto(handle, target))).toMatch(/^disposed readInto: the tensor of handle \d+ was disposed/);
  });

  test.each([0, -1, 7, 2 ** 31 - 1, -(2 ** 31), NaN])('the made-up handle %s is an error', (handle) => {
    expect(code(() => addon.readInto(handle, new Float32Array(1)))).toMatch(/^disposed/);
    expect(addon.release(handle)).toBe(false);
  });

  test('what the mailbox is told to release is gone at the next call, stale and made-up handles among it are passed over', () => {
    const handles = Array.from({ length: 600 }, () => addon.allocate(0, 4)); // more than it holds
    expect(addon.stats().handles).toBe(600);
    for (const handle of handles) mailbox().release(handle);
    for (const handle of [handles[0] as number, 0, -1, 2 ** 31 - 1]) mailbox().release(handle);
    expect(code(() => addon.readInto(handles[599] as number, new Float32Array(1)))).toMatch(/^disposed/);
    expect(addon.stats().handles).toBe(0);
  });

  test('a host array shorter than the tensor leaves zeros', () => {
    const floats = addon.upload(0, Float32Array.of(5), 3);
    const ints = addon.upload(1, new Int32Array(0), 2);
    const f = new Float32Array(3);
    const i = new Int32Array(2).fill(9);
    addon.readInto(floats, f);
    addon.readInto(ints, i);
    expect([...f]).toEqual([5, 0, 0]);
    expect([...i]).toEqual([0, 0]);
    addon.release(floats);
    addon.release(ints);
  });

  test('a view sees the parent and keeps its memory alive', () => {
    const parent = addon.upload(0, Float32Array.of(0, 1, 2, 3), 4);
    const view = addon.view(parent, 4, 8, 0);
    addon.release(parent);
    const seen = new Float32Array(2);
    addon.readInto(view, seen);
    expect([...seen]).toEqual([1, 2]);
    expect(code(() => addon.view(view, 4, 8, 0))).toMatch(/^invalid_argument view: bytes 4\.\.12 lie outside/);
    addon.release(view);
  });

  test('reading or writing beyond the storage is refused', () => {
    const handle = addon.upload(0, new Float32Array(2), 2);
    expect(code(() => addon.readInto(handle, new Float32Array(3)))).toMatch(/12 bytes wanted from a storage of 8/);
    expect(code(() => addon.writeInto(handle, new Float32Array(2), 4))).toMatch(/do not fit/);
    addon.release(handle);
  });
});

describe('arena', () => {
  test('memory is reused, not given back, and the statistics say so', () => {
    addon.release(addon.allocate(0, 1000));
    const before = addon.stats();
    for (let i = 0; i < 100; i++) addon.release(addon.allocate(0, 1000));
    const after = addon.stats();
    expect(after.systemAllocations).toBe(before.systemAllocations);
    expect(after.live).toBe(before.live);
    addon.trim();
    expect(addon.stats().cached).toBe(0);
  });

  test.each([1, 2])('a failing allocation number %i of a kernel call leaves nothing behind', (n) => {
    const first = { storage: { handle: 0, dtype: 'f32' as const }, shape: [16] };
    const live = addon.stats().live;
    addon.failAllocationAt(n);
    const message = code(() => {
      kernels.fill({ y: first, value: 1 });
      kernels.fill({ y: { storage: { handle: 0, dtype: 'f32' }, shape: [16] }, value: 1 });
    });
    expect(message).toMatch(/^out_of_memory fill: allocation of 64 bytes failed/);
    if (first.storage.handle) addon.release(first.storage.handle);
    expect(addon.stats().live).toBe(live);
  });
});

describe('mailbox', () => {
  test('a missing, negative or oversized argument is an error naming it', () => {
    expect(code(() => kernels.fill({ y: { storage: { handle: 0, dtype: 'f32' }, shape: [-1] }, value: 0 }))).toBe('invalid_argument fill: y has the negative dimension -1');
    expect(code(() => kernels.fill({ y: { storage: { handle: 0, dtype: 'f32' }, shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] }, value: 0 }))).toMatch(/y has rank 9, expected 0 to 8/);
    expect(code(() => kernels.fill({ y: { storage: { handle: 0, dtype: 'f32' }, shape: [2e9, 2e9] }, value: 0 }))).toMatch(/y would have 4e\+18 elements/);
    const small = { handle: addon.allocate(0, 2), dtype: 'f32' as const };
    expect(code(() => kernels.fill({ y: { storage: small, shape: [3] }, value: 0 }))).toMatch(/y of 12 bytes does not fit its storage of 8 bytes/);
    addon.release(small.handle);
    expect(code(() => loadAddon().call(9999))).toMatch(/there is no kernel number 9999/);
  });
});
