/** What every random geometry needs: a source of uniform numbers, and Python's rounding. */

/** A source of uniform numbers in [0, 1). */
export type Uniform = () => number;

/** Python's round: halves go to the even neighbour. */
export function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}
