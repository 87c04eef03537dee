/** Half a float32 ulp at 1. */
export const EPS32 = 2 ** -24;

/** Half a bf16 ulp at 1. */
export const EPS_BF16 = 2 ** -9;

/** A number rounded to bf16 (to nearest even), as a double. */
export function toBf16(x: number): number {
  const word = new Uint32Array(Float32Array.of(x).buffer);
  const bits = word[0] as number;
  if (!Number.isFinite(x)) return x;
  word[0] = ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) << 16;
  return new Float32Array(word.buffer)[0] as number;
}

/** Largest magnitude, 0 for none. */
export function maxAbs(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i] as number));
  return most;
}

/** The first position where two arrays differ in a bit of their float32 values, as text; null when all agree. */
export function firstBitDifference(a: Float32Array | Int32Array, b: Float32Array | Int32Array): string | null {
  if (a.length !== b.length) return `lengths ${a.length} and ${b.length}`;
  const [x, y] = [a, b].map((v) => new Uint32Array(v.buffer, v.byteOffset, v.length)) as [Uint32Array, Uint32Array];
  for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return `element ${i}: ${a[i]} and ${b[i]}`;
  return null;
}
