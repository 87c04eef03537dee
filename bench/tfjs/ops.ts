import type * as Tf from '@tensorflow/tfjs-core';

/** Shapes of a case's inputs by size; the work is about 10^3, 10^6 and 10^7 elements, or as many multiply-adds as take as long. */
export type Size = 'small' | 'medium' | 'large';
export const SIZES: readonly Size[] = ['small', 'medium', 'large'];

/** One op of the comparison. rivals/tensorflow_server.py has its counterpart under the same name. */
export interface TfjsOp {
  name: string;
  shapes: Record<Size, number[][]>;
  /** Input values are sin, spread over (low, high) where given; ids are integers below `below`. */
  range?: [number, number];
  ids?: { input: number; below: Record<Size, number> };
  run(tf: typeof Tf, x: Tf.Tensor[]): Tf.Tensor;
}

type Run = TfjsOp['run'];
const ELEMENTS: Record<Size, number[]> = { small: [32, 32], medium: [1024, 1024], large: [4096, 2560] };
const sizes = (shapes: (base: number[]) => number[][]): Record<Size, number[][]> => ({ small: shapes(ELEMENTS.small), medium: shapes(ELEMENTS.medium), large: shapes(ELEMENTS.large) });

const unary = (name: string, run: Run, range?: [number, number]): TfjsOp => ({ name, shapes: sizes((s) => [s]), range, run });
const binary = (name: string, run: Run, range?: [number, number]): TfjsOp => ({ name, shapes: sizes((s) => [s, s]), range, run });
const square = (name: string, run: Run, n: [number, number, number]): TfjsOp => ({ name, run, shapes: { small: [[n[0], n[0]], [n[0], n[0]]], medium: [[n[1], n[1]], [n[1], n[1]]], large: [[n[2], n[2]], [n[2], n[2]]] } });
/** An image [N, H, W, C] and what else the op takes for C channels. */
const image = (name: string, run: Run, others: (channels: number) => number[][] = () => []): TfjsOp => ({
  name,
  run,
  shapes: { small: [[1, 8, 8, 8], ...others(8)], medium: [[4, 32, 32, 64], ...others(64)], large: [[16, 56, 56, 64], ...others(64)] },
});
const as4d = (x: Tf.Tensor | undefined): Tf.Tensor4D => x as Tf.Tensor4D;
const as2d = (x: Tf.Tensor | undefined): Tf.Tensor2D => x as Tf.Tensor2D;
const first = (x: Tf.Tensor[]): Tf.Tensor => x[0] as Tf.Tensor;
const second = (x: Tf.Tensor[]): Tf.Tensor => x[1] as Tf.Tensor;

/** Gradients of sum(f) for all inputs, joined, so that one tensor stands for them. */
function gradientsOf(tf: typeof Tf, f: (x: Tf.Tensor[]) => Tf.Tensor, x: Tf.Tensor[]): Tf.Tensor {
  return tf.concat(tf.grads((...inputs: Tf.Tensor[]) => tf.sum(f(inputs)) as Tf.Scalar)(x).map((g) => tf.reshape(g, [-1])));
}

function gelu(tf: typeof Tf, x: Tf.Tensor): Tf.Tensor {
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
}
function layerNorm(tf: typeof Tf, x: Tf.Tensor): Tf.Tensor {
  const mean = tf.mean(x, -1, true);
  const centered = tf.sub(x, mean);
  return tf.mul(centered, tf.rsqrt(tf.add(tf.mean(tf.square(centered), -1, true), 1e-5)));
}

