import * as tf from '@tensorflow/tfjs-core';
import type { GradientSink } from '../autodiff';
import type { NativeBackend } from '../backend/backend';
import { SimmimError } from '../errors';
import { kernels } from '../native';
import type { Parameter } from '../nn/module';
import { accumulate, adamw, clear, gradClip, gradNorm, type AdamwSegments } from '../ops';
import { onOwnBackend } from '../ops/fused_op';
import type { FloatStorage } from '../ops/in_storage';
import type { ParamGroup } from './param_groups';
import { DeviceInput } from './step_state';

/** What the optimizer keeps of each parameter; `ema` (the weights' moving average) where it was asked for. */
export type BufferKind = 'weights' | 'm' | 'v' | 'ema';

/** What is kept besides weights, gradients and moments. */
interface Kept {
  averaged: boolean;
  precision: FloatStorage;
}

interface Slot {
  name: string;
  parameter: Parameter;
  /** First element in the flat buffers. */
  offset: number;
  size: number;
}

/**
 * Elements whose multiples parameters start at in native memory: 128 bytes of the bf16 copy. Tensor cores are fed by accesses of 16
 * bytes, and a table of 363 biases before a weight would shift that and all after it. The gaps hold zeros, which the norm, the
 * clipping and AdamW leave zeros (clipping by a norm of NaN does not; the update that it spoils is the last to see that).
 */
const ALIGNMENT = 64;

/**
 * Parameters, gradients and AdamW's moments as one buffer each, parameters of a group side by side. An
 * update is then three calls for any number of parameters: norm, clip and AdamW.
 *
 * On our backends the model's variables are views of the weights and the kernels write in place; on other
 * tfjs backends the same values are assigned to them after each update.
 */
export abstract class FlatBuffers {
  protected readonly slots: Slot[] = [];
  protected readonly buffers: Record<'weights' | 'm' | 'v', tf.Variable>;
  /** Moving average of the weights, or null. */
  readonly averages: tf.Variable | null;
  private readonly segments: Pick<AdamwSegments, 'ends' | 'decayScale'>;
  private readonly rates: DeviceInput;
  /** Factor of each group on the learning rate. */
  readonly lrScales: readonly number[];
  /** The weights in bf16, where the run computes with them: AdamW writes it along. */
  protected shadow: tf.Variable | null = null;
  /** Number of the parameters' elements. */
  readonly size: number;
  /** Elements of each buffer: the parameters and the gaps between them. */
  protected readonly length: number;

  /**
   * `groups` must name every parameter that is not frozen exactly once; parameters start at multiples of `alignment` elements. Throws
   * `invalid_argument` otherwise.
   */
  protected constructor(parameters: ReadonlyMap<string, Parameter>, groups: readonly ParamGroup[], weightDecay: number, averaged: boolean, alignment: number) {
    const ends: number[] = [];
    let offset = 0;
    let size = 0;
    for (const group of groups) {
      for (const name of group.params) {
        const parameter = parameters.get(name);
        if (!parameter) throw new SimmimError('invalid_argument', 'flat_buffers', `group '${group.name}' names '${name}', which the model does not have`);
        this.slots.push({ name, parameter, offset, size: parameter.size });
        offset += Math.ceil(parameter.size / alignment) * alignment;
        size += parameter.size;
      }
      ends.push(offset);
    }
    this.size = size;
    this.length = offset;
    this.checkComplete(parameters);
    this.segments = {
      ends: tf.keep(tf.tensor1d(ends, 'int32')),
      decayScale: tf.keep(tf.tensor1d(groups.map((g) => (weightDecay > 0 ? g.weightDecay / weightDecay : 0)))),
    };
    const zeros = (): tf.Variable => tf.tidy(() => tf.variable(tf.fill([offset], 0), false));
    this.buffers = { weights: zeros(), m: zeros(), v: zeros() };
    this.averages = averaged ? zeros() : null;
    this.lrScales = groups.map((g) => g.lrScale);
    this.rates = new DeviceInput([groups.length], 'float32');
    this.setRates(this.lrScales);
  }

  /** The factor of each group on the coming updates' learning rate, in the order of the groups. */
  setRates(scales: readonly number[]): void {
    this.rates.set(Float32Array.from(scales));
  }
  /** The tensor that holds them: one that programs read. */
  get lrScale(): tf.Tensor {
    return this.rates.value;
  }

