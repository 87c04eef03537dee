import * as tf from '@tensorflow/tfjs-core';
import { backward } from '../autodiff';
import { type Runnable, recordable } from '../backend/program';
import type { HostArray } from '../native';
import type { Context } from '../nn/context';
import { accumulate, clear, type FloatStorage } from '../ops';
import type { FlatBuffers } from './flat_buffers';
import { DeviceInput, type StepState } from './step_state';

/** Values on the host of a tensor that a micro step reads. */
export interface HostTensor {
  shape: readonly number[];
  dtype: 'float32' | 'int32';
  values: HostArray;
}

/** A micro batch, by the name of the input. */
export type HostBatch = Readonly<Record<string, HostTensor>>;

/** What is trained: a loss of tensors that stay where they are while their values change. */
export interface StepObjective {
  /** What the loss gets instead of the inputs, such as pictures mixed with one another; made without a gradient. Default: the inputs. */
  prepare?(inputs: Readonly<Record<string, tf.Tensor>>): Readonly<Record<string, tf.Tensor>>;
  /** The loss of a micro batch, a pure function of its inputs, the parameters and the clock. */
  loss(inputs: Readonly<Record<string, tf.Tensor>>, ctx: Context): tf.Scalar;
}

/** What stays the same from step to step. */
export interface StepOptions {
  /** Micro steps of one update: the gradient is the mean over them. */
  accumulation: number;
  /** Largest gradient norm; null = no clipping. */
  clip: number | null;
  /** Official quirk: clip the running sum after every micro step. */
  clipEveryMicroStep: boolean;
  betas: readonly [number, number];
  eps: number;
  weightDecay: number;
  /** Decay of the weights' moving average (`FlatBuffers.averages`); default none. At update t it is at most (1 + t) / (10 + t). */
  ema?: number | null;
  /** What the forward and backward pass compute in (on our backends). Default f32. */
  precision?: FloatStorage;
  /** Record the step and replay it (on our backends; the same bits). Default true. */
  recorded?: boolean;
}

/** What a micro step measured, on the device, until the next one. */
export interface MicroResult {
  /** Its loss over the accumulation. */
  loss: tf.Scalar;
  /** With `clipEveryMicroStep`: the norm of the gradient summed so far, before clipping. */
  gradientNorm: tf.Scalar | null;
}

/** What an update measured. */
export interface UpdateResult {
  /** False when the norm or a loss was not finite, so that nothing was changed. */
  applied: boolean;
  /** Mean loss of its micro steps. */
  loss: number;
  /** Norm of the whole gradient before clipping (with the quirk: of the last micro step). */
  gradientNorm: number;
}

/**
 * The arithmetic of training: forward, backward and accumulate for each micro batch, then norm, clip and
 * AdamW. It knows nothing of files, epochs or schedules.
 *
 * On our backends each part is a program that is recorded at its second run and replayed behind the event loop from
 * then on. Whether an update happens is decided on the device, and what it measured is read when it is there, so
 * nothing waits. Another shape of batch makes other programs.
 */
export class TrainingStep {
  private inputs: Readonly<Record<string, DeviceInput>> = {};
  /** The loss of the update so far, [1], and the norm before the last clipping. */
  private readonly lossSum: tf.Variable;
  private readonly norm: tf.Variable;
  private readonly begins: Runnable;
  private readonly applies: Runnable;
  private micros: Runnable | null = null;

  constructor(
    private readonly objective: StepObjective,
    private readonly buffers: FlatBuffers,
    private readonly state: StepState,
    private readonly options: StepOptions,
  ) {
    [this.lossSum, this.norm] = [scalarVariable(), scalarVariable()];
    this.begins = this.program('begin', () => this.beginBody(), this.sums);
    this.applies = this.program('apply', () => this.applyBody(), () => buffers.state, () => ({ ...this.sums(), hyper: state.hyper, lrScale: buffers.lrScale, emaDecay: state.emaDecay }));
  }

  /** What is summed over the micro steps of an update. */
  private readonly sums = (): Record<string, tf.Tensor> => ({ ...this.buffers.gradientState, loss: this.lossSum, norm: this.norm });

  private program(name: string, body: () => tf.Tensor[], state: () => Record<string, tf.Tensor>, inputs: () => Record<string, tf.Tensor> = () => ({})): Runnable {
    return recordable(name, body, { state, inputs }, this.options.recorded ?? true);
  }

  /** Starts an update afresh: gradients of an unfinished one are forgotten. */
  async begin(): Promise<void> {
    if (this.options.accumulation > 1) await this.begins.run(); // a single micro step overwrites what is there
  }

