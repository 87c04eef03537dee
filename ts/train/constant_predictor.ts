import type { LossName } from '../simmim/losses';

/** The part of a recipe's loss that a constant is judged by; `maskedOnly` false counts visible pixels as well. */
export interface ConstantLossSpec {
  kind: LossName;
  beta: number;
  maskedOnly?: boolean;
}

/** Hidden share of each target pixel of sample `b`: mask [B, ...grid] at height x width, of which one divides the other. */
function hiddenShares(mask: Float32Array, b: number, [rows, columns]: readonly [number, number], height: number, width: number): Float64Array {
  const shares = new Float64Array(height * width);
  const [down, across] = [Math.max(1, rows / height), Math.max(1, columns / width)];
  for (let i = 0; i < shares.length; i++) {
    const top = Math.floor((Math.floor(i / width) * rows) / height);
    const left = Math.floor(((i % width) * columns) / width);
    let sum = 0;
    for (let y = top; y < top + down; y++) for (let x = left; x < left + across; x++) sum += mask[(b * rows + y) * columns + x] as number;
    shares[i] = sum / (down * across);
  }
  return shares;
}

/**
 * Loss of predicting, in each image and channel of `values` [B, C, R, S], one constant everywhere: the mean of the
 * visible target pixels, or for classes their frequencies (with one more count for each of `classes` classes).
 * `mask` [B, ...grid], 1 = hidden.
 */
export function constantLoss(values: ArrayLike<number>, shape: readonly [number, number, number, number], mask: Float32Array, grid: readonly [number, number], loss: ConstantLossSpec, classes = 0): number {
  const [batch, channels, height, width] = shape;
  const plane = height * width;
  const sum = { loss: 0, weight: 0 };
  for (let b = 0; b < batch; b++) {
    const hidden = hiddenShares(mask, b, grid, height, width);
    for (let c = 0; c < channels; c++) {
      const start = (b * channels + c) * plane;
      const at = (i: number): number => values[start + i] as number;
      const penalty = loss.kind === 'cross_entropy' ? classPenalty(at, hidden, classes) : colourPenalty(at, hidden, loss);
      for (let i = 0; i < plane; i++) {
        const weight = loss.maskedOnly === false ? 1 : (hidden[i] as number);
        if (weight === 0) continue;
        sum.loss += weight * penalty(at(i));
        sum.weight += weight;
      }
    }
  }
  return sum.weight > 0 ? sum.loss / sum.weight : 0;
}

function colourPenalty(at: (i: number) => number, hidden: Float64Array, { kind, beta }: ConstantLossSpec): (value: number) => number {
  let total = 0;
  let visible = 0;
  hidden.forEach((share, i) => {
    total += (1 - share) * at(i);
    visible += 1 - share;
  });
  const mean = visible > 0 ? total / visible : 0;
  return (value) => {
    const d = Math.abs(value - mean);
    if (kind === 'l2') return d * d;
    if (kind === 'smooth_l1') return d < beta ? (0.5 * d * d) / beta : d - 0.5 * beta;
    return d;
  };
}

function classPenalty(at: (i: number) => number, hidden: Float64Array, classes: number): (value: number) => number {
  const counts = new Float64Array(classes).fill(1);
  hidden.forEach((share, i) => (counts[at(i)] = (counts[at(i)] as number) + 1 - share));
  const total = counts.reduce((a, n) => a + n, 0);
  return (value) => Math.log(total / (counts[value] as number));
}