  private checkComplete(parameters: ReadonlyMap<string, Parameter>): void {
    const seen = new Set(this.slots.map((slot) => slot.name));
    if (seen.size !== this.slots.length) throw new SimmimError('invalid_argument', 'flat_buffers', 'a parameter is in two groups');
    const missing = [...parameters].find(([name, p]) => !p.frozen && !seen.has(name));
    if (missing) throw new SimmimError('invalid_argument', 'flat_buffers', `parameter '${missing[0]}' is in no group`);
  }

  /** Names in the order of the buffers, which is also the order of `variables` and of gradient indices. */
  get names(): string[] {
    return this.slots.map((slot) => slot.name);
  }
  get variables(): tf.Variable[] {
    return this.slots.map((slot) => slot.parameter.value);
  }
  shapeOf(index: number): readonly number[] {
    return this.slot(index).parameter.shape;
  }

  /**
   * Runs a backward pass into these buffers: `pass` gets the sink of `backward`. Its gradients are added to those
   * there are, or with `overwrite` put in their place (0 for a parameter that gets none).
   */
  collect<T>(pass: (sink: GradientSink) => T, overwrite: boolean): T {
    const reached = new Set<number>();
    const place = overwrite ? (index: number): tf.TensorInfo | null => this.place(index) : undefined;
    const onGrad = (index: number, gradient: tf.Tensor | null): void => {
      reached.add(index);
      if (gradient) this.take(index, gradient, overwrite);
    };
    const result = pass({ onGrad, ...(place ? { place } : {}) });
    if (overwrite) {
      this.slots.forEach(({ parameter }, index) => {
        if (!reached.has(index)) tf.tidy(() => this.take(index, tf.fill([...parameter.shape], 0), true));
      });
    }
    return result;
  }
  /** Adds a gradient of parameter `index`, or puts it in place of what is there; the caller keeps it. */
  protected abstract take(index: number, gradient: tf.Tensor, overwrite: boolean): void;
  /** The memory of the gradient of parameter `index`, where there is such a thing. */
  protected abstract place(index: number): tf.TensorInfo | null;
  /** Sets all gradients to 0. */
  abstract zeroGradients(): void;
  /** All gradients, [n]; owned by this object. */
  protected abstract gradients(): tf.Tensor;
  /** Multiplies the gradients by min(1, clip / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_. */
  abstract clipGradients(norm: tf.Scalar, clip: number): void;
  /** To be called when the weights have changed behind the variables' back: after a replayed update. */
  abstract publish(): void;
  /** What the optimizer changes in place, by name. */
  get state(): Record<string, tf.Variable> {
    return { ...this.buffers, ...(this.averages ? { ema: this.averages } : {}) };
  }
  /** What `collect` and `clipGradients` change in place, where they do. */
  abstract get gradientState(): Record<string, tf.Tensor>;

  /** L2 norm of all gradients, on the device; the caller disposes it. */
  gradientNorm(): tf.Scalar {
    return gradNorm(this.gradients());
  }

  /** One AdamW update from the gradients (see `adamw`); they stay as they are. */
  update(norm: tf.Scalar, hyper: tf.Tensor): void {
    adamw({ ...this.buffers, shadow: this.shadow }, this.gradients(), norm, { ...this.segments, lrScale: this.lrScale }, hyper);
    this.publish();
  }

  /** ema = decay * ema + (1 - decay) * weights; where `norm` is not finite it stays as it is. `decay` [1]. */
  updateAverages(norm: tf.Scalar, decay: tf.Tensor): void {
    const { averages } = this;
    if (!averages) return;
    tf.tidy(() => {
      const kept = tf.where(tf.isFinite(norm), decay, tf.onesLike(decay));
      accumulate(averages, tf.add(tf.mul(averages, kept), tf.mul(this.buffers.weights, tf.sub(1, kept))), 0, true);
    });
  }

  /** The averages begin at the weights. */
  startAverages(): void {
    if (this.averages) accumulate(this.averages, this.buffers.weights, 0, true);
  }

  /** Runs `use` with the averages in the place of the weights, which come back whatever happens. */
  async withAverages<T>(use: () => Promise<T>): Promise<T> {
    const { averages, buffers: { weights } } = this;
    if (!averages) throw new SimmimError('internal', 'flat_buffers', 'keeps no averages');
    const own = tf.keep(tf.add(weights, 0)); // a copy: clones share the memory
    try {
      accumulate(weights, averages, 0, true);
      this.publish();
      return await use();
    } finally {
      accumulate(weights, own, 0, true);
      this.publish();
      own.dispose();
    }
  }

  /** Norm of each parameter's gradient, by name: for finding out where a run went wrong. */
  gradientNorms(): Record<string, number> {
    const flat = this.gradients().dataSync();
    return Object.fromEntries(this.slots.map(({ name, offset, size }) => {
      let sum = 0;
      for (let i = offset; i < offset + size; i++) sum += (flat[i] as number) ** 2;
      return [name, Math.sqrt(sum)];
    }));
  }

