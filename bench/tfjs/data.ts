import type { Size, TfjsOp } from './ops';

/** Value i of input k, the same for every contestant (tensorflow_server.py: values). */
export function inputValues(op: TfjsOp, size: Size, k: number): Float32Array | Int32Array {
  const count = (op.shapes[size][k] as number[]).reduce((n, d) => n * d, 1);
  if (op.ids?.input === k) {
    const below = op.ids.below[size];
    return Int32Array.from({ length: count }, (_, i) => (i * 7919) % below);
  }
  const [low, high] = op.range ?? [-1, 1];
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = low + ((high - low) * (Math.sin(0.37 * (i % 65521) + k) + 1)) / 2;
  return values;
}

/** Weighted sum of a result and the sum of its magnitudes: equal results have equal checksums, within rounding of the second. */
export function checksum(y: ArrayLike<number>): [number, number] {
  let [sum, magnitude] = [0, 0];
  for (let i = 0; i < y.length; i++) {
    const v = y[i] as number;
    sum += v * Math.cos(0.61 * (i % 4093));
    magnitude += Math.abs(v);
  }
  return [sum, magnitude];
}
