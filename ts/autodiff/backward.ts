import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';

/**
 * Backward over tfjs's own tape, freeing as it goes. tf.variableGrads keeps every saved tensor and every
 * intermediate gradient until the end; here each is freed after its last use, and each variable's gradient
 * is handed out as soon as it is complete. The only file that touches engine().state; test/autodiff pins it
 * to the fields of tfjs-core 4.22.
 */

type EngineState = ReturnType<typeof tf.engine>['state'];
type TapeNode = NonNullable<EngineState['activeTape']>[number];

function engineState(): EngineState {
  const { state } = tf.engine();
  if (typeof state.gradientDepth !== 'number' || typeof state.kernelDepth !== 'number' || !('scopeStack' in state)) {
    throw new SimmimError('unsupported', 'backward', `tfjs-core ${tf.version_core} keeps its tape differently: install @tensorflow/tfjs-core 4.22`);
  }
  if (state.gradientDepth > 0) {
    throw new SimmimError('unsupported', 'backward', 'called while tfjs records another gradient: second derivatives are not supported');
  }
  return state;
}

/** Runs `f` with a tape of its own. The caller owns the saved tensors of the nodes. */
function record(f: () => tf.Tensor): { y: tf.Tensor; tape: TapeNode[] } {
  const state = engineState();
  const outer = state.activeTape;
  const tape: TapeNode[] = [];
  state.activeTape = tape;
  state.gradientDepth = 1;
  try {
    return { y: tf.tidy('forward', f), tape };
  } catch (error) {
    for (const node of tape) tf.dispose(node.saved);
    throw error;
  } finally {
    state.activeTape = outer as TapeNode[];
    state.gradientDepth = 0;
  }
}

/** What the walk needs to know of a tape. */
interface Plan {
  /** Which nodes lie between xs and y. */
  onPath: boolean[];
  /** Ids of the tensors that depend on xs. */
  live: Set<number>;
  /** Which xs are complete after a node. */
  completeAt: Map<number, number[]>;
  /** How many inputs of the nodes on the path a tensor is. */
  uses: Map<number, number>;
}

function plan(tape: TapeNode[], xs: readonly tf.Tensor[], y: tf.Tensor): Plan {
  const live = new Set(xs.map((x) => x.id));
  const fromX = tape.map((node) => {
    const depends = Object.values(node.inputs).some((input) => live.has(input.id));
    if (depends) for (const output of node.outputs) live.add(output.id);
    return depends;
  });
  const leadsToY = new Set([y.id]);
  const onPath = new Array<boolean>(tape.length).fill(false);
  const firstUse = new Map<number, number>();
  const uses = new Map<number, number>();
  for (let i = tape.length - 1; i >= 0; i--) {
    const node = tape[i] as TapeNode;
    if (!node.outputs.some((output) => leadsToY.has(output.id))) continue;
    for (const input of Object.values(node.inputs)) leadsToY.add(input.id);
    if (!fromX[i]) continue;
    onPath[i] = true;
    for (const { id } of Object.values(node.inputs)) {
      firstUse.set(id, i);
      uses.set(id, (uses.get(id) ?? 0) + 1);
    }
  }
  const completeAt = new Map<number, number[]>();
  xs.forEach((x, index) => {
    const node = firstUse.get(x.id);
    if (node !== undefined) completeAt.set(node, [...(completeAt.get(node) ?? []), index]);
  });
  return { onPath, live, completeAt, uses };
}

/** The gradients under way, by tensor id. One tensor may be the gradient of several ids (an addition passes dy on), so holders are counted. */
class Gradients {
  private readonly byId = new Map<number, tf.Tensor>();
  private readonly holders = new Map<tf.Tensor, number>();

  /** Tensors older than `born` are somebody else's (inputs, saved tensors) and are cloned before they are held. */
  constructor(private readonly born: number) {}

  get(id: number): tf.Tensor | undefined {
    return this.byId.get(id);
  }

  add(id: number, gradient: tf.Tensor): void {
    const previous = this.byId.get(id);
    const next = previous ? tf.add(previous, gradient) : gradient.id < this.born ? tf.clone(gradient) : gradient;
    this.holders.set(next, (this.holders.get(next) ?? 0) + 1);
    tf.keep(next);
    this.byId.set(id, next);
    if (previous) this.release(previous);
  }

  drop(id: number): void {
    const gradient = this.byId.get(id);
    if (gradient === undefined) return;
    this.byId.delete(id);
    this.release(gradient);
  }

  dropAll(): void {
    for (const id of [...this.byId.keys()]) this.drop(id);
  }

  private release(gradient: tf.Tensor): void {
    const holders = (this.holders.get(gradient) as number) - 1;
    if (holders > 0) this.holders.set(gradient, holders);
    else {
      this.holders.delete(gradient);
      gradient.dispose();
    }
  }
}

/** What the ops' gradient functions may ask of the walk: the node under way. */
class UnderWay {
  /** Inputs whose gradient has been written to a place that was offered for it. */
  readonly placed = new Set<number>();
  /** Inputs whose gradient so far the node adds into its own. */
  readonly taken = new Set<number>();

