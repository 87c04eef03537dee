import { describe, expect, it } from 'vitest';
import { SimmimError } from '../../ts/errors';
import { loadAddon, mailbox } from '../../ts/native';
import { Rng } from '../../ts/rng';

// Under AddressSanitizer with 100,000 calls: SIMMIM_FUZZ_CALLS=100000 scripts/test-sanitize.sh test/backend/mailbox_fuzz
const CALLS = Number(process.env.SIMMIM_FUZZ_CALLS ?? 5000);

interface Field {
  name: string;
  type: 'tensor' | 'ints' | 'boolean' | 'integer' | 'number';
  role: string;
  dtypes?: string[];
}
const DTYPE = ['f32', 'i32', 'u8', 'bf16'];

describe('the mailbox', () => {
  it(`takes ${CALLS} calls with wrong handles, ranks, sizes and types: an answer or a SimmimError, never a crash`, () => {
    const addon = loadAddon();
    const box = mailbox();
    const schema = JSON.parse(addon.schema()) as { name: string; fields: Field[]; ops?: string }[];
    const rng = new Rng(Number(process.env.SIMMIM_FUZZ_SEED ?? 1), 23);
    const integer = (n: number): number => Math.floor(rng.uniform() * n);
    const pick = <T>(list: readonly T[]): T => list[integer(list.length)] as T;
    const SIZE = 96;
    const live = DTYPE.map((_, t) => addon.allocate(t, SIZE));
    const stale = addon.allocate(0, 4);
    addon.release(stale);
    const before = addon.stats();
    let refused = 0;
    for (let n = 0; n < CALLS; n++) {
      const id = integer(schema.length + 1) - (rng.uniform() < 0.01 ? 1 : 0);
      const kernel = schema[id];
      // mostly plausible calls, so that checks behind the first ones are reached as well
      const wild = rng.uniform() < 0.3;
      const common = [1 + integer(3), 1 + integer(3), 1 + integer(3), 1 + integer(3), 1 + integer(2)];
      box.words.fill(0);
      let word = 0;
      let number = 0;
      const handles: number[] = [];
      for (const field of kernel?.fields ?? []) {
        if (field.type === 'tensor') {
          const output = field.role === 'out' || field.role === 'optional_out';
          const dtype = wild && rng.uniform() < 0.2 ? integer(6) - 1 : DTYPE.indexOf(pick(field.dtypes ?? DTYPE));
          let handle = output ? 0 : (live[dtype] ?? (live[0] as number));
          if (wild && rng.uniform() < 0.15) handle = pick([0, -1, stale, 12345, -7, 2147483647, live[0] as number]);
          const rank = wild && rng.uniform() < 0.1 ? pick([-1, 9, 100, 0]) : integer(6);
          box.words[word] = handle;
          box.words[word + 1] = dtype;
          box.words[word + 2] = rank;
          if (output) handles.push(word);
          word += 3;
          // nothing large for outputs: a kernel that makes what it is asked for would fill gigabytes
          const odd = output ? [-1, 0, 64] : [-1, 0, 2147483647, 1000];
          for (let i = 0; i < Math.min(Math.max(rank, 0), 8); i++) box.words[word++] = wild && rng.uniform() < 0.1 ? pick(odd) : (common[i % common.length] as number);
        } else if (field.type === 'ints') {
          const length = wild && rng.uniform() < 0.1 ? pick([-1, 25, 1e9, NaN]) : integer(13);
          box.numbers[number++] = length;
          for (let i = 0; i < Math.min(Math.max(length || 0, 0), 24); i++) box.numbers[number++] = wild && rng.uniform() < 0.1 ? pick([-1, 1e15, NaN, Infinity, 0.5]) : integer(4);
        } else {
          box.numbers[number++] = wild && rng.uniform() < 0.1 ? pick([-1, 1e15, NaN, Infinity, -Infinity, 0.5, 2147483648]) : integer(field.name === 'op' ? 40 : 4);
        }
      }
      try {
        addon.call(id);
        for (const at of handles) if ((box.words[at] as number) > 0 && !live.includes(box.words[at] as number)) addon.release(box.words[at] as number);
      } catch (error) {
        if (!(error instanceof SimmimError)) throw error;
        refused++;
        for (const at of handles) if ((box.words[at] as number) > 0 && !live.includes(box.words[at] as number)) addon.release(box.words[at] as number);
      }
    }
    expect(refused).toBeGreaterThan(CALLS / 2);
    expect(refused).toBeLessThan(CALLS);
    expect(addon.stats().handles).toBe(before.handles);
    expect(addon.stats().live).toBe(before.live);
  });
});
