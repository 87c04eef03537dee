import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { loadAddon } from '../native';
import { NativeBackend } from './backend';

/** How many runs are eager before the recording: the first one allocates what lives on (optimizer state, caches). */
const EAGER_RUNS = 1;

/**
 * A function of tensors that is recorded once and then replayed natively, off the event loop.
 *
 * Run 1 is eager, run 2 is eager while every native call is recorded, from run 3 on the recorded list is
 * replayed on a thread of its own with the same results, bit for bit. Everything that changes from run to
 * run must live in tensors that exist before run 1 and are changed in place (hyper-parameters, clock,
 * staging buffers). While recording, `not_recordable` is thrown for reads, for JavaScript kernels, for host
 * values above 4 kB, and for tensors that outlive the function without being returned.
 */
export class RecordedFunction {
  private runs = 0;
  private program: number | undefined;
  private outputs: tf.Tensor[] = [];

  /** `body` runs inside tf.tidy; the tensors it returns stay the same objects (and memory) after recording. */
  constructor(
    readonly name: string,
    private readonly backend: NativeBackend,
    private readonly body: () => tf.Tensor[],
  ) {}

  /** Whether the next run is a replay. */
  get recorded(): boolean {
    return this.program !== undefined;
  }

  /** One run; the returned tensors belong to this object and hold their values until the next run. */
  async run(): Promise<tf.Tensor[]> {
    if (this.program !== undefined) {
      await loadAddon().replay(this.program);
      for (const output of this.outputs) this.backend.refInPlace(output); // cached host copies are of the last run
      return this.outputs;
    }
    const record = this.runs++ >= EAGER_RUNS;
    tf.dispose(this.outputs);
    this.outputs = record ? this.record() : this.eager();
    return this.outputs;
  }

  private eager(): tf.Tensor[] {
    const outputs = tf.tidy(this.body);
    outputs.forEach((t) => tf.keep(t));
    return outputs;
  }

  private record(): tf.Tensor[] {
    const addon = loadAddon();
    addon.beginRecording(this.backend.device);
    try {
      const outputs = this.eager();
      const handles = outputs.map((output) => this.backend.ref(output).storage.handle);
      this.program = addon.endRecording(Int32Array.from(handles));
      return outputs;
    } catch (error) {
      addon.abortRecording();
      if (error instanceof SimmimError && error.code === 'not_recordable') throw new SimmimError('not_recordable', this.name, error.message, { cause: error });
      throw error;
    }
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