  constructor(
    private readonly live: ReadonlySet<number>,
    private readonly gradients: Gradients,
    /** Places for gradients that are complete with this node, by the id of the input. */
    private readonly offers: ReadonlyMap<number, () => tf.TensorInfo | null>,
  ) {}

  place(input: tf.Tensor): tf.TensorInfo | null {
    const place = this.offers.get(input.id)?.() ?? null;
    if (place) this.placed.add(input.id);
    return place;
  }

  take(input: tf.Tensor, accept: (gradient: tf.Tensor) => boolean): tf.Tensor | null {
    const sum = this.live.has(input.id) && !this.taken.has(input.id) ? this.gradients.get(input.id) : undefined;
    if (sum === undefined || !accept(sum)) return null;
    this.taken.add(input.id);
    return sum;
  }
}

let underWay: UnderWay | null = null;

/**
 * Memory for the gradient of an input of the op whose gradient is being computed, or null where it makes its own.
 * An op that gets a place fills all of it and returns a tensor over it as that input's gradient.
 */
export function gradientPlace(input: tf.Tensor): tf.TensorInfo | null {
  return underWay?.place(input) ?? null;
}

/** As {@link gradientPlace}, of the op that is being differentiated now, for use later inside another walk. */
export function gradientPlaces(): (input: tf.Tensor) => tf.TensorInfo | null {
  const now = underWay;
  return (input) => now?.place(input) ?? null;
}

/**
 * For an op's gradient function: the gradient that has reached its input `x` by other ways, which the caller promises to
 * add to the one it returns for `x` (a residual connection's, where a norm's kernel adds it in passing). Null when there
 * is none, or when the walk is not `backward`'s; `accept` may decline it.
 */
export function takeGradient(x: tf.Tensor, accept: (gradient: tf.Tensor) => boolean): tf.Tensor | null {
  return underWay?.take(x, accept) ?? null;
}

/** What a tensor is another form of, with one gradient for both. */
const standsFor = new WeakMap<tf.Tensor, tf.Tensor>();

/**
 * Says that `output` holds the values of `input` in another form and hands its gradient on as it is: a place for the gradient of
 * `input` is then offered to whoever makes the gradient of `output`.
 */
export function standIn(output: tf.Tensor, input: tf.Tensor): void {
  standsFor.set(output, input);
}

/** Offers places for inputs to the makers of their stand-ins' gradients as well. */
function passOffersOn(tape: readonly TapeNode[], { onPath, uses }: Plan, offers: Map<number, () => tf.TensorInfo | null>): void {
  tape.forEach(({ inputs, outputs }, i) => {
    const output = outputs[0] as tf.Tensor;
    const input = onPath[i] ? standsFor.get(output) : undefined;
    const offer = input && offers.get(input.id);
    if (offer && uses.get(output.id) === 1 && Object.values(inputs).every(({ id }) => id === input.id)) offers.set(output.id, offer);
  });
}

/** Runs a node's gradient function as the node under way. */
function ask(node: TapeNode, dys: tf.Tensor[], own: UnderWay): ReturnType<NonNullable<TapeNode['gradient']>> {
  const outer = underWay;
  underWay = own;
  try {
    return (node.gradient as NonNullable<TapeNode['gradient']>)(dys);
  } finally {
    underWay = outer;
  }
}

/** Adds the gradients of a node's inputs, given those of its outputs; returns the ids of inputs whose gradient was written to a place of `offers`. */
function stepBack(node: TapeNode, live: Set<number>, gradients: Gradients, offers: ReadonlyMap<number, () => tf.TensorInfo | null>): ReadonlySet<number> {
  if (node.gradient == null) {
    throw new SimmimError('unsupported', 'backward', `tfjs kernel ${node.kernelName} has no gradient and lies between the loss and a variable`);
  }
  const own = new UnderWay(live, gradients, offers);
  tf.tidy(() => {
    // tfjs would upload zeros from the host for an output that nobody used; these are made on the device.
    const dys = node.outputs.map((output) => gradients.get(output.id) ?? tf.fill(output.shape, 0, output.dtype as 'float32'));
    const thunks = ask(node, dys, own);
    for (const [name, input] of Object.entries(node.inputs)) {
      if (!live.has(input.id)) continue;
      const thunk = thunks[name];
      if (thunk === undefined) throw new SimmimError('unsupported', 'backward', `tfjs kernel ${node.kernelName} has no gradient for its input ${name}`);
      const gradient = tf.tidy(thunk);
      if (gradient.dtype !== 'float32' || !tf.util.arraysEqual(gradient.shape, input.shape)) {
        throw new SimmimError('internal', 'backward', `the gradient of ${node.kernelName} for ${name} is ${gradient.dtype} [${gradient.shape}], expected float32 [${input.shape}]`);
      }
      if (own.placed.has(input.id)) continue;
      if (own.taken.delete(input.id)) gradients.drop(input.id); // it is in `gradient`, or in that of a later input that is the same tensor
      gradients.add(input.id, gradient);
    }
  });
  return own.placed;
}

