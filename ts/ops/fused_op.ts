import * as tf from '@tensorflow/tfjs-core';
import { gradientPlace, takeGradient } from '../autodiff';
import type { NativeBackend } from '../backend/backend';
import { registerGradients } from '../backend/gradients';
import { SimmimError } from '../errors';

// When this module loads: tfjs looks a gradient up when an op is recorded, so they must be there before any loss runs.
registerGradients();

/** Inputs of an op by name; an optional input that is not given is null. */
export type OpInputs<I> = { [K in keyof I]: tf.Tensor | null };

/** What the gradient of an op gets back. */
export interface Saved<I> {
  /** The inputs named in `save` that were given. */
  inputs: { [K in keyof I]?: tf.Tensor };
  /** The kernel's outputs after the first. */
  outputs: tf.Tensor[];
  /** Whether an input was given, saved or not. */
  given(input: keyof I): boolean;
  /** Where the gradient of an input goes: memory that is waiting for it, or a new output of this shape. */
  out(input: keyof I, shape: readonly number[]): tf.TensorInfo;
  /**
   * The sum of the gradients that have reached an input by other ways, stored as the input is, for a kernel that adds it to its
   * own: the returned gradient of that input must then hold both. Null when there is none.
   */
  through(input: keyof I): tf.Tensor | null;
}

/** How a result is made again. */
export interface Remade {
  from: readonly tf.Tensor[];
  make(backend: NativeBackend, from: readonly tf.Tensor[]): tf.TensorInfo;
}

/** The half of an op that runs on our own backend: one kernel, and one call for all its gradients. */
export interface NativeHalf<I extends OpInputs<I>, A extends object> {
  /**
   * Output 0 is the result, the others are saved for the gradient. `taping` says whether a gradient may follow:
   * without it the others may be left out.
   */
  kernel(backend: NativeBackend, inputs: I, attrs: A, taping: boolean): tf.TensorInfo[];
  /** Inputs that get a gradient. The other inputs are constants to tfjs on our backend. */
  differentiable: readonly (keyof I & string)[];
  /** Inputs that the gradient reads. */
  save: readonly (keyof I & string)[];
  /**
   * For a result that is cheap to make: an op that would save it for its gradient keeps the tensors `from` instead, which others
   * keep anyway, and makes it once more when it is needed, with the same bits. Null where the result has to be kept.
   */
  again?(inputs: I, attrs: A): Remade | null;
  /** One native call: the gradient of every differentiable input that was given. */
  gradient(backend: NativeBackend, dy: tf.TensorInfo, saved: Saved<I>, attrs: A): { [K in keyof I]?: tf.TensorInfo };
}

/** A native half without a gradient, for ops whose result is a constant to the loss. */
export type ForwardHalf<I extends OpInputs<I>, A extends object> = Pick<NativeHalf<I, A>, 'kernel'>;

export interface FusedOpDefinition<I extends OpInputs<I>, A extends object> {
  /** Name of the tfjs kernel, e.g. 'WindowAttention'. */
  name: string;
  /** The definition of the op in plain tfjs ops: what other backends run, and the reference of the tests. */
  composed(inputs: I, attrs: A): tf.Tensor;
  native?: NativeHalf<I, A> | ForwardHalf<I, A>;
}

/** A callable op; `composed` and `name` stay reachable for tests and benches. */
export interface FusedOp<I extends OpInputs<I>, A extends object> {
  (inputs: I, attrs: A): tf.Tensor;
  readonly definition: FusedOpDefinition<I, A>;
}

/**
 * An op that is one kernel where there is one and a composition of tfjs ops elsewhere.
 *
 * On our own backends ('simmim-cpu', 'simmim-cuda') the native half runs as the tfjs kernel `name`, registered
 * on first use, inside `tf.customGrad`: the result is the only output on the tape, so auxiliary outputs are
 * saved tensors and never cost the dense zero gradients that tfjs makes for unused outputs of a kernel, and an
 * input that is not given needs no stand-in. Our backend never falls back: a missing half there throws
 * `internal`. Everywhere else `composed` runs and tfjs differentiates it. Native gradients are not
 * differentiable again.
 */
export function fusedOp<I extends OpInputs<I>, A extends object>(definition: FusedOpDefinition<I, A>): FusedOp<I, A> {
  const op = (inputs: I, attrs: A): tf.Tensor => {
    const half = nativeHalf(definition);
    if (half === null) return tf.tidy(definition.name, () => definition.composed(inputs, attrs));
    return 'gradient' in half ? runWithGradient(definition.name, half, inputs, attrs) : runKernel(definition.name, inputs, attrs, false)[0] as tf.Tensor;
  };
  return Object.assign(op, { definition });
}

export interface InPlaceOpDefinition<I extends OpInputs<I>, A extends object> {
  name: string;
  /** The same effect in plain tfjs ops and `Variable.assign`. */
  composed(inputs: I, attrs: A): void;
  /** Writes into the storage of its inputs and returns no output. */
  native?: { kernel(backend: NativeBackend, inputs: I, attrs: A): void };
}

/** An op that updates variables: in place by the kernel on our backends, composed and assigned elsewhere. */
export function inPlaceOp<I extends OpInputs<I>, A extends object>(definition: InPlaceOpDefinition<I, A>): (inputs: I, attrs: A) => void {
  const { name, composed, native } = definition;
  const half = native && {
    kernel(backend: NativeBackend, inputs: I, attrs: A): tf.TensorInfo[] {
      native.kernel(backend, inputs, attrs);
      return [];
    },
  };
  return (inputs, attrs) => {
    if (nativeHalf({ name, native: half }) === null) tf.tidy(name, () => composed(inputs, attrs));
    else runKernel(name, inputs, attrs, false);
  };
}

