import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { loadAddon } from '../native';
import { NativeBackend } from './backend';
import { setRecording } from './record';

/** How many runs are eager before the recording: the first one allocates what lives on (optimizer state, caches). */
const EAGER_RUNS = 1;

/** What a recorded function touches besides what it makes. */
export interface ProgramTensors {
  /** Tensors that it reads and somebody else changes in place between runs. */
  inputs?(): Readonly<Record<string, tf.Tensor>>;
  /** Tensors that it changes in place. */
  state?(): Readonly<Record<string, tf.Tensor>>;
}

/** A function of tensors that is run again and again: recorded, or eager every time. */
export interface Runnable {
  run(): Promise<tf.Tensor[]>;
  dispose(): void;
}

/**
 * A function of tensors that is recorded once and then replayed natively, off the event loop.
 *
 * Run 1 is eager, run 2 is eager while every native call is recorded, from run 3 on the recorded list is
 * replayed on a thread of its own with the same results, bit for bit. Everything that changes from run to
 * run must live in tensors that exist before run 1 and are changed in place (hyper-parameters, clock,
 * staging buffers). While recording, `not_recordable` is thrown for reads, for JavaScript kernels, for more than 4 kB
 * of host values, and for tensors that outlive the function without being returned; at a replay, when a tensor of
 * `inputs` or `state` is not the one that was recorded.
 *
 * With SIMMIM_CHECK_PROGRAM=1 every replay is followed by an eager run from the same state, and bits that differ are
 * an error (`internal`): slow, for finding out whether a function is what it should be.
 */
export class RecordedFunction implements Runnable {
  private runs = 0;
  private program: number | undefined;
  private outputs: tf.Tensor[] = [];
  private handles = new Map<string, number>();

  /** `body` runs inside tf.tidy; the tensors it returns stay the same objects (and memory) after recording. */
  constructor(
    readonly name: string,
    private readonly backend: NativeBackend,
    private readonly body: () => tf.Tensor[],
    private readonly tensors: ProgramTensors = {},
  ) {}

  /** Whether the next run is a replay. */
  get recorded(): boolean {
    return this.program !== undefined;
  }

  /**
   * One run; the returned tensors belong to this object and hold their values until the next run. A replay begins
   * when the work asked for before it is done, and work asked for after it waits for it: only who needs the
   * values has to wait for the promise.
   */
  async run(): Promise<tf.Tensor[]> {
    if (this.program !== undefined) {
      this.guard();
      if (process.env.SIMMIM_CHECK_PROGRAM === '1') await this.checkedReplay(this.program);
      else await loadAddon().replay(this.program);
      return this.outputs;
    }
    const record = this.runs++ >= EAGER_RUNS;
    tf.dispose(this.outputs);
    this.outputs = record ? this.record() : runEagerly(this.body);
    return this.outputs;
  }

  private record(): tf.Tensor[] {
    const addon = loadAddon();
    addon.beginRecording(this.backend.device);
    setRecording(true);
    try {
      const outputs = runEagerly(this.body);
      const handles = outputs.map((output) => this.backend.ref(output).storage.handle);
      this.program = addon.endRecording(Int32Array.from(handles));
      this.handles = new Map(this.given().map(([name, tensor]) => [name, this.handleOf(tensor)]));
      // Replays change them where nobody sees it: no copy of them may be kept on the host.
      for (const tensor of [...outputs, ...Object.values(this.tensors.state?.() ?? {})]) this.backend.refInPlace(tensor);
      return outputs;
    } catch (error) {
      addon.abortRecording();
      if (error instanceof SimmimError && error.code === 'not_recordable') throw new SimmimError('not_recordable', this.name, error.message, { cause: error });
      throw error;
    } finally {
      setRecording(false);
    }
  }

  private given(): [string, tf.Tensor][] {
    return [...Object.entries(this.tensors.inputs?.() ?? {}), ...Object.entries(this.tensors.state?.() ?? {})];
  }

  private handleOf(tensor: tf.Tensor): number {
    return tensor.isDisposed ? 0 : this.backend.ref(tensor).storage.handle;
  }

  /** A program has the addresses of its tensors in it: they must still be the tensors of the function. */
  private guard(): void {
    for (const [name, tensor] of this.given()) {
      if (this.handleOf(tensor) === this.handles.get(name)) continue;
      throw new SimmimError('not_recordable', this.name, `'${name}' ${tensor.isDisposed ? 'was disposed' : 'is another tensor'} since the function was recorded: its values must be changed in place`);
    }
  }

  private async checkedReplay(program: number): Promise<void> {
    const state = this.tensors.state?.() ?? {};
    const values = (tensors: readonly tf.Tensor[]): tf.TypedArray[] => tensors.map((t) => t.dataSync().slice());
    const before = values(Object.values(state));
    await loadAddon().replay(program);
    const replayed = [...values(Object.values(state)), ...values(this.outputs)];
    Object.values(state).forEach((tensor, i) => this.backend.writeInto(tensor, before[i] as Float32Array | Int32Array));
    const outputs = runEagerly(this.body);
    const eager = [...values(Object.values(state)), ...values(outputs)];
    tf.dispose(outputs);
    const names = [...Object.keys(state), ...outputs.map((_, i) => `output ${i}`)];
    names.forEach((name, i) => {
      const [a, b] = [bitsOf(replayed[i] as tf.TypedArray), bitsOf(eager[i] as tf.TypedArray)];
      const at = a.findIndex((bits, k) => bits !== b[k]);
      if (at >= 0) throw new SimmimError('internal', this.name, `the replay differs from the eager run: element ${at} of ${name} is ${String(replayed[i]?.[at])}, expected ${String(eager[i]?.[at])}`);
    });
  }

  /** The recorded calls, one line each, in the syntax of the trace. */
  describe(): string {
    return this.program === undefined ? '' : loadAddon().describeProgram(this.program);
  }

  dispose(): void {
    tf.dispose(this.outputs);
    this.outputs = [];
    if (this.program !== undefined) loadAddon().disposeProgram(this.program);
    this.program = undefined;
    this.runs = 0;
  }
}

/** The kept results of a body; whatever else it makes is freed. */
function runEagerly(body: () => tf.Tensor[]): tf.Tensor[] {
  const outputs = tf.tidy(body);
  outputs.forEach((t) => tf.keep(t));
  return outputs;
}

function bitsOf(values: tf.TypedArray): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Runs its body eagerly every time. */
export class EagerFunction implements Runnable {
  private outputs: tf.Tensor[] = [];

  constructor(private readonly body: () => tf.Tensor[]) {}

  run(): Promise<tf.Tensor[]> {
    tf.dispose(this.outputs);
    this.outputs = runEagerly(this.body);
    return Promise.resolve(this.outputs);
  }

  dispose(): void {
    tf.dispose(this.outputs);
    this.outputs = [];
  }
}

/** A recorded function on our backends, an eager one elsewhere or when `record` is false. */
export function recordable(name: string, body: () => tf.Tensor[], tensors: ProgramTensors = {}, record = true): Runnable {
  const backend = tf.backend();
  return record && backend instanceof NativeBackend ? new RecordedFunction(name, backend, body, tensors) : new EagerFunction(body);
}