  /** A copy of one parameter's part of a buffer. */
  read(kind: BufferKind, index: number): Float32Array {
    const { offset, size } = this.slot(index);
    const part = tf.slice(this.buffer(kind), [offset], [size]);
    const values = (part.dataSync() as Float32Array).slice();
    part.dispose(); // by hand: tf.tidy looks for tensors in what it returns, element by element in a typed array
    return values;
  }

  /** Restores whole buffers: `values(i)` gives those of parameter i. */
  write(kind: BufferKind, values: (index: number) => Float32Array): void {
    this.writeBuffer(kind, values);
    if (kind === 'weights') this.publish();
  }

  protected buffer(kind: BufferKind): tf.Variable {
    if (kind !== 'ema') return this.buffers[kind];
    if (!this.averages) throw new SimmimError('internal', 'flat_buffers', 'keeps no averages');
    return this.averages;
  }

  protected abstract writeBuffer(kind: BufferKind, values: (index: number) => Float32Array): void;

  /** The values of parameter `index`, checked for length. */
  protected checked(index: number, values: Float32Array): Float32Array {
    const { name, size } = this.slot(index);
    if (values.length !== size) throw new SimmimError('invalid_argument', 'flat_buffers', `'${name}' got ${values.length} values, expected ${size}`);
    return values;
  }

  protected slot(index: number): Slot {
    const slot = this.slots[index];
    if (!slot) throw new SimmimError('invalid_argument', 'flat_buffers', `parameter index is ${index}, expected 0 to ${this.slots.length - 1}`);
    return slot;
  }

  /** Frees everything but the model's own variables. */
  dispose(): void {
    tf.dispose([this.segments.ends, this.segments.decayScale, ...Object.values(this.state)]);
    this.rates.dispose();
    this.shadow?.dispose();
  }
}

/** On our backends: variables are views of the weights, gradients one buffer, all kernels in place. */
class NativeFlatBuffers extends FlatBuffers {
  private readonly flat: tf.Variable;
  /** Views of `flat`, one for each parameter. */
  private readonly places: tf.Tensor[];
  private readonly backend = tf.backend() as NativeBackend;

  constructor(parameters: ReadonlyMap<string, Parameter>, groups: readonly ParamGroup[], weightDecay: number, { averaged, precision }: Kept) {
    super(parameters, groups, weightDecay, averaged, ALIGNMENT);
    this.flat = tf.tidy(() => tf.variable(tf.fill([this.length], 0), false));
    const { weights } = this.buffers;
    const shadow = precision === 'bf16' ? this.makeShadow() : null;
    for (const { parameter, offset } of this.slots) {
      accumulate(weights, parameter.value, offset, true);
      const view = this.viewOf(weights, offset, parameter.shape);
      const variable = tf.variable(view, true);
      view.dispose();
      const copy = shadow && this.viewOf(shadow, offset, parameter.shape);
      const write = (values: Float32Array): void => {
        this.backend.writeInto(variable, values);
        if (copy) this.round(variable, copy);
      };
      parameter.bind(variable, write, copy);
    }
    this.refreshShadow();
    this.places = this.slots.map(({ parameter, offset }) => tf.keep(this.viewOf(this.flat, offset, parameter.shape)));
  }

  private makeShadow(): tf.Variable {
    const memory = tf.engine().makeTensorFromTensorInfo(this.backend.allocated([this.length], 'float32', 'bf16'));
    this.shadow = tf.variable(memory, false);
    memory.dispose();
    return this.shadow;
  }
  /** Writes weights into their bf16 copy, rounded as AdamW does. */
  private round(weights: tf.Tensor, copy: tf.Tensor): void {
    kernels.cast({ x: this.backend.ref(weights), y: this.backend.refInPlace(copy), boolean: false });
  }
  private refreshShadow(): void {
    if (this.shadow) this.round(this.buffers.weights, this.shadow);
  }
  private viewOf(flat: tf.Tensor, offset: number, shape: readonly number[]): tf.Tensor {
    return tf.engine().makeTensorFromTensorInfo(this.backend.view(flat, offset, shape));
  }
  protected override take(index: number, gradient: tf.Tensor, overwrite: boolean): void {
    accumulate(this.flat, gradient, this.slot(index).offset, overwrite);
  }
  protected override place(index: number): tf.TensorInfo {
    return this.places[index] as tf.Tensor;
  }
  override zeroGradients(): void {
    clear(this.flat);
  }
  protected override gradients(): tf.Tensor {
    return this.flat;
  }
  override clipGradients(norm: tf.Scalar, clip: number): void {
    gradClip(this.flat, norm, clip);
  }
  override publish(): void {} // they are views
  override get gradientState(): Record<string, tf.Tensor> {
    return { gradients: this.flat };
  }
  override dispose(): void {
    super.dispose();
    tf.dispose([this.flat, ...this.places]);
  }
  protected override writeBuffer(kind: BufferKind, values: (index: number) => Float32Array): void {
    this.slots.forEach(({ offset }, i) => this.backend.writeInto(this.buffer(kind), this.checked(i, values(i)), offset));
    if (kind === 'weights') this.refreshShadow();
  }
}

