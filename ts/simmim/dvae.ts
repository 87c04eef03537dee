import * as tf from '@tensorflow/tfjs-core';
import { untaped } from '../autodiff';
import { SimmimError } from '../errors';
import { toFloat32, type RawTensor } from '../formats/raw_tensor';
import type { ImageStatistics } from '../image_statistics';
import { Init } from '../nn/init';
import { Constant, Parameter } from '../nn/module';
import { linear } from '../ops';
import type { VisualTokenizer } from './tokenizer';

/** Sizes of a dVAE. */
export interface DvaeSizes {
  /** K: number of tokens. */
  vocabulary: number;
  /** Channels at full resolution; each halving doubles them. A multiple of 4. */
  hidden: number;
  /** Residual blocks at each of the four resolutions. */
  blocks: number;
  /** Length of a code vector. */
  code: number;
}

/** A weight: trained (a parameter), or read from a file (a constant). */
type Leaf = Parameter | Constant;
/** Gives the weights by name; `std` is that of the initial normal law, 0 for zeros. */
type Leaves = (name: string, shape: readonly number[], std: number) => Leaf;

/** Token cells are this many pixels wide: the resolution is halved between the groups of blocks. */
const GROUPS = 4;
const PATCH = 2 ** (GROUPS - 1);
/** Pixels x of 0..1 are modelled as (1 - 2 e) x + e, which keeps their logits finite. */
const EDGE = 0.1;
/** Least log scale of the predicted law: half an 8-bit step. A narrower one would only fit the rounding of the pixels. */
const LEAST_LOG_SCALE = Math.log((0.5 * (1 - 2 * EDGE) * 4) / 255);
/** Initial weights are cut at so many deviations. */
const CUT = 5;
/** Site of the initial weights in the seed's stream. */
const SITE = 0x64766165;

/** A convolution with stride 1 on [B, H, W, in], padded by zeros to the same size. */
class Conv {
  readonly w: Leaf;
  readonly b: Leaf;

  constructor(leaf: Leaves, path: string, private readonly inputs: number, private readonly outputs: number, private readonly kernel: number) {
    this.w = leaf(`${path}.w`, [outputs, inputs, kernel, kernel], 1 / Math.sqrt(inputs * kernel ** 2));
    this.b = leaf(`${path}.b`, [outputs], 0);
  }

  apply(x: tf.Tensor): tf.Tensor {
    if (this.kernel === 1) return linear(x, this.matrix, this.b.value);
    const filter = tf.transpose(this.w.value, [2, 3, 1, 0]) as tf.Tensor4D;
    return tf.add(tf.conv2d(x as tf.Tensor4D, filter, 1, 'same'), this.b.value);
  }

  /** The weight [out, in] of a 1 x 1 convolution. */
  get matrix(): tf.Tensor {
    return tf.reshape(this.w.value, [this.outputs, this.inputs]);
  }
}

/** x + gain * f(x), f four convolutions behind rectifiers; the shortcut is a 1 x 1 convolution where the width changes. */
class Block {
  readonly id_path: Conv | null;
  readonly res_path: { conv_1: Conv; conv_2: Conv; conv_3: Conv; conv_4: Conv };

  constructor(leaf: Leaves, path: string, inputs: number, outputs: number, kernels: readonly [number, number, number, number], private readonly gain: number) {
    const narrow = outputs / 4;
    const conv = (i: 1 | 2 | 3 | 4, from: number, to: number): Conv => new Conv(leaf, `${path}.res_path.conv_${i}`, from, to, kernels[i - 1] as number);
    this.id_path = inputs === outputs ? null : new Conv(leaf, `${path}.id_path`, inputs, outputs, 1);
    this.res_path = { conv_1: conv(1, inputs, narrow), conv_2: conv(2, narrow, narrow), conv_3: conv(3, narrow, narrow), conv_4: conv(4, narrow, outputs) };
  }

  apply(x: tf.Tensor): tf.Tensor {
    let h = x;
    for (const conv of Object.values(this.res_path)) h = conv.apply(tf.relu(h));
    return tf.add(this.id_path ? this.id_path.apply(x) : x, tf.mul(h, this.gain));
  }
}

type Group = Record<`block_${number}`, Block>;

/** What both halves are made of; field names are those of DALL-E's published dVAE, so that its weights fit. */
class Tower {
  readonly input: Conv;
  readonly group_1: Group;
  readonly group_2: Group;
  readonly group_3: Group;
  readonly group_4: Group;
  readonly output: { conv: Conv };

