import type * as Tf from '@tensorflow/tfjs-core';
import type { Draw, Drawn } from './draw';

type TfApi = typeof Tf;

/** A random call of one kernel: inputs that get a gradient, and the call, for whichever copy of tfjs. */
export interface GradientCase {
  inputs: Drawn[];
  f(tf: TfApi, ...inputs: Tf.Tensor[]): Tf.Tensor;
}
interface GradientEntry {
  draw(d: Draw): GradientCase;
  /** Why finite differences do not give core's gradient. */
  differs?: string;
  /** Whether core's own gradient function is wrong, and mended by us: the truth are finite differences alone. */
  mended?: boolean;
}

const PADDED = "the cpu backend's gradient divides by the whole window where it overlaps the padding, its result by what lies inside";
const STEPS = 'a step function, whose gradient tfjs defines otherwise';

const float = (d: Draw, shape?: number[]): Drawn => d.tensor({ dtype: 'float32', shape, maxRank: 4, empty: false });
/** Values mapped into the domain of a function. */
function mapped(drawn: Drawn, to: (v: number) => number): Drawn {
  return { ...drawn, values: drawn.values.map((v) => Math.fround(to(v))) };
}
/** v in (-4, 4) to (low, high). */
const between = (low: number, high: number) => (v: number): number => low + ((v + 4) / 8) * (high - low) * 0.98 + 0.01 * (high - low);

function unary(f: (tf: TfApi, x: Tf.Tensor) => Tf.Tensor, domain: (v: number) => number = (v) => v, differs?: string): GradientEntry {
  return { differs, draw: (d) => ({ inputs: [mapped(float(d), domain)], f }) };
}

/** Two shapes that broadcast against each other. */
function pair(d: Draw): [Drawn, Drawn] {
  const full = float(d);
  const other = float(d, full.shape.slice(d.integer(full.shape.length + 1)).map((n) => (d.chance(0.3) ? 1 : n)));
  const thinned = float(d, full.shape.map((n) => (d.chance(0.15) ? 1 : n)));
  return d.chance(0.5) ? [thinned, other] : [other, thinned];
}
function binary(f: (tf: TfApi, a: Tf.Tensor, b: Tf.Tensor) => Tf.Tensor, domain: (v: number) => number = (v) => v, differs?: string): GradientEntry {
  return { differs, draw: (d) => ({ inputs: pair(d).map((x) => mapped(x, domain)), f }) };
}
const awayFromZero = (v: number): number => (v < 0 ? v - 0.5 : v + 0.5);

function reduction(f: (tf: TfApi, x: Tf.Tensor, axes: number[] | undefined, keep: boolean) => Tf.Tensor, domain?: (v: number) => number): GradientEntry {
  return {
    draw: (d) => {
      const x = mapped(float(d), domain ?? ((v) => v));
      const axes = d.chance(0.3) ? undefined : x.shape.map((_, i) => i).filter(() => d.chance(0.5));
      const keep = d.chance(0.5);
      return { inputs: [x], f: (tf, t) => f(tf, t, axes, keep) };
    },
  };
}