  /**
   * Forward and backward of one micro batch; the clock must have been set. `taken` resolves when the values of the
   * batch may change again, `done` when its work is done.
   */
  micro(batch: HostBatch): { taken: Promise<void>; done: Promise<MicroResult> } {
    this.fit(batch);
    const taken = Promise.all(Object.entries(this.inputs).map(([name, input]) => input.write((batch[name] as HostTensor).values)));
    const done = (this.micros as Runnable).run().then(([loss, gradientNorm]) => ({ loss: loss as tf.Scalar, gradientNorm: (gradientNorm ?? null) as tf.Scalar | null }));
    return { taken: taken.then(() => undefined), done };
  }

  /**
   * Updates the weights from the micro steps since `begin`, as AdamW's update number `t` (from 1) with this
   * learning rate; `rates` are those of the parameter groups where they differ from `lr` times the group's factor. A loss or norm that is not finite changes nothing. The gradients stay for inspection
   * until the next micro step.
   */
  async apply(lr: number, t: number, rates?: readonly number[]): Promise<UpdateResult> {
    const { clip, betas, eps, weightDecay, clipEveryMicroStep, accumulation } = this.options;
    const clipped = clipEveryMicroStep && accumulation > 1;
    this.state.writeHyper({ lr, weightDecay, beta1: betas[0], beta2: betas[1], eps, t, clip: clipped ? 0 : (clip ?? 0) });
    if (rates) this.buffers.setRates(rates.map((rate) => (lr > 0 ? rate / lr : 1)));
    if (this.options.ema) this.state.writeEmaDecay(Math.min(this.options.ema, (1 + t) / (10 + t)));
    const [record] = await this.applies.run();
    this.buffers.publish();
    const [loss, gradientNorm, gate] = await (record as tf.Tensor).data<'float32'>();
    return { applied: Number.isFinite(gate), loss: loss as number, gradientNorm: gradientNorm as number };
  }

  /** Makes staging tensors and a program for the shapes of `batch`, unless they are there. */
  private fit(batch: HostBatch): void {
    const specs = Object.entries(batch);
    const same = specs.length === Object.keys(this.inputs).length && specs.every(([name, { shape, dtype }]) => this.inputs[name]?.dtype === dtype && this.inputs[name].shape.join() === shape.join());
    if (same && this.micros) return;
    this.disposeMicros();
    this.inputs = Object.fromEntries(specs.map(([name, { shape, dtype }]) => [name, new DeviceInput(shape, dtype)]));
    const given = (): Record<string, tf.Tensor> => Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, input.value]));
    this.micros = this.program('micro', () => this.microBody(given()), this.sums, () => ({ ...given(), clock: this.state.clock }));
  }

  private beginBody(): tf.Tensor[] {
    this.buffers.zeroGradients();
    clear(this.lossSum);
    return [];
  }

  private microBody(inputs: Record<string, tf.Tensor>): tf.Tensor[] {
    const { accumulation, clip, clipEveryMicroStep, precision = 'f32' } = this.options;
    const ctx: Context = { training: true, precision, clock: this.state.clock };
    const single = accumulation === 1;
    const ready = this.objective.prepare?.(inputs) ?? inputs;
    const share = (): tf.Scalar => {
      const whole = this.objective.loss(ready, ctx);
      return single ? whole : (tf.div(whole, accumulation) as tf.Scalar);
    };
    const loss = this.buffers.collect((sink) => backward(share, this.buffers.variables, sink), single);
    accumulate(this.lossSum, loss, 0, single);
    if (!clipEveryMicroStep) return [loss];
    const norm = this.buffers.gradientNorm();
    accumulate(this.norm, norm, 0, true);
    if (clip !== null && !single) this.buffers.clipGradients(norm, clip);
    return [loss, norm];
  }

  /** [loss, norm, gate]: a gate that is not finite is one that kept the update from happening. */
  private applyBody(): tf.Tensor[] {
    const norm = this.buffers.gradientNorm();
    const loss = tf.reshape(this.lossSum, []);
    const shown = this.options.clipEveryMicroStep ? tf.reshape(this.norm, []) : norm;
    const gate = tf.add(norm, tf.mul(tf.add(loss, shown), 0)) as tf.Scalar; // 0 times what is not finite is NaN
    this.buffers.update(gate, this.state.hyper);
    if (this.options.ema) this.buffers.updateAverages(gate, this.state.emaDecay);
    return [tf.stack([loss, shown, gate])];
  }

  private disposeMicros(): void {
    this.micros?.dispose();
    this.micros = null;
    Object.values(this.inputs).forEach((input) => input.dispose());
    this.inputs = {};
  }

  /** Frees programs and staging tensors; buffers and state are the caller's. */
  dispose(): void {
    this.disposeMicros();
    this.begins.dispose();
    this.applies.dispose();
    tf.dispose([this.lossSum, this.norm]);
  }
}

function scalarVariable(): tf.Variable {
  return tf.tidy(() => tf.variable(tf.zeros([1]), false));
}