  constructor(leaf: Leaves, path: string, of: { from: number; inputKernel: number; first: number; widths: readonly [number, number, number, number]; to: number; blocks: number; kernels: readonly [number, number, number, number] }) {
    const gain = 1 / (GROUPS * of.blocks) ** 2;
    const group = (g: 1 | 2 | 3 | 4): Group => {
      const width = of.widths[g - 1] as number;
      const before = g === 1 ? of.first : (of.widths[g - 2] as number);
      return Object.fromEntries(Array.from({ length: of.blocks }, (_, i) => [`block_${i + 1}`, new Block(leaf, `${path}.group_${g}.block_${i + 1}`, i === 0 ? before : width, width, of.kernels, gain)]));
    };
    this.input = new Conv(leaf, `${path}.input`, of.from, of.first, of.inputKernel);
    [this.group_1, this.group_2, this.group_3, this.group_4] = [group(1), group(2), group(3), group(4)];
    this.output = { conv: new Conv(leaf, `${path}.output.conv`, of.widths[3], of.to, 1) };
  }

  /** From what `input` gives to the output; `resize` runs between the groups. */
  apply(x: tf.Tensor, resize: (h: tf.Tensor) => tf.Tensor): tf.Tensor {
    let h = x;
    [this.group_1, this.group_2, this.group_3, this.group_4].forEach((group, g) => {
      for (const block of Object.values(group)) h = block.apply(h);
      if (g + 1 < GROUPS) h = resize(h);
    });
    return this.output.conv.apply(tf.relu(h));
  }
}

/** The mean of |truth - location| exp(-s) + s over all values; one custom gradient, as tfjs's own of a mean uploads ones. */
function laplaceLoss(truth: tf.Tensor, location: tf.Tensor, logScale: tf.Tensor): tf.Scalar {
  const op = tf.customGrad((...args: unknown[]) => {
    const [y, m, s, save] = args as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    const error = tf.sub(y, m);
    const scaled = tf.mul(tf.abs(error), tf.exp(tf.neg(s)));
    save([error, s, scaled]);
    const gradFunc = (dy: tf.Tensor, [e, t, a]: tf.Tensor[]): tf.Tensor[] => {
      const each = tf.div(dy, y.size);
      const dm = tf.mul(tf.mul(tf.sign(e as tf.Tensor), tf.exp(tf.neg(t as tf.Tensor))), tf.neg(each));
      return [tf.neg(dm), dm, tf.mul(tf.sub(1, a as tf.Tensor), each)];
    };
    return { value: tf.mean(tf.add(scaled, s)), gradFunc: gradFunc as (dy: tf.Tensor, saved: tf.Tensor[]) => tf.Tensor[] };
  });
  return op(truth, location, logScale) as tf.Scalar;
}

/** The mean entropy of the laws that logits [..., K] give, in nats. */
function meanEntropy(logits: tf.Tensor): tf.Scalar {
  const op = tf.customGrad((...args: unknown[]) => {
    const [x, save] = args as [tf.Tensor, tf.GradSaveFunc];
    const axis = x.rank - 1;
    const [q, logQ] = [tf.softmax(x), tf.logSoftmax(x)];
    const entropy = tf.neg(tf.sum(tf.mul(q, logQ), axis, true));
    save([q, logQ, entropy]);
    const gradFunc = (dy: tf.Tensor, [p, logP, h]: tf.Tensor[]): tf.Tensor =>
      tf.mul(tf.mul(p as tf.Tensor, tf.add(logP as tf.Tensor, h as tf.Tensor)), tf.neg(tf.div(dy, (h as tf.Tensor).size)));
    return { value: tf.mean(entropy), gradFunc: gradFunc as (dy: tf.Tensor, saved: tf.Tensor[]) => tf.Tensor };
  });
  return op(logits) as tf.Scalar;
}

const halve = (h: tf.Tensor): tf.Tensor => tf.maxPool(h as tf.Tensor4D, 2, 2, 'valid');

/** Each value four times: [B, H, W, C] -> [B, 2 H, 2 W, C]. */
function double(h: tf.Tensor): tf.Tensor {
  const [batch = 0, height = 0, width = 0, channels = 0] = h.shape;
  const wide = tf.reshape(tf.concat([h, h], 3), [batch, height, 1, 2 * width * channels]);
  return tf.reshape(tf.concat([wide, wide], 2), [batch, 2 * height, 2 * width, channels]);
}