/** Whether the active backend is one of ours; initialises tfjs's default backend when none is active yet. */
export function onOwnBackend(): boolean {
  tf.backend();
  return tf.getBackend().startsWith('simmim-');
}

/** The native half to run on the active backend, registered there as a tfjs kernel, or null for the composed form. */
function nativeHalf<I extends OpInputs<I>, A extends object, H extends ForwardHalf<I, A>>(definition: { name: string; native?: H }): H | null {
  if (!onOwnBackend()) return null;
  const { name, native } = definition;
  const backendName = tf.getBackend();
  if (native === undefined) {
    throw new SimmimError('internal', name, `has no native kernel, and ${backendName} does not fall back to slower composed ops`);
  }
  if (tf.getKernel(name, backendName) == null) registerFusedKernel(name, backendName, native);
  return native;
}

interface KernelAttrs<A> {
  attrs: A;
  taping: boolean;
}

/** Registers a native half as the tfjs kernel `name` of a backend. */
export function registerFusedKernel<I extends OpInputs<I>, A extends object>(name: string, backendName: string, half: ForwardHalf<I, A>): void {
  tf.registerKernel({
    kernelName: name,
    backendName,
    kernelFunc: (call) => {
      const { attrs, taping } = call.attrs as unknown as KernelAttrs<A>;
      return half.kernel(call.backend as NativeBackend, call.inputs as unknown as I, attrs, taping);
    },
  });
}

function runKernel<I extends OpInputs<I>, A extends object>(name: string, inputs: I, attrs: A, taping: boolean): tf.Tensor[] {
  const call: KernelAttrs<A> = { attrs, taping };
  return tf.engine().runKernel<tf.Tensor[]>(name, inputs as unknown as tf.NamedTensorMap, call as unknown as tf.NamedAttrMap);
}

function runWithGradient<I extends OpInputs<I>, A extends object>(name: string, half: NativeHalf<I, A>, inputs: I, attrs: A): tf.Tensor {
  const taping = tf.engine().isTapeOn();
  if (!taping) {
    const [result, ...auxiliary] = runKernel(name, inputs, attrs, false);
    tf.dispose(auxiliary);
    return result as tf.Tensor;
  }
  const given = half.differentiable.filter((key) => inputs[key] !== null);
  const keeping = half.save.filter((key) => inputs[key] !== null).map((key) => new Kept(key, inputs[key] as tf.Tensor));
  const op = tf.customGrad((...args: unknown[]) => {
    const save = args[args.length - 1] as tf.GradSaveFunc;
    const outputs = runKernel(name, inputs, attrs, true);
    save([...keeping.flatMap(({ tensors }) => tensors), ...outputs.slice(1)]);
    const gradFunc = (dy: tf.Tensor, tensors: tf.Tensor[]): tf.Tensor[] => {
      const backend = tf.backend() as NativeBackend;
      const out = (key: keyof I, shape: readonly number[]): tf.TensorInfo => {
        const place = gradientPlace(inputs[key] as tf.Tensor);
        if (!place) return backend.output(shape);
        backend.refInPlace(place);
        return sameData(backend, place);
      };
      const rest = [...tensors];
      const found: Saved<I>['inputs'] = {};
      for (const kept of keeping) found[kept.key] = kept.take(backend, rest);
      const saved: Saved<I> = { inputs: found, outputs: rest, given: (key) => inputs[key] !== null, out, through: (key) => gradientThrough(backend, inputs[key], found[key]) };
      const gradients = half.gradient(backend, dy, saved, attrs);
      for (const kept of keeping) kept.done();
      return given.map((key) => {
        const info = gradients[key];
        if (info === undefined) throw new SimmimError('internal', name, `its gradient has none for ${key}`);
        return tf.engine().makeTensorFromTensorInfo(info);
      });
    };
    return { value: outputs[0] as tf.Tensor, gradFunc };
  });
  const result = op(...given.map((key) => inputs[key] as tf.Tensor));
  const again = half.again?.(inputs, attrs);
  if (again) remade.set(result, again);
  return result;
}

/** Results that need not be kept. */
const remade = new WeakMap<tf.Tensor, Remade>();

/** An input that a gradient reads: the tensor itself, or what it is made from again. */
class Kept<K> {
  readonly tensors: readonly tf.Tensor[];
  private readonly recipe: Remade | undefined;
  private made: tf.Tensor | null = null;

  constructor(
    readonly key: K,
    input: tf.Tensor,
  ) {
    this.recipe = remade.get(input);
    this.tensors = this.recipe?.from ?? [input];
  }

  /** The input, from what was saved for it at the front of `saved`, which it takes off. */
  take(backend: NativeBackend, saved: tf.Tensor[]): tf.Tensor {
    const own = saved.splice(0, this.tensors.length);
    if (!this.recipe) return own[0] as tf.Tensor;
    return (this.made = tf.engine().makeTensorFromTensorInfo(this.recipe.make(backend, own)));
  }

  /** Frees it if it was made. */
  done(): void {
    this.made?.dispose();
    this.made = null;
  }
}

/** `saved`: what was kept of the input, which may be gone itself. */
function gradientThrough(backend: NativeBackend, input: tf.Tensor | null, saved: tf.Tensor | undefined): tf.Tensor | null {
  return input && takeGradient(input, (sum) => backend.storageOf(sum) === backend.storageOf(saved ?? input));
}

/** Another reference to a tensor, for a gradient that is dy itself. */
export function sameData(backend: NativeBackend, info: tf.TensorInfo): tf.TensorInfo {
  backend.incRef(info.dataId);
  return { dataId: info.dataId, shape: info.shape, dtype: info.dtype };
}
