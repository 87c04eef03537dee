import * as tf from '@tensorflow/tfjs-core';
import { Rng } from '../../ts/rng';

type Dtype = 'float32' | 'int32' | 'bool';

/** Host data from which each backend makes its own tensor. */
export interface Drawn {
  shape: number[];
  dtype: Dtype;
  label: string;
  values: number[];
  make(): tf.Tensor;
}

interface Wanted {
  shape?: number[];
  dtype?: Dtype;
  minRank?: number;
  maxRank?: number;
  /** Allow dimensions of size 0 (default true). */
  empty?: boolean;
  /** NaN, infinities, signed zeros among the floats. */
  special?: boolean;
  /** Values near 1. */
  small?: boolean;
}

/** The same tensor as a piece of a larger one, or as the transpose of its transpose. */
function laidOut(values: number[], shape: number[], dtype: Dtype, laid: 'plain' | 'sliced' | 'transposed'): tf.Tensor {
  if (laid === 'plain' || shape.length === 0) return tf.tensor(values, shape, dtype);
  const [first, ...rest] = shape as [number, ...number[]];
  const row = rest.reduce((n, d) => n * d, 1);
  if (laid === 'sliced') return tf.slice(tf.tensor([...new Array<number>(row).fill(1), ...values, ...new Array<number>(row).fill(1)], [first + 2, ...rest], dtype), [1, ...rest.map(() => 0)], shape);
  const turned = Array.from({ length: values.length }, (_, i) => values[(i % first) * row + Math.floor(i / first)] as number);
  return tf.transpose(tf.tensor(turned, [...rest, first], dtype), [shape.length - 1, ...rest.map((_, i) => i)]);
}

/** Seeded random test cases: the same number gives the same case. */
export class Draw {
  private readonly rng: Rng;
  readonly keep: boolean;
  constructor(number: number) {
    this.rng = new Rng(number, 17);
    this.keep = this.chance(0.5);
  }
  integer(below: number): number {
    return Math.floor(this.rng.uniform() * below);
  }
  chance(p: number): boolean {
    return this.rng.uniform() < p;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.integer(list.length)] as T;
  }
  shuffled(n: number): number[] {
    const out = Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [out[i], out[j]] = [out[j] as number, out[i] as number];
    }
    return out;
  }
  private dimension(empty: boolean): number {
    return empty && this.chance(0.03) ? 0 : this.pick([1, 1, 2, 3, 4]);
  }

  tensor(w: Wanted = {}): Drawn {
    const { minRank = 0, maxRank = 6, empty = true } = w;
    const shape = w.shape ?? Array.from({ length: minRank + this.integer(maxRank - minRank + 1) }, () => this.dimension(empty));
    // now and then a long row, so that vectors have bodies and tails
    if (!w.shape && shape.length > 0 && this.chance(0.2)) shape[shape.length - 1] = 17 + this.integer(50);
    const dtype = w.dtype ?? this.pick(['float32', 'float32', 'int32', 'bool'] as const);
    const size = shape.reduce((n, d) => n * d, 1);
    const values = Array.from({ length: size }, () => this.value(dtype, w));
    const laid = this.pick(['plain', 'plain', 'sliced', 'transposed'] as const);
    return { shape, dtype, label: `${laid} ${dtype}[${shape}]`, values, make: () => laidOut(values, shape, dtype, laid) };
  }
  /** A size from 1 to `most`, now and then `large`, so that work is shared out among threads. */
  size(most: number, large = 40): number {
    return this.chance(0.03) ? large : 1 + this.integer(most);
  }
  private value(dtype: Dtype, w: Wanted): number {
    if (dtype === 'bool') return this.integer(2);
    if (dtype === 'int32') return w.small ? this.integer(3) : this.integer(17) - 8;
    if (w.special && this.chance(0.1)) return this.pick([NaN, Infinity, -Infinity, 0, -0, 1, -1, 0.5, -0.5, 2.5]);
    const v = Math.fround((this.rng.uniform() - 0.5) * 8);
    return w.small ? Math.fround(1 + v / 32) : v;
  }

  /** Two tensors that broadcast against each other, of one dtype. */
  broadcastPair(): [Drawn, Drawn] {
    const dtype = this.pick(['float32', 'float32', 'int32'] as const);
    const full = this.tensor({ dtype, special: true });
    const shape = full.shape.slice(this.integer(full.shape.length + 1)).map((d) => (this.chance(0.3) ? 1 : d));
    const other = this.tensor({ shape, dtype, special: true });
    const thinned = this.tensor({ shape: full.shape.map((d) => (this.chance(0.15) ? 1 : d)), dtype, special: true });
    return this.chance(0.5) ? [thinned, other] : [other, thinned];
  }
}
