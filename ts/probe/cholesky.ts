import { SimmimError } from '../errors';

/** Factor L of a symmetric positive definite matrix A = L L^T, [n, n] row-major; the upper part is left zero. */
export function cholesky(a: Float64Array, n: number): Float64Array {
  const l = new Float64Array(n * n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column <= row; column++) {
      let sum = a[row * n + column] as number;
      for (let k = 0; k < column; k++) sum -= (l[row * n + k] as number) * (l[column * n + k] as number);
      if (row !== column) l[row * n + column] = sum / (l[column * n + column] as number);
      else if (sum > 0) l[row * n + row] = Math.sqrt(sum);
      else throw new SimmimError('internal', 'cholesky', `the matrix of ${n} rows is not positive definite: pivot ${row} is ${sum}`);
    }
  }
  return l;
}

/** Solves L L^T x = b in place, for the n values of b from `at` on. */
export function solveCholesky(l: Float64Array, n: number, b: Float64Array, at: number): void {
  for (let i = 0; i < n; i++) {
    let sum = b[at + i] as number;
    for (let k = 0; k < i; k++) sum -= (l[i * n + k] as number) * (b[at + k] as number);
    b[at + i] = sum / (l[i * n + i] as number);
  }
  for (let i = n - 1; i >= 0; i--) {
    const value = (b[at + i] as number) / (l[i * n + i] as number);
    b[at + i] = value;
    for (let k = 0; k < i; k++) b[at + k] = (b[at + k] as number) - (l[i * n + k] as number) * value; // row i of L is column i of its transpose
  }
}
