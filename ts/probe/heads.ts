/** The trained parts of the linear and the attentive probe. */
import * as tf from '@tensorflow/tfjs-core';
import { backward } from '../autodiff';
import { FLOAT32, rngSites } from '../nn/context';
import { Init } from '../nn/init';
import { Linear } from '../nn/layers';
import { disposeModel, namedParameters, type Parameter } from '../nn/module';
import { softCrossEntropy } from '../simmim';
import { flatBuffers, type FlatBuffers } from '../train/flat_buffers';
import { pretrainGroups } from '../train/param_groups';
import { StepState } from '../train/step_state';
import { BatchNorm } from './batch_norm';
import { larsUpdate } from './lars';
import { patchTokens, type Layer } from './layers';

/** A classifier on one layer of a frozen encoder. */
export interface ProbeHead {
  readonly kind: 'linear' | 'attentive';
  readonly layer: Layer;
  /** What it reads: one vector for each image [B, C], or the layer's output with all its tokens. */
  readonly reads: 'pooled' | 'tokens';
  /**
   * Adds the gradient of some images of an update: `targets` [B, K] one-hot; `share` is B over the images of the whole
   * update. Returns the summed loss of these images.
   */
  accumulate(features: tf.Tensor, targets: tf.Tensor2D, share: number): number;
  /** Moves the parameters by the gradient gathered so far; `schedule` is the share of the peak rate, `t` counts updates from 1. */
  update(schedule: number, t: number): void;
  /** Logits [B, K]. */
  logits(features: tf.Tensor): tf.Tensor2D;
  /** Everything that the next update depends on, by name. */
  state(): Map<string, Float32Array>;
  restore(state: ReadonlyMap<string, Float32Array>): void;
  dispose(): void;
}

const SITES = { linear: rngSites.headInitial + 0x100, attentive: rngSites.headInitial + 0x200 };

function part(state: ReadonlyMap<string, Float32Array>, name: string): Float32Array {
  return state.get(name) ?? new Float32Array(0);
}

/** MAE's linear probe: BatchNorm without scale and shift, then a linear layer, moved by LARS. */
export class LinearHead implements ProbeHead {
  readonly kind = 'linear';
  readonly reads = 'pooled';
  private readonly norm: BatchNorm;
  private tensors: Record<'weight' | 'bias' | 'weightMomentum' | 'biasMomentum', tf.Tensor>;
  private gradients: [tf.Tensor, tf.Tensor] | null = null;

  /** Weights start as normal(0, 0.01), as in MoCo v3 and MAE; `lr` is the peak rate. */
  constructor(
    readonly layer: Layer,
    private readonly classes: number,
    private readonly lr: number,
    private readonly weightDecay: number,
    seed: number,
  ) {
    const { channels } = layer;
    const start = new Init(seed, 2, SITES.linear).truncNormal([classes, channels], 0.01, 2);
    this.norm = new BatchNorm(channels);
    this.tensors = {
      weight: tf.keep(start.value.clone()), bias: tf.keep(tf.zeros([classes])),
      weightMomentum: tf.keep(tf.zeros([classes, channels])), biasMomentum: tf.keep(tf.zeros([classes])),
    };
    start.dispose();
  }

  accumulate(features: tf.Tensor2D, targets: tf.Tensor2D, share: number): number {
    const normal = this.norm.train(features);
    const before = this.gradients;
    let loss = 0;
    this.gradients = tf.tidy(() => {
      const logProbabilities = tf.logSoftmax(this.linear(normal));
      loss = -(tf.sum(tf.mul(targets, logProbabilities)).dataSync()[0] as number);
      const error = tf.mul(tf.sub(tf.exp(logProbabilities), targets), share / features.shape[0]);
      const [weight, bias] = [tf.matMul(error as tf.Tensor2D, normal, true, false), tf.sum(error, 0)];
      return (before ? [tf.add(before[0], weight), tf.add(before[1], bias)] : [weight, bias]).map((g) => tf.keep(g)) as [tf.Tensor, tf.Tensor];
    });
    tf.dispose([normal, ...(before ?? [])]);
    return loss;
  }

  update(schedule: number): void {
    if (!this.gradients) return;
    const { weight, bias, weightMomentum, biasMomentum } = this.tensors;
    const moved = (w: tf.Tensor, g: tf.Tensor, m: tf.Tensor): tf.Tensor[] => larsUpdate(w, g, m, this.lr * schedule, { weightDecay: this.weightDecay }).map((t) => tf.keep(t));
    const [newWeight, newWeightMomentum] = moved(weight, this.gradients[0], weightMomentum) as [tf.Tensor, tf.Tensor];
    const [newBias, newBiasMomentum] = moved(bias, this.gradients[1], biasMomentum) as [tf.Tensor, tf.Tensor];
    tf.dispose([weight, bias, weightMomentum, biasMomentum, ...this.gradients]);
    this.tensors = { weight: newWeight, bias: newBias, weightMomentum: newWeightMomentum, biasMomentum: newBiasMomentum };
    this.gradients = null;
  }

  logits(features: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => this.linear(this.norm.apply(features)));
  }

  private linear(normal: tf.Tensor2D): tf.Tensor2D {
    return tf.add(tf.matMul(normal, this.tensors.weight as tf.Tensor2D, false, true), this.tensors.bias);
  }

  state(): Map<string, Float32Array> {
    const [mean, variance] = this.norm.state();
    return new Map([['mean', mean], ['variance', variance], ...Object.entries(this.tensors).map(([name, t]): [string, Float32Array] => [name, t.dataSync().slice() as Float32Array])]);
  }

  restore(state: ReadonlyMap<string, Float32Array>): void {
    this.norm.restore(part(state, 'mean'), part(state, 'variance'));
    const { classes, layer: { channels } } = this;
    const put = (name: keyof LinearHead['tensors'], shape: number[]): void => {
      this.tensors[name].dispose();
      this.tensors[name] = tf.keep(tf.tensor(part(state, name), shape));
    };
    for (const name of ['weight', 'weightMomentum'] as const) put(name, [classes, channels]);
    for (const name of ['bias', 'biasMomentum'] as const) put(name, [classes]);
  }

  dispose(): void {
    this.norm.dispose();
    tf.dispose([...Object.values(this.tensors), ...(this.gradients ?? [])]);
  }
}