/** A window over an image of [2, 6..9, 6..9, C]. */
function image(d: Draw): { x: Drawn; size: [number, number]; stride: number; pad: 'same' | 'valid'; channels: number } {
  const channels = 1 + d.integer(3);
  return { x: float(d, [1 + d.integer(2), 6 + d.integer(3), 6 + d.integer(3), channels]), size: [1 + d.integer(3), 1 + d.integer(3)], stride: 1 + d.integer(2), pad: d.pick(['same', 'valid'] as const), channels };
}
function pooling(f: (tf: TfApi, x: Tf.Tensor4D, size: [number, number], stride: number, pad: 'same' | 'valid') => Tf.Tensor, differs?: string): GradientEntry {
  return { differs, draw: (d) => { const { x, size, stride, pad } = image(d); return { inputs: [x], f: (tf, t) => f(tf, t as Tf.Tensor4D, size, stride, pad) }; } };
}
function volume(f: (tf: TfApi, x: Tf.Tensor5D, size: number, stride: number, pad: 'same' | 'valid') => Tf.Tensor, differs?: string): GradientEntry {
  return {
    differs,
    draw: (d) => {
      const [size, stride, pad] = [1 + d.integer(2), 1 + d.integer(2), d.pick(['same', 'valid'] as const)];
      return { inputs: [float(d, [1, 3 + d.integer(2), 3 + d.integer(2), 3 + d.integer(2), 1 + d.integer(2)])], f: (tf, t) => f(tf, t as Tf.Tensor5D, size, stride, pad) };
    },
  };
}
/** A rearrangement of one tensor; `f` may draw its parameters from the shape. */
function movement(f: (d: Draw, shape: number[]) => (tf: TfApi, x: Tf.Tensor) => Tf.Tensor, shape?: (d: Draw) => number[], differs?: string): GradientEntry {
  return { differs, draw: (d) => { const x = d.tensor({ dtype: 'float32', shape: shape?.(d), minRank: 1, maxRank: 4, empty: false }); return { inputs: [x], f: f(d, x.shape) }; } };
}
const resize = (align: 'resizeBilinear' | 'resizeNearestNeighbor'): GradientEntry => ({
  draw: (d) => {
    const side = 5 + d.integer(4); // the cpu backend, which is the reference, is wrong for several images or sides that differ
    const x = float(d, [1, side, side, 1 + d.integer(3)]);
    const [size, corners]: [[number, number], boolean] = [[2 + d.integer(10), 2 + d.integer(10)], d.chance(0.5)];
    return { inputs: [x], f: (tf, t) => tf.image[align](t as Tf.Tensor4D, size, corners) };
  },
});

