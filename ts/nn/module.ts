import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import { inStorage } from '../ops/in_storage';
import type { Policy } from './context';

/**
 * One trainable tensor in the official PyTorch shape (linear `[out, in]`, convolution `[out, in, kh, kw]`).
 * Its variable is made on first use, so a model can be built, counted and described without memory.
 */
export class Parameter {
  /** Path from the model of the latest `namedParameters` walk, such as `encoder.norm.weight`. */
  name = '';
  /** A frozen parameter gets no gradient and no update. */
  frozen = false;
  private variable: tf.Variable | null = null;
  private write: ((values: Float32Array) => void) | null = null;
  private shadow: tf.Tensor | null = null;

  /** `initial` makes a float32 tensor of the starting values (a pure function: calling it late or twice changes nothing). */
  constructor(
    readonly shape: readonly number[],
    private readonly initial: () => tf.Tensor,
  ) {}

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((product, n) => product * n, 1);
  }

  /** Whether the variable exists already. */
  get allocated(): boolean {
    return this.variable !== null;
  }

  /** The variable, made from the initial values on first use and on the backend of that moment. */
  get value(): tf.Variable {
    if (!this.variable) {
      const start = this.initial();
      this.variable = tf.variable(start, true);
      start.dispose();
    }
    return this.variable;
  }

  /**
   * The values as products read them: the variable itself or, where the policy is bf16, its copy in bf16: the one that the
   * optimizer keeps up to date, else one made now. Differentiable with respect to the variable.
   */
  compute(ctx: Policy): tf.Tensor {
    return ctx.precision === 'bf16' ? inStorage(this.value, 'bf16', this.shadow) : this.value;
  }

  /** Replaces the values; `values.length` must be `size`. Before first use this saves the initial draw. */
  set(values: Float32Array): void {
    if (values.length !== this.size) {
      throw new SimmimError('invalid_argument', 'parameter', `${this.name || 'parameter'} got ${values.length} values, expected ${this.size} for shape [${this.shape.join(', ')}]`);
    }
    if (this.write) {
      this.write(values);
      return;
    }
    const tensor = tf.tensor(values, [...this.shape], 'float32');
    if (this.variable) this.variable.assign(tensor);
    else this.variable = tf.variable(tensor, true);
    tensor.dispose();
  }

  /**
   * Puts another variable in this one's place, such as a view of a flat buffer, whose values `write` replaces
   * (`assign` would detach the view). `shadow` is a bf16 copy that whoever changes the values keeps up to date. The old
   * variable is freed.
   */
  bind(variable: tf.Variable, write: (values: Float32Array) => void, shadow: tf.Tensor | null = null): void {
    this.dispose();
    this.variable = variable;
    this.write = write;
    this.shadow = shadow;
  }

  /** Frees the variable; the next use starts from the initial values again. */
  dispose(): void {
    this.variable?.dispose();
    this.shadow?.dispose();
    this.variable = null;
    this.write = null;
    this.shadow = null;
  }
}

/** A tensor computed once on the host and kept on the device: index tables, coordinates, band matrices. */
export class Constant {
  private tensor: tf.Tensor | null = null;

  constructor(private readonly make: () => tf.Tensor) {}

  /** The kept tensor, made on first use. */
  get value(): tf.Tensor {
    if (!this.tensor || this.tensor.isDisposed) this.tensor = tf.keep(this.make());
    return this.tensor;
  }

  /** Frees the tensor; the next use makes it again. */
  dispose(): void {
    if (this.tensor && !this.tensor.isDisposed) this.tensor.dispose();
    this.tensor = null;
  }
}

type Leaf = Parameter | Constant;

/**
 * Visits every `Parameter` and `Constant` below `node` once: the own ones first, then the children in
 * field order (PyTorch's order), arrays by position.
 */
function walk(node: object, path: string, visit: (leaf: Leaf, path: string) => void, seen: Set<object>): void {
  const children: [object, string][] = [];
  for (const [key, value] of Object.entries(node) as [string, unknown][]) {
    if (typeof value !== 'object' || value === null || seen.has(value)) continue;
    if (value instanceof tf.Tensor || ArrayBuffer.isView(value)) continue;
    const below = path ? `${path}.${key}` : key;
    if (value instanceof Parameter || value instanceof Constant) {
      seen.add(value);
      visit(value, below);
    } else {
      children.push([value, below]);
    }
  }
  for (const [child, below] of children) {
    if (seen.has(child)) continue;
    seen.add(child);
    walk(child, below, visit, seen);
  }
}

/**
 * All parameters of a model by their official names, in PyTorch's order. Names are the paths of field names
 * (`encoder.layers.0.blocks.1.attn.qkv.weight`); each `Parameter.name` is set to its path.
 */
export function namedParameters(model: object): Map<string, Parameter> {
  const found = new Map<string, Parameter>();
  walk(model, '', (leaf, path) => {
    if (!(leaf instanceof Parameter)) return;
    leaf.name = path;
    found.set(path, leaf);
  }, new Set([model]));
  return found;
}

/** The parameters below a part of a model, without renaming them. */
export function parametersOf(part: object): Parameter[] {
  const found: Parameter[] = [];
  walk(part, '', (leaf) => {
    if (leaf instanceof Parameter) found.push(leaf);
  }, new Set([part]));
  return found;
}

/** Number of parameter elements; allocates nothing. */
export function countParameters(model: object): number {
  return parametersOf(model).reduce((sum, p) => sum + p.size, 0);
}

/** Frees every variable and kept constant of a model. */
export function disposeModel(model: object): void {
  walk(model, '', (leaf) => leaf.dispose(), new Set([model]));
}

/**
 * Freezes the parameters whose names match a pattern; `*` stands for any text (`encoder.layers.0.*`).
 * Returns the frozen names. Throws when a pattern matches no parameter.
 */
export function freeze(model: object, patterns: readonly string[]): string[] {
  const parameters = namedParameters(model);
  const frozen: string[] = [];
  for (const pattern of patterns) {
    const expression = new RegExp(`^${pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`);
    const matched = [...parameters.keys()].filter((name) => expression.test(name));
    if (matched.length === 0) {
      throw new SimmimError('not_found', 'freeze', `pattern '${pattern}' matches none of the ${parameters.size} parameters (the first is '${[...parameters.keys()][0] ?? ''}')`);
    }
    for (const name of matched) {
      const parameter = parameters.get(name);
      if (parameter) parameter.frozen = true;
      frozen.push(name);
    }
  }
  return frozen;
}