/**
 * A discrete variational autoencoder (Ramesh et al., ICML 2021, appendix A; the tokenizer of BEiT): convolutions turn
 * each 8 x 8 cell into scores of K tokens, and the best token's code vector, with its neighbours', back into pixels. The
 * architecture and the names are those of DALL-E's published model, at any size, so that its weights can be brought.
 */
export class Dvae implements VisualTokenizer {
  readonly patch = PATCH;
  readonly encoder: { blocks: Tower };
  /** null: only the encoder was brought, ids have no pictures. */
  readonly decoder: { blocks: Tower } | null;
  private readonly mean: Constant;
  private readonly std: Constant;

  private constructor(readonly sizes: DvaeSizes, leaf: Leaves, statistics: ImageStatistics, withDecoder: boolean) {
    const { vocabulary, hidden, blocks, code } = sizes;
    if (vocabulary < 2 || blocks < 1 || code < 1) refuse(`has vocabulary ${vocabulary}, blocks ${blocks}, code ${code}: expected at least 2, 1 and 1`);
    if (hidden < 4 || hidden % 4 !== 0) refuse(`hidden is ${hidden}, expected a multiple of 4: blocks are a quarter as wide inside`);
    const [w1, w2, w3, w4] = [hidden, 2 * hidden, 4 * hidden, 8 * hidden];
    const channels = statistics.mean.length;
    this.encoder = { blocks: new Tower(leaf, 'encoder.blocks', { from: channels, inputKernel: 7, first: w1, widths: [w1, w2, w3, w4], to: vocabulary, blocks, kernels: [3, 3, 3, 1] }) };
    this.decoder = withDecoder ? { blocks: new Tower(leaf, 'decoder.blocks', { from: vocabulary, inputKernel: 1, first: code, widths: [w4, w3, w2, w1], to: 2 * channels, blocks, kernels: [1, 3, 3, 3] }) } : null;
    const planes = (values: readonly number[]): Constant => new Constant(() => tf.tensor(values as number[], [1, values.length, 1, 1], 'float32'));
    [this.mean, this.std] = [planes(statistics.mean), planes(statistics.std)];
  }

  /** One to train, on images of these statistics; its start depends on sizes and seed alone. Throws `invalid_argument` for sizes that do not fit. */
  static create(sizes: DvaeSizes, statistics: ImageStatistics, seed: number): Dvae {
    const init = new Init(seed, undefined, SITE);
    return new Dvae(sizes, (_, shape, std) => (std === 0 ? init.constant(shape, 0) : init.truncNormal(shape, std, CUT * std)), statistics, true);
  }

  /**
   * One to use: the weights of `encoder.*` and, for pictures, `decoder.*`; names without these prefixes are taken for an
   * encoder's. Throws `invalid_argument` naming the first weight that is missing, has another shape, or has no place.
   */
  static load(state: ReadonlyMap<string, RawTensor>, statistics: ImageStatistics, file: string): Dvae {
    const named = new Map([...state].map(([name, tensor]) => [/^(encoder|decoder)\./.test(name) ? name : `encoder.${name}`, tensor]));
    const unused = new Set(named.keys());
    const leaf: Leaves = (name, shape) => {
      const tensor = named.get(name);
      if (!tensor) return refuse(`'${file}' has no weight '${name}': it is not the file of a dVAE`);
      if (tensor.shape.join() !== shape.join()) refuse(`'${file}': ${name} is [${tensor.shape.join(', ')}], expected [${shape.join(', ')}]`);
      unused.delete(name);
      return new Constant(() => tf.tensor(toFloat32(tensor, name), [...shape], 'float32'));
    };
    const withDecoder = [...named.keys()].some((name) => name.startsWith('decoder.'));
    const dvae = new Dvae(sizesOf(named, withDecoder, file), leaf, statistics, withDecoder);
    const [extra] = unused;
    if (extra !== undefined) refuse(`'${file}': ${extra} has no place in a dVAE of vocabulary ${dvae.size}, ${dvae.sizes.hidden} channels and ${dvae.sizes.blocks} blocks a group`);
    return dvae;
  }

  get size(): number {
    return this.sizes.vocabulary;
  }

  /** Scores of the tokens: images [B, C, H, W], normalised -> [B, H/8, W/8, K]. */
  logits(images: tf.Tensor): tf.Tensor {
    return this.encode(this.mapped(images));
  }

  tokens(images: tf.Tensor): tf.Tensor {
    return untaped(images, (given) => tf.tidy(() => tf.argMax(this.logits(given), 3)));
  }