/** Takes the gradients of a walk. */
export interface GradientSink {
  /**
   * The gradient of xs[index] is complete: called once for each that the result depends on, in the order in which
   * they complete. `gradient` is freed when the call returns, so keep a clone, and may be shared, so do not write
   * into it; null means that it has been written to `place(index)`.
   */
  onGrad(index: number, gradient: tf.Tensor | null): void;
  /** Memory of xs[index]'s shape that the op which makes its gradient may fill, whatever was there. Asked for only where one op makes all of it. */
  place?(index: number): tf.TensorInfo | null;
}

/** Records y = f(), then hands dyᵀ ∂y/∂xs[i] to the sink for every xs[i] that y depends on. `dy` null is ones. Returns y. */
export function pullBack(f: () => tf.Tensor, xs: readonly tf.Tensor[], dy: tf.Tensor | null, sink: GradientSink): tf.Tensor {
  const { y, tape } = record(() => {
    const result = f();
    return xs.includes(result) ? tf.clone(result) : result;
  });
  if (dy && !tf.util.arraysEqual(y.shape, dy.shape)) {
    for (const node of tape) tf.dispose(node.saved);
    throw new SimmimError('invalid_argument', 'checkpoint', `block gave [${y.shape}] when run again, [${dy.shape}] at first: it must be a function of its inputs`);
  }
  const walk = plan(tape, xs, y);
  const { onPath, live, completeAt, uses } = walk;
  tape.forEach((node, i) => onPath[i] || tf.dispose(node.saved));
  const seed = dy ? tf.clone(dy) : tf.onesLike(y);
  const gradients = new Gradients(seed.id);
  const offers = new Map<number, () => tf.TensorInfo | null>();
  const { place } = sink;
  if (place) xs.forEach(({ id }, index) => uses.get(id) === 1 && offers.set(id, () => place(index)));
  passOffersOn(tape, walk, offers);
  const placed = new Set<number>();
  const give = (index: number): void => {
    const { id } = xs[index] as tf.Tensor;
    sink.onGrad(index, placed.has(id) ? null : (gradients.get(id) as tf.Tensor));
    gradients.drop(id);
  };
  gradients.add(y.id, seed);
  try {
    for (let i = tape.length - 1; i >= 0; i--) {
      const node = tape.pop() as TapeNode;
      if (!onPath[i]) continue;
      try {
        const [output] = node.outputs as [tf.Tensor];
        if (placed.has(output.id)) placed.add((standsFor.get(output) as tf.Tensor).id);
        else stepBack(node, live, gradients, offers).forEach((id) => placed.add(id));
      } finally {
        tf.dispose(node.saved);
      }
      for (const output of node.outputs) gradients.drop(output.id);
      for (const index of completeAt.get(i) ?? []) give(index);
    }
  } catch (error) {
    y.dispose();
    throw error;
  } finally {
    tape.forEach((node, i) => onPath[i] && tf.dispose(node.saved));
    gradients.dropAll();
  }
  return y;
}

/**
 * The loss and the gradients of the variables it depends on, as tf.variableGrads computes them, with the memory
 * of a streaming walk.
 *
 * `sink.onGrad(index, gradient)` is called once for each variable, index into `variables`, as soon as its gradient
 * is complete: variables used late in the forward pass come first. A variable the loss does not depend on
 * gets no call. The gradient lives until onGrad returns (tf.keep(tf.clone(g)) to hold it) and is read-only;
 * tensors made inside onGrad are tidied. With `sink.place`, ops of ours write gradients where they are wanted. A
 * function instead of a sink is its onGrad. Returns the loss; the caller disposes it.
 *
 * Throws `invalid_argument` when the loss is not a float32 scalar, depends on none of the variables, or a variable
 * is listed twice; `unsupported` when an op on the way has no gradient.
 */
export function backward(loss: () => tf.Scalar, variables: readonly tf.Variable[], sink: GradientSink | ((index: number, gradient: tf.Tensor) => void)): tf.Scalar {
  const { onGrad, place } = typeof sink === 'function' ? { onGrad: sink as GradientSink['onGrad'], place: undefined } : sink;
  const ids = new Set(variables.map((variable) => variable.id));
  if (ids.size < variables.length) throw new SimmimError('invalid_argument', 'backward', 'variables lists a variable twice');
  let calls = 0;
  const checked = (): tf.Tensor => {
    const y = loss();
    if (!(y instanceof tf.Tensor) || y.rank !== 0 || y.dtype !== 'float32') {
      const got = y instanceof tf.Tensor ? `${String((y as tf.Tensor).dtype)} [${(y as tf.Tensor).shape}]` : String(y);
      throw new SimmimError('invalid_argument', 'backward', `loss returned ${got}, expected a float32 scalar`);
    }
    return y;
  };
  const counted = (index: number, gradient: tf.Tensor | null): void => {
    calls++;
    tf.tidy(() => {
      onGrad(index, gradient);
    });
  };
  const value = pullBack(checked, variables, null, { onGrad: counted, ...(place ? { place } : {}) });
  if (calls === 0) {
    value.dispose();
    throw new SimmimError('invalid_argument', 'backward', `the loss depends on none of the ${variables.length} variables`);
  }
  return value as tf.Scalar;
}