/** Every kernel that tfjs-core has a gradient for, but those of UNREACHABLE. */
export const GRADIENTS: Record<string, GradientEntry> = {
  Abs: unary((tf, x) => tf.abs(x)),
  Acos: unary((tf, x) => tf.acos(x), between(-0.9, 0.9)),
  Acosh: unary((tf, x) => tf.acosh(x), between(1.1, 6)),
  Asin: unary((tf, x) => tf.asin(x), between(-0.9, 0.9)),
  Asinh: unary((tf, x) => tf.asinh(x)),
  Atan: unary((tf, x) => tf.atan(x)),
  Atanh: unary((tf, x) => tf.atanh(x), between(-0.9, 0.9)),
  Cast: unary((tf, x) => tf.add(tf.cast(tf.cast(x, 'int32'), 'float32'), x), undefined, STEPS),
  Ceil: unary((tf, x) => tf.ceil(x)),
  ClipByValue: unary((tf, x) => tf.clipByValue(x, -1, 2)),
  Cos: unary((tf, x) => tf.cos(x)),
  Cosh: unary((tf, x) => tf.cosh(x)),
  Elu: unary((tf, x) => tf.elu(x)),
  Erf: unary((tf, x) => tf.erf(x)),
  Exp: unary((tf, x) => tf.exp(x)),
  Expm1: unary((tf, x) => tf.expm1(x)),
  Floor: unary((tf, x) => tf.floor(x)),
  Identity: unary((tf, x) => tf.clone(x)),
  IsFinite: unary((tf, x) => tf.isFinite(x)),
  IsInf: unary((tf, x) => tf.isInf(x)),
  IsNan: unary((tf, x) => tf.isNaN(x)),
  LeakyRelu: unary((tf, x) => tf.leakyRelu(x, 0.3)),
  Log: unary((tf, x) => tf.log(x), between(0.1, 5)),
  Log1p: unary((tf, x) => tf.log1p(x), between(-0.9, 5)),
  Neg: unary((tf, x) => tf.neg(x)),
  OnesLike: unary((tf, x) => tf.onesLike(x)),
  Reciprocal: unary((tf, x) => tf.reciprocal(x), awayFromZero),
  Relu: unary((tf, x) => tf.relu(x)),
  Relu6: unary((tf, x) => tf.relu6(tf.mul(x, 2))),
  Round: unary((tf, x) => tf.round(x)),
  Rsqrt: unary((tf, x) => tf.rsqrt(x), between(0.2, 5)),
  Selu: unary((tf, x) => tf.selu(x)),
  Sigmoid: unary((tf, x) => tf.sigmoid(x)),
  Sign: unary((tf, x) => tf.sign(x)),
  Sin: unary((tf, x) => tf.sin(x)),
  Sinh: unary((tf, x) => tf.sinh(x)),
  Softplus: unary((tf, x) => tf.softplus(x)),
  Sqrt: unary((tf, x) => tf.sqrt(x), between(0.2, 5)),
  Square: unary((tf, x) => tf.square(x)),
  Step: unary((tf, x) => tf.step(x, 0.2)),
  Tan: unary((tf, x) => tf.tan(x), between(-1.2, 1.2)),
  Tanh: unary((tf, x) => tf.tanh(x)),
  ZerosLike: unary((tf, x) => tf.zerosLike(x)),

  Add: binary((tf, a, b) => tf.add(a, b)),
  Atan2: binary((tf, a, b) => tf.atan2(a, b), awayFromZero),
  FloorDiv: binary((tf, a, b) => tf.floorDiv(a, b), awayFromZero, STEPS),
  GreaterEqual: binary((tf, a, b) => tf.greaterEqual(a, b)),
  Maximum: { ...binary((tf, a, b) => tf.maximum(a, b)), mended: true },
  Minimum: { ...binary((tf, a, b) => tf.minimum(a, b)), mended: true },
  Mod: binary((tf, a, b) => tf.mod(a, b), awayFromZero),
  Multiply: binary((tf, a, b) => tf.mul(a, b)),
  Pow: binary((tf, a, b) => tf.pow(a, b), between(0.3, 2)),
  RealDiv: binary((tf, a, b) => tf.div(a, b), awayFromZero),
  SquaredDifference: { ...binary((tf, a, b) => tf.squaredDifference(a, b)), mended: true },
  Sub: binary((tf, a, b) => tf.sub(a, b)),
  Prelu: {
    draw: (d) => {
      const x = float(d, [2, 3, 4]);
      return { inputs: [x, float(d, d.pick([[2, 3, 4], [3, 4], [4], [1]]))], f: (tf, t, alpha) => tf.prelu(t, alpha) };
    },
  },
  AddN: { draw: (d) => { const first = float(d); return { inputs: [first, float(d, first.shape), float(d, first.shape)], f: (tf, ...all) => tf.addN(all) }; } },
  Select: {
    draw: (d) => {
      const a = float(d, [1 + d.integer(4), 1 + d.integer(4)]);
      const condition = d.tensor({ dtype: 'bool', shape: a.shape });
      return { inputs: [a, float(d, a.shape)], f: (tf, p, q) => tf.where(tf.tensor(condition.values, condition.shape, 'bool'), p, q) };
    },
  },

  Max: reduction((tf, x, axes, keep) => tf.max(x, axes, keep)),
  Mean: reduction((tf, x, axes, keep) => tf.mean(x, axes, keep)),
  Min: reduction((tf, x, axes, keep) => tf.min(x, axes, keep)),
  Prod: reduction((tf, x, axes, keep) => tf.prod(x, axes, keep), between(0.7, 1.3)),
  Sum: reduction((tf, x, axes, keep) => tf.sum(x, axes, keep)),
  ArgMax: movement((d, shape) => { const axis = d.integer(shape.length); return (tf, x) => tf.argMax(x, axis); }),
  ArgMin: movement((d, shape) => { const axis = d.integer(shape.length); return (tf, x) => tf.argMin(x, axis); }),
  Softmax: movement(() => (tf, x) => tf.softmax(x)),
  Cumsum: { ...movement((d, shape) => { const [axis, exclusive, reverse] = [d.integer(shape.length), d.chance(0.5), d.chance(0.5)]; return (tf, x) => tf.cumsum(x, axis, exclusive, reverse); }), mended: true },

  ExpandDims: movement((d, shape) => { const axis = d.integer(shape.length + 1); return (tf, x) => tf.expandDims(x, axis); }),
  Reshape: movement(() => (tf, x) => tf.reshape(x, [-1])),
  Reverse: movement((d, shape) => { const axes = shape.map((_, i) => i).filter(() => d.chance(0.5)); return (tf, x) => tf.reverse(x, axes); }),
  Slice: movement((d, shape) => {
    const begin = shape.map((n) => d.integer(n));
    const size = shape.map((n, i) => 1 + d.integer(n - (begin[i] as number)));
    return (tf, x) => tf.slice(x, begin, size);
  }),
  Tile: movement((d, shape) => { const reps = shape.map(() => 1 + d.integer(3)); return (tf, x) => tf.tile(x, reps); }),
  Transpose: movement((d, shape) => { const perm = d.shuffled(shape.length); return (tf, x) => tf.transpose(x, perm); }),
  PadV2: movement((d, shape) => { const by = shape.map(() => [d.integer(3), d.integer(3)] as [number, number]); return (tf, x) => tf.pad(x, by, 7); }),
  MirrorPad: movement((d) => { const mode = d.pick(['reflect', 'symmetric'] as const); return (tf, x) => tf.mirrorPad(x, [[1, 1], [0, 1]], mode); }, (d) => [2 + d.integer(3), 2 + d.integer(3)], 'core leaves out what the mirrored elements add'),
  SplitV: movement((d) => { const first = 1 + d.integer(3); return (tf, x) => tf.concat((tf.split(x, [first, 4 - first], 1) as Tf.Tensor[]).map((t, i) => tf.mul(t, i + 1)), 1); }, (d) => [1 + d.integer(3), 4]),
  Unpack: { ...movement((d, shape) => { const axis = d.integer(shape.length); return (tf, x) => tf.addN(tf.unstack(x, axis).map((t, i) => tf.mul(t, i + 1))); }), mended: true },
  Pack: { draw: (d) => { const x = float(d); const axis = d.integer(x.shape.length + 1); return { inputs: [x, float(d, x.shape)], f: (tf, ...all) => tf.stack(all, axis) }; } },
  Concat: { draw: (d) => { const x = float(d, [1 + d.integer(3), 1 + d.integer(3), 2]); return { inputs: [x, float(d, [x.shape[0] as number, 1 + d.integer(4), 2])], f: (tf, ...all) => tf.concat(all, 1) }; } },
  SpaceToBatchND: movement(() => (tf, x) => tf.spaceToBatchND(x, [2, 2], [[0, 0], [1, 1]]), (d) => [1 + d.integer(2), 4, 4, 1 + d.integer(2)]),
  BatchToSpaceND: movement(() => (tf, x) => tf.batchToSpaceND(x, [2, 2], [[0, 1], [1, 0]]), (d) => [4 * (1 + d.integer(2)), 2, 3, 1 + d.integer(2)]),

  GatherV2: movement((d, shape) => {
    const axis = d.integer(shape.length);
    const indices = Array.from({ length: 1 + d.integer(4) }, () => d.integer(shape[axis] as number));
    return (tf, x) => tf.gather(x, tf.tensor1d(indices, 'int32'), axis);
  }),
  UnsortedSegmentSum: movement((d, shape) => { const ids = Array.from({ length: shape[0] as number }, () => d.integer(3)); return (tf, x) => tf.unsortedSegmentSum(x, tf.tensor1d(ids, 'int32'), 3); }),
  OneHot: movement(() => (tf, x) => tf.oneHot(tf.cast(x, 'int32') as Tf.Tensor1D, 3), (d) => [1 + d.integer(4)], STEPS),

  BatchMatMul: {
    mended: true,
    draw: (d) => {
      const [batch, m, k, n] = [1 + d.integer(3), 1 + d.integer(5), 1 + d.integer(5), 1 + d.integer(5)];
      const [ta, tb, shared] = [d.chance(0.5), d.chance(0.5), d.chance(0.3)];
      return { inputs: [float(d, [batch, ...(ta ? [k, m] : [m, k])]), float(d, [shared ? 1 : batch, ...(tb ? [n, k] : [k, n])])], f: (tf, a, b) => tf.matMul(a, b, ta, tb) };
    },
  },
  Conv2D: { draw: (d) => { const { x, size, stride, pad, channels } = image(d); return { inputs: [x, float(d, [...size, channels, 1 + d.integer(3)])], f: (tf, t, w) => tf.conv2d(t as Tf.Tensor4D, w as Tf.Tensor4D, stride, pad) }; } },
  Conv2DBackpropInput: {
    draw: (d) => {
      const { x, size, stride, channels } = image(d);
      const [batch, height, width] = x.shape as [number, number, number];
      const depth = 1 + d.integer(3);
      return { inputs: [x, float(d, [...size, depth, channels])], f: (tf, t, w) => tf.conv2dTranspose(t as Tf.Tensor4D, w as Tf.Tensor4D, [batch, height * stride, width * stride, depth], stride, 'same') };
    },
  },
  Conv3D: { draw: (d) => { const x = float(d, [1, 3 + d.integer(2), 4, 4, 2]); const [stride, pad] = [1 + d.integer(2), d.pick(['same', 'valid'] as const)]; return { inputs: [x, float(d, [2, 1 + d.integer(2), 2, 2, 2])], f: (tf, t, w) => tf.conv3d(t as Tf.Tensor5D, w as Tf.Tensor5D, stride, pad) }; } },
  DepthwiseConv2dNative: { draw: (d) => { const { x, size, stride, pad, channels } = image(d); return { inputs: [x, float(d, [...size, channels, 1 + d.integer(2)])], f: (tf, t, w) => tf.depthwiseConv2d(t as Tf.Tensor4D, w as Tf.Tensor4D, stride, pad) }; } },
  Dilation2D: { draw: (d) => { const { x, size, stride, pad, channels } = image(d); return { inputs: [x, float(d, [...size, channels])], f: (tf, t, w) => tf.dilation2d(t as Tf.Tensor4D, w as Tf.Tensor3D, stride, pad) }; } },
  AvgPool: pooling((tf, x, size, stride, pad) => tf.avgPool(x, size, stride, pad), PADDED),
  MaxPool: pooling((tf, x, size, stride, pad) => tf.maxPool(x, size, stride, pad)),
  AvgPool3D: volume((tf, x, size, stride, pad) => tf.avgPool3d(x, size, stride, pad), PADDED),
  MaxPool3D: volume((tf, x, size, stride, pad) => tf.maxPool3d(x, size, stride, pad)),
  FusedBatchNorm: {
    draw: (d) => {
      const { x, channels } = image(d);
      return { inputs: [x, float(d, [channels]), mapped(float(d, [channels]), between(0.3, 2)), float(d, [channels]), float(d, [channels])], f: (tf, t, mean, variance, offset, scale) => tf.batchNorm(t as Tf.Tensor4D, mean as Tf.Tensor1D, variance as Tf.Tensor1D, offset as Tf.Tensor1D, scale as Tf.Tensor1D) };
    },
  },
  LRN: { draw: (d) => { const { x } = image(d); const radius = 1 + d.integer(2); return { inputs: [x], f: (tf, t) => tf.localResponseNormalization(t as Tf.Tensor4D, radius, 1.2, 0.4, 0.6) }; } },
  ResizeBilinear: resize('resizeBilinear'),
  ResizeNearestNeighbor: resize('resizeNearestNeighbor'),
};

/** Kernels that no op of tfjs-core calls (it composes others), or whose input no differentiable op gives. */
export const UNREACHABLE = ['BroadcastTo', 'ComplexAbs', 'LogSoftmax'];