  picture(ids: tf.Tensor): tf.Tensor {
    const { blocks } = this.decoder ?? refuse('has an encoder only: token ids have no picture without their decoder');
    return tf.tidy(() => {
      const codes = tf.add(tf.gather(tf.transpose(blocks.input.matrix), ids as tf.Tensor3D), blocks.input.b.value);
      const [location] = this.decode(codes);
      const unit = tf.clipByValue(tf.div(tf.sub(tf.sigmoid(location), EDGE), 1 - 2 * EDGE), 0, 1);
      return tf.div(tf.sub(tf.transpose(unit, [0, 3, 1, 2]), this.mean.value), this.std.value);
    });
  }

  /**
   * The negative evidence bound per value, in nats: that of the pixels under a logit-Laplace law around the decoded
   * picture of a relaxed sample (Gumbel softmax), plus `kl` times the divergence of the tokens' law from the uniform one.
   * images [B, C, H, W]; `uniform` [B, H/8, W/8, K] strictly between 0 and 1 makes the sample; `temperature` [1].
   */
  loss(images: tf.Tensor, uniform: tf.Tensor, temperature: tf.Tensor, kl: number): tf.Scalar {
    const { blocks } = this.decoder ?? refuse('has an encoder only: it cannot be trained');
    const x = this.mapped(images);
    const logits = this.encode(x);
    const gumbel = tf.neg(tf.log(tf.neg(tf.log(uniform))));
    const sample = tf.softmax(tf.div(tf.add(logits, gumbel), temperature));
    const [location, logScale] = this.decode(blocks.input.apply(sample));
    const truth = tf.sub(tf.log(x), tf.log(tf.sub(1, x)));
    const jacobian = tf.mean(tf.log(tf.mul(tf.mul(2, x), tf.sub(1, x))));
    const nll = tf.add(laplaceLoss(truth, location, logScale), jacobian) as tf.Scalar;
    if (kl === 0) return nll;
    const divergence = tf.sub(Math.log(this.size), meanEntropy(logits));
    return tf.add(nll, tf.mul(divergence, kl / ((x.shape[3] as number) * PATCH ** 2))) as tf.Scalar;
  }

  /** Normalised images to channels last and (1 - 2 e) x + e of x in 0..1. */
  private mapped(images: tf.Tensor): tf.Tensor {
    const [, channels = 0, height = 0, width = 0] = images.shape;
    if (images.rank !== 4 || channels !== this.mean.value.size || height % PATCH !== 0 || width % PATCH !== 0) {
      refuse(`images are [${images.shape.join(', ')}], expected [B, ${this.mean.value.size}, H, W] with sides that are multiples of ${PATCH}`);
    }
    const unit = tf.clipByValue(tf.add(tf.mul(images, this.std.value), this.mean.value), 0, 1);
    return tf.transpose(tf.add(tf.mul(unit, 1 - 2 * EDGE), EDGE), [0, 2, 3, 1]);
  }

  private encode(x: tf.Tensor): tf.Tensor {
    const { blocks } = this.encoder;
    return blocks.apply(blocks.input.apply(x), halve);
  }

  /** Code vectors [B, h, w, code] -> location and log scale [B, H, W, C] of the pixels' logits. */
  private decode(codes: tf.Tensor): [tf.Tensor, tf.Tensor] {
    const { blocks } = this.decoder as { blocks: Tower };
    const out = blocks.apply(codes, double);
    const channels = (out.shape[3] as number) / 2;
    const part = (from: number): tf.Tensor => tf.slice(out, [0, 0, 0, from], [-1, -1, -1, channels]);
    return [part(0), tf.add(tf.relu(tf.sub(part(channels), LEAST_LOG_SCALE)), LEAST_LOG_SCALE)];
  }
}

/** The sizes that the weights' shapes show. */
function sizesOf(state: ReadonlyMap<string, RawTensor>, withDecoder: boolean, file: string): DvaeSizes {
  const rows = (name: string): number => {
    const shape = state.get(name)?.shape;
    if (shape?.length !== 4) return refuse(`'${file}' has no weight '${name}' [out, in, k, k]: it is not the file of a dVAE`);
    return shape[0] as number;
  };
  let blocks = 0;
  while (state.has(`encoder.blocks.group_1.block_${blocks + 1}.res_path.conv_1.w`)) blocks++;
  return { vocabulary: rows('encoder.blocks.output.conv.w'), hidden: rows('encoder.blocks.input.w'), blocks, code: withDecoder ? rows('decoder.blocks.input.w') : 1 };
}

function refuse(message: string): never {
  throw new SimmimError('invalid_argument', 'tokenizer', message);
}