/** What the attentive probe learns. */
class AttentivePooling {
  readonly query: Parameter;
  readonly key: Linear;
  readonly value: Linear;
  readonly head: Linear;

  constructor(channels: number, classes: number, private readonly heads: number, init: Init) {
    this.query = init.weight([channels]);
    this.key = new Linear(channels, channels, init);
    this.value = new Linear(channels, channels, init);
    this.head = new Linear(channels, classes, init);
  }

  /** Standardised tokens [B, L, C] -> logits [B, K]: softmax(q k^T / sqrt(d)) v for one learnt query, d = C / heads. */
  apply(tokens: tf.Tensor3D): tf.Tensor2D {
    const [batch, length, channels] = tokens.shape;
    const split = [batch, length, this.heads, channels / this.heads];
    const scores = tf.mul(tf.sum(tf.reshape(tf.mul(this.key.apply(tokens, FLOAT32), this.query.value), split), 3), 1 / Math.sqrt(channels / this.heads)); // [B, L, heads]
    const shares = tf.transpose(tf.softmax(tf.transpose(scores, [0, 2, 1])), [0, 2, 1]);
    const mixed = tf.sum(tf.mul(tf.reshape(this.value.apply(tokens, FLOAT32), split), tf.expandDims(shares, 3)), 1);
    return this.head.apply(tf.reshape(mixed, [batch, channels]), FLOAT32) as tf.Tensor2D;
  }
}

const ADAMW = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
/** Channels of one attention head of the probe. */
const HEAD_CHANNELS = 64;

/**
 * Attentive probe: BatchNorm without scale and shift over all tokens, then one cross-attention from a learnt query to the
 * layer's patch tokens and a linear layer, moved by AdamW. It finds what mean pooling hides.
 */
export class AttentiveHead implements ProbeHead {
  readonly kind = 'attentive';
  readonly reads = 'tokens';
  private readonly norm: BatchNorm;
  private readonly model: AttentivePooling;
  private readonly buffers: FlatBuffers;
  private readonly clock: StepState;

  /** `lr` is the peak rate. */
  constructor(
    readonly layer: Layer,
    classes: number,
    private readonly lr: number,
    private readonly weightDecay: number,
    seed: number,
  ) {
    const { channels } = layer;
    this.norm = new BatchNorm(channels);
    const heads = channels % HEAD_CHANNELS === 0 ? channels / HEAD_CHANNELS : 1;
    this.model = new AttentivePooling(channels, classes, heads, new Init(seed, 2, SITES.attentive));
    const parameters = namedParameters(this.model);
    this.buffers = flatBuffers(parameters, pretrainGroups([...parameters].map(([name, { shape }]) => ({ name, shape })), weightDecay), weightDecay);
    this.clock = new StepState(seed);
    this.buffers.zeroGradients();
  }

  accumulate(output: tf.Tensor, targets: tf.Tensor2D, share: number): number {
    const tokens = this.normal(output, (rows) => this.norm.train(rows));
    const mean = (): tf.Scalar => tf.mul(softCrossEntropy(this.model.apply(tokens), targets), share);
    const loss = this.buffers.collect((sink) => backward(mean, this.buffers.variables, sink), false);
    const value = (loss.dataSync()[0] as number) / share;
    tf.dispose([tokens, loss]);
    return value * targets.shape[0];
  }

  update(schedule: number, t: number): void {
    const norm = this.buffers.gradientNorm();
    this.clock.writeHyper({ lr: this.lr * schedule, weightDecay: this.weightDecay, ...ADAMW, t, clip: 0 });
    this.buffers.update(norm, this.clock.hyper);
    norm.dispose();
    this.buffers.zeroGradients();
  }

  logits(output: tf.Tensor): tf.Tensor2D {
    return tf.tidy(() => this.model.apply(this.normal(output, (rows) => this.norm.apply(rows))));
  }

  private normal(output: tf.Tensor, apply: (rows: tf.Tensor2D) => tf.Tensor2D): tf.Tensor3D {
    const tokens = patchTokens(output);
    const rows = tf.reshape(tokens, [-1, this.layer.channels]) as tf.Tensor2D;
    const normal = apply(rows);
    const shaped = tf.reshape(normal, tokens.shape) as tf.Tensor3D;
    tf.dispose([tokens, rows, normal]);
    return shaped;
  }

  state(): Map<string, Float32Array> {
    const [mean, variance] = this.norm.state();
    const buffers = (['weights', 'm', 'v'] as const).flatMap((kind) => this.buffers.names.map((name, i): [string, Float32Array] => [`${kind}/${name}`, this.buffers.read(kind, i)]));
    return new Map([['mean', mean], ['variance', variance], ...buffers]);
  }

  restore(state: ReadonlyMap<string, Float32Array>): void {
    this.norm.restore(part(state, 'mean'), part(state, 'variance'));
    for (const kind of ['weights', 'm', 'v'] as const) this.buffers.write(kind, (i) => part(state, `${kind}/${this.buffers.names[i] ?? ''}`));
  }

  dispose(): void {
    this.norm.dispose();
    this.buffers.dispose();
    this.clock.dispose();
    disposeModel(this.model);
  }
}