/** On any other tfjs backend: the same arithmetic, with values copied to and fro. */
class ComposedFlatBuffers extends FlatBuffers {
  private readonly parts: (tf.Tensor | null)[];
  private flat: tf.Tensor | null = null;

  constructor(parameters: ReadonlyMap<string, Parameter>, groups: readonly ParamGroup[], weightDecay: number, { averaged }: Kept) {
    super(parameters, groups, weightDecay, averaged, 1);
    this.parts = this.slots.map(() => null);
    this.write('weights', (i) => this.slot(i).parameter.value.dataSync() as Float32Array);
  }

  protected override take(index: number, gradient: tf.Tensor, overwrite: boolean): void {
    this.unpack();
    const before = this.parts[index] ?? null;
    this.parts[index] = tf.keep(before && !overwrite ? tf.add(before, gradient) : tf.clone(gradient));
    before?.dispose();
  }
  protected override place(): null {
    return null;
  }
  private sliceOf(flat: tf.Tensor, index: number): tf.Tensor {
    const { offset, size, parameter } = this.slot(index);
    return tf.tidy(() => tf.reshape(tf.slice(flat, [offset], [size]), [...parameter.shape]));
  }
  private unpack(): void {
    const { flat } = this;
    if (!flat) return;
    this.slots.forEach((_, i) => (this.parts[i] = tf.keep(this.sliceOf(flat, i))));
    flat.dispose();
    this.flat = null;
  }
  override zeroGradients(): void {
    tf.dispose(this.parts.filter((part) => part !== null));
    this.parts.fill(null);
    this.flat?.dispose();
    this.flat = null;
  }
  protected override gradients(): tf.Tensor {
    if (this.flat) return this.flat;
    const flat = tf.tidy(() => tf.concat(this.slots.map(({ size }, i) => {
      const part = this.parts[i];
      return part ? tf.reshape(part, [size]) : tf.zeros([size]);
    })));
    tf.dispose(this.parts.filter((part) => part !== null));
    this.parts.fill(null);
    return (this.flat = tf.keep(flat));
  }
  override clipGradients(norm: tf.Scalar, clip: number): void {
    const before = this.gradients();
    this.flat = tf.keep(tf.tidy(() => tf.mul(before, tf.minimum(1, tf.div(clip, tf.add(norm, 1e-6))))));
    before.dispose();
  }
  override get gradientState(): Record<string, tf.Tensor> {
    return {};
  }
  override publish(): void {
    this.slots.forEach(({ parameter }, i) => {
      const values = this.sliceOf(this.buffers.weights, i);
      parameter.value.assign(values);
      values.dispose();
    });
  }
  protected override writeBuffer(kind: BufferKind, values: (index: number) => Float32Array): void {
    const all = new Float32Array(this.size);
    this.slots.forEach(({ offset }, i) => all.set(this.checked(i, values(i)), offset));
    tf.tidy(() => this.buffer(kind).assign(tf.tensor1d(all)));
  }
  override dispose(): void {
    super.dispose();
    this.zeroGradients();
  }
}

/**
 * Moves a model's parameters into flat buffers of the active backend. `averaged` (default false) keeps their moving average as
 * well; with `precision` bf16 (default f32), on our backends, they keep a bf16 copy of the weights up to date (`Parameter.compute`), 2
 * bytes an element.
 */
export function flatBuffers(parameters: ReadonlyMap<string, Parameter>, groups: readonly ParamGroup[], weightDecay: number, { averaged = false, precision = 'f32' }: Partial<Kept> = {}): FlatBuffers {
  const kept: Kept = { averaged, precision };
  const buffers = onOwnBackend() ? new NativeFlatBuffers(parameters, groups, weightDecay, kept) : new ComposedFlatBuffers(parameters, groups, weightDecay, kept);
  buffers.startAverages();
  return buffers;
}
