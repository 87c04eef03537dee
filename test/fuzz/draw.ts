import { Rng } from '../../ts/rng';

/** Draws of one turn of the fuzz: a function of seed and turn alone, so that any turn can be run by itself. */
export class Draw {
  private readonly rng: Rng;

  constructor(seed: number, turn: number) {
    this.rng = new Rng(seed, turn);
  }

  chance(probability: number): boolean {
    return this.rng.uniform() < probability;
  }
  /** An integer in [0, n). */
  below(n: number): number {
    return this.rng.below(Math.max(1, n));
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
  /** One of the functions, called. */
  oneOf<T>(...choices: (() => T)[]): T {
    return this.pick(choices)();
  }
  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.below(256));
  }
}

/** Numbers at the edges of what a program might mean. */
export const ODD_NUMBERS = [0, -0, 1, -1, 2, 0.5, -0.5, 3, 7, 255, 1e-40, 1e15, -1e15, 1e300, 2 ** 24 + 1, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), -(2 ** 31) - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53, 2 ** 63, NaN, Infinity, -Infinity] as const;

/** Sizes around those of registers, tiles and blocks. */
export const SMALL_SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 100] as const;
export const HUGE_SIZES = [1000, 46341, 65536, 1 << 20, 2 ** 30, 2 ** 31 - 1, -1, -(2 ** 31)] as const;