export const TFJS_OPS: TfjsOp[] = [
  binary('add', (tf, x) => tf.add(first(x), second(x))),
  { name: 'add row', shapes: sizes(([r, c]) => [[r as number, c as number], [c as number]]), run: (tf, x) => tf.add(first(x), second(x)) },
  unary('add scalar', (tf, x) => tf.add(first(x), 1.5)),
  binary('multiply', (tf, x) => tf.mul(first(x), second(x))),
  binary('divide', (tf, x) => tf.div(first(x), second(x)), [1, 2]),
  binary('maximum', (tf, x) => tf.maximum(first(x), second(x))),
  binary('power', (tf, x) => tf.pow(first(x), second(x)), [0.5, 2]),
  binary('greater', (tf, x) => tf.greater(first(x), second(x))),
  binary('select', (tf, x) => tf.where(tf.greater(first(x), 0), first(x), second(x))),
  unary('cast to int', (tf, x) => tf.cast(first(x), 'int32'), [-9, 9]),
  unary('relu', (tf, x) => tf.relu(first(x))),
  unary('exp', (tf, x) => tf.exp(first(x))),
  unary('log', (tf, x) => tf.log(first(x)), [0.5, 9]),
  unary('sqrt', (tf, x) => tf.sqrt(first(x)), [0.5, 9]),
  unary('sigmoid', (tf, x) => tf.sigmoid(first(x))),
  unary('tanh', (tf, x) => tf.tanh(first(x))),
  unary('gelu of ops', (tf, x) => gelu(tf, first(x))),
  unary('sum', (tf, x) => tf.sum(first(x))),
  unary('sum of rows', (tf, x) => tf.sum(first(x), 1)),
  unary('mean of columns', (tf, x) => tf.mean(first(x), 0)),
  unary('max of rows', (tf, x) => tf.max(first(x), 1)),
  unary('argmax of rows', (tf, x) => tf.argMax(first(x), 1)),
  unary('softmax', (tf, x) => tf.softmax(first(x))),
  unary('cumsum', (tf, x) => tf.cumsum(first(x), 1)),
  { name: 'top 8', shapes: { small: [[32, 64]], medium: [[1024, 1024]], large: [[4096, 2560]] }, run: (tf, x) => tf.topk(first(x), 8).values },
  unary('layer norm of ops', (tf, x) => layerNorm(tf, first(x))),
  square('matmul', (tf, x) => tf.matMul(as2d(x[0]), as2d(x[1])), [16, 512, 1536]),
  square('matmul, b transposed', (tf, x) => tf.matMul(as2d(x[0]), as2d(x[1]), false, true), [16, 512, 1536]),
  square('matmul, a transposed', (tf, x) => tf.matMul(as2d(x[0]), as2d(x[1]), true, false), [16, 512, 1536]),
  { name: 'batched matmul', shapes: { small: [[4, 8, 8], [4, 8, 8]], medium: [[64, 49, 32], [64, 32, 49]], large: [[768, 49, 64], [768, 64, 49]] }, run: (tf, x) => tf.matMul(first(x), second(x)) },
  image('conv 3x3', (tf, x) => tf.conv2d(as4d(x[0]), as4d(x[1]), 1, 'same'), (c) => [[3, 3, c, c]]),
  image('conv 1x1', (tf, x) => tf.conv2d(as4d(x[0]), as4d(x[1]), 1, 'same'), (c) => [[1, 1, c, 2 * c]]),
  image('conv 3x3 gradients', (tf, x) => gradientsOf(tf, ([a, w]) => tf.square(tf.conv2d(as4d(a), as4d(w), 1, 'same')), x), (c) => [[3, 3, c, c]]),
  image('depthwise conv 3x3', (tf, x) => tf.depthwiseConv2d(as4d(x[0]), as4d(x[1]), 1, 'same'), (c) => [[3, 3, c, 1]]),
  image('max pool 2x2', (tf, x) => tf.maxPool(as4d(x[0]), 2, 2, 'valid')),
  image('average pool 3x3', (tf, x) => tf.avgPool(as4d(x[0]), 3, 1, 'same')),
  image('batch norm', (tf, x) => tf.batchNorm(as4d(x[0]), x[1] as Tf.Tensor1D, tf.add(x[2] as Tf.Tensor1D, 2), x[3] as Tf.Tensor1D, x[4] as Tf.Tensor1D), (c) => [[c], [c], [c], [c]]),
  image('resize bilinear', (tf, x) => tf.image.resizeBilinear(as4d(x[0]), [(x[0]?.shape[1] as number) * 2, (x[0]?.shape[2] as number) * 2])),
  unary('transpose', (tf, x) => tf.transpose(first(x))),
  { name: 'transpose 0213', shapes: { small: [[2, 7, 3, 8]], medium: [[64, 49, 4, 64]], large: [[64, 49, 12, 256]] }, run: (tf, x) => tf.transpose(first(x), [0, 2, 1, 3]) },
  unary('slice of columns', (tf, x) => tf.slice(first(x), [0, 1], [-1, ((x[0]?.shape[1] as number) >> 1) + 1])),
  binary('concat of columns', (tf, x) => tf.concat(x, 1)),
  unary('pad', (tf, x) => tf.pad(first(x), [[1, 1], [2, 2]])),
  unary('tile', (tf, x) => tf.tile(first(x), [2, 2])),
  unary('reverse of rows', (tf, x) => tf.reverse(first(x), 1)),
  { name: 'gather rows', shapes: { small: [[64, 16], [32]], medium: [[8192, 128], [8192]], large: [[65536, 160], [65536]] }, ids: { input: 1, below: { small: 64, medium: 8192, large: 65536 } }, run: (tf, x) => tf.gather(first(x), x[1] as Tf.Tensor1D) },
  { name: 'segment sum', shapes: { small: [[64, 16], [64]], medium: [[8192, 128], [8192]], large: [[65536, 160], [65536]] }, ids: { input: 1, below: { small: 8, medium: 64, large: 256 } }, run: (tf, x) => tf.unsortedSegmentSum(first(x), x[1] as Tf.Tensor1D, Math.max(8, Math.round(Math.sqrt(x[1]?.size as number)))) },
  { name: 'dense layer gradients', shapes: { small: [[8, 16], [16, 16], [16]], medium: [[256, 512], [512, 512], [512]], large: [[2304, 512], [512, 2048], [2048]] }, run: (tf, x) => gradientsOf(tf, ([a, w, b]) => tf.tanh(tf.add(tf.matMul(as2d(a), as2d(w)), b as Tf.Tensor)), x) },
];
