/**
 * Philox 4x32-10 (Salmon et al., SC 2011), the counter-based generator behind every random number of
 * simmim: masks, drop path, crops, initialisation. A draw is a pure function of (seed, site, step,
 * index), so resume, recompute and other devices give the same bits (twin: native/core/rng.h).
 */

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(carry / 65536)) >>> 0;
}

/**
 * Four uint32 words for key (seed, site) and counter (index low, index high, step, 0).
 * `seed`, `site` and `step` are taken modulo 2^32; `index` may be up to 2^53.
 */
export function philox(seed: number, site: number, step: number, index: number): [number, number, number, number] {
  let k0 = seed >>> 0;
  let k1 = site >>> 0;
  let c0 = index >>> 0;
  let c1 = Math.floor(index / 4294967296) >>> 0;
  let c2 = step >>> 0;
  let c3 = 0;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0, c0);
    const low0 = Math.imul(M0, c0) >>> 0;
    const high1 = mulHigh(M1, c2);
    const low1 = Math.imul(M1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** A uint32 word as a uniform number in [0, 1): its upper 24 bits / 2^24, exact in float32. */
export function uniformFromWord(word: number): number {
  return (word >>> 8) / 16777216;
}

/** A host-side stream of Philox draws; `state` is the whole state, for checkpoints. */
export class Rng {
  private words: [number, number, number, number] = [0, 0, 0, 0];
  private position = 0;

  constructor(
    readonly seed: number,
    readonly site = 0,
    readonly step = 0,
  ) {}

  /** Draws so far; assign to rewind or resume. */
  get state(): number {
    return this.position;
  }
  set state(position: number) {
    this.position = position;
    if (position % 4 !== 0) this.words = philox(this.seed, this.site, this.step, Math.floor(position / 4));
  }

  uint32(): number {
    const lane = this.position % 4;
    if (lane === 0) this.words = philox(this.seed, this.site, this.step, this.position / 4);
    this.position++;
    return this.words[lane] as number;
  }

  /** Uniform in [0, 1) with 24 bits. */
  uniform(): number {
    return uniformFromWord(this.uint32());
  }

  /** Uniform integer in [0, n), n <= 2^32, without modulo bias. */
  below(n: number): number {
    const limit = 4294967296 - (4294967296 % n);
    for (;;) {
      const word = this.uint32();
      if (word < limit) return word % n;
    }
  }

  /** Standard normal by Box-Muller (one draw per call: cosine branch). */
  normal(): number {
    const u = (this.uint32() + 1) / 4294967296;
    const v = this.uint32() / 4294967296;
    return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
  }
}
