import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { backward, checkpoint } from '../../ts/autodiff';
import { dropPath, inStorage, layerNorm, linear } from '../../ts/ops';
import { maxAbs } from '../helpers/compare';
import { activate, allocated, COMPOSED, lacking, OWN } from '../helpers/devices';
import { maxAbsDiff } from '../helpers/golden';

describe.each([COMPOSED, OWN])('$name', (device) => {
  let before: Record<string, number> = {};
  let variables: tf.Variable[] = [];

  beforeAll(async () => {
    await activate(device);
  });
  beforeEach(() => {
    before = allocated();
  });
  afterEach(() => {
    tf.dispose(variables);
    variables = [];
    expect(allocated(), 'left behind').toEqual(before);
  });

  function variable(shape: number[], seed: number): tf.Variable {
    const created = tf.tidy(() => tf.variable(tf.randomNormal(shape, 0, 0.5, 'float32', seed)));
    variables.push(created);
    return created;
  }

  function streamed(loss: () => tf.Scalar): { value: number; gradients: (number[] | null)[]; order: number[] } {
    const gradients: (number[] | null)[] = variables.map(() => null);
    const order: number[] = [];
    const value = backward(loss, variables, (index, gradient) => {
      expect(gradients[index], `variable ${index} was handed out twice`).toBeNull();
      gradients[index] = Array.from(gradient.dataSync());
      order.push(index);
    });
    const scalar = value.dataSync()[0] as number;
    value.dispose();
    return { value: scalar, gradients, order };
  }

  function reference(loss: () => tf.Scalar): { value: number; gradients: (number[] | null)[] } {
    let outcome = { value: NaN, gradients: [] as (number[] | null)[] };
    tf.tidy(() => {
      const { value, grads } = tf.variableGrads(loss, variables);
      const gradients = variables.map(({ name }) => (grads[name] ? Array.from(grads[name].dataSync()) : null));
      outcome = { value: value.dataSync()[0] as number, gradients };
    });
    return outcome;
  }

  /** The same bits as tf.variableGrads, checked for equality, not closeness. */
  function expectSame(loss: () => tf.Scalar): void {
    const { value, gradients } = streamed(loss);
    expect({ value, gradients }).toEqual(reference(loss));
  }

  /** `backward` with a place for every gradient: which ones it wrote there, with the same bits as those it streams. */
  function intoPlaces(loss: () => tf.Scalar): { value: tf.Scalar; places: tf.Tensor[]; written: number[] } {
    const { gradients } = streamed(loss);
    const places = variables.map(({ shape }) => tf.fill(shape, NaN));
    const written: number[] = [];
    const value = backward(loss, variables, {
      place: (index) => places[index] as tf.Tensor,
      onGrad: (index, gradient) => {
        if (gradient === null) written.push(index);
        else expect(Array.from(gradient.dataSync())).toEqual(gradients[index]);
      },
    });
    for (const index of written) expect(Array.from((places[index] as tf.Tensor).dataSync())).toEqual(gradients[index]);
    return { value, places, written: written.sort() };
  }

  describe('backward gives the bits of tf.variableGrads', () => {
    test.skipIf(device === OWN && lacking('layer_norm'))('for a chain of fused and plain ops', () => {
      const [w1, w2, g, b] = [variable([8, 4], 1), variable([4, 8], 2), variable([4], 3), variable([4], 4)];
      const x = tf.randomNormal([5, 4], 0, 1, 'float32', 5);
      expectSame(() => {
        const h = linear(layerNorm(x, g, b, 1e-5), w1, null, { activation: 'gelu' });
        return tf.mean(tf.square(linear(h, w2, null, { residual: x }))) as tf.Scalar;
      });
      x.dispose();
    });

    test('for a variable used several times and one op that uses it twice', () => {
      const [a, b] = [variable([3, 3], 1), variable([3, 3], 2)];
      expectSame(() => {
        const c = tf.add(tf.matMul(a, b), tf.mul(a, a));
        return tf.sum(tf.mul(tf.add(c, b), tf.sub(c, a))) as tf.Scalar;
      });
    });

    test('for outputs that nobody used, and gradients that pass through unchanged', () => {
      const [a, b] = [variable([4, 6], 1), variable([4, 2], 2)];
      expectSame(() => {
        const [, middle] = tf.split(a, 3, 1) as [tf.Tensor, tf.Tensor];
        tf.square(a);
        return tf.sum(tf.add(tf.add(middle, b), b)) as tf.Scalar;
      });
    });

  });

  test('a gradient that reaches the input of a norm round it is added by the norm, not by a kernel of its own', async () => {
    const [w, g, b] = [variable([6, 6], 1), variable([6], 2), variable([6], 3)];
    const x = tf.randomNormal([5, 6], 0, 1, 'float32', 4);
    const loss = (): tf.Scalar => {
      const y = linear(x, w, null);
      const z = linear(layerNorm(y, g, b, 1e-5), w, null, { residual: y });
      return tf.sum(tf.mul(layerNorm(z, g, b, 1e-5, { residual: z }), x));
    };
    const [got, wanted] = [streamed(loss).gradients, reference(loss).gradients] as [number[][], number[][]];
    got.forEach((values, i) => expect(maxAbsDiff(values, wanted[i] as number[])).toBeLessThan(1e-6 * maxAbs(wanted[i] as number[])));
    if (device.backend === 'simmim-cpu') {
      const { kernels } = await tf.profile(() => backward(loss, variables, () => undefined).dispose() as never);
      // w, g and b are used twice, and z is x and residual of one op; y's two gradients meet in the norm.
      expect(kernels.filter(({ name }) => name === 'Add')).toHaveLength(4);
    }
    x.dispose();
  });

  test('a loss that is the variable itself has gradient 1 and leaves the variable alive', () => {
    const a = variable([], 1);
    expect(streamed(() => a as tf.Tensor as tf.Scalar).gradients).toEqual([[1]]);
    expect(a.isDisposed).toBe(false);
  });

  test('a variable the loss does not depend on gets no call; the others come in the order in which they complete', () => {
    const [a, b, c] = [variable([2], 1), variable([2], 2), variable([2], 3)];
    const { gradients, order } = streamed(() => tf.sum(tf.mul(tf.mul(a, b), tf.mul(tf.square(b), 2))) as tf.Scalar);
    expect(gradients[variables.indexOf(c)]).toBeNull();
    expect(order).toEqual([0, 1]);
    const late = streamed(() => tf.sum(tf.mul(tf.square(a), c)) as tf.Scalar);
    expect(late.order, 'c is used last, so it completes first').toEqual([2, 0]);
  });

  /** Peak engine bytes above the start while f runs. */
  function peakBytes(f: () => void): number {
    const engine = tf.engine();
    const track = engine.trackTensor.bind(engine);
    const start = tf.memory().numBytes;
    let peak = start;
    engine.trackTensor = (tensor, backend) => {
      track(tensor, backend);
      peak = Math.max(peak, tf.memory().numBytes);
    };
    try {
      f();
    } finally {
      engine.trackTensor = track;
    }
    return peak - start;
  }

  test('memory: below tf.variableGrads, and far below with checkpointed blocks', () => {
    const x0 = tf.randomNormal([64, 16], 0, 1, 'float32', 7);
    const blocks = Array.from({ length: 12 }, (_, i) => [variable([64, 16], 2 * i), variable([16, 64], 2 * i + 1)] as const);
    const block = (x: tf.Tensor, [w1, w2]: readonly [tf.Variable, tf.Variable]): tf.Tensor =>
      tf.tidy(() => linear(tf.sigmoid(linear(x, w1, null)), w2, null, { residual: x }));
    const plain = (): tf.Scalar => tf.mean(tf.square(blocks.reduce((x, w) => block(x, w), x0 as tf.Tensor))) as tf.Scalar;
    const recomputed = (): tf.Scalar =>
      tf.mean(tf.square(blocks.reduce((x, w) => checkpoint((input) => block(input as tf.Tensor, w), w)(x), x0 as tf.Tensor))) as tf.Scalar;
    const whole = peakBytes(() => void reference(plain));
    const streaming = peakBytes(() => void streamed(plain));
    const checkpointed = peakBytes(() => void streamed(recomputed));
    // All parameters' gradients are 12 * 8 kB; the activations saved per block are about 5 times 16 kB.
    expect(streaming / whole).toBeLessThan(0.75);
    expect(checkpointed / whole).toBeLessThan(0.3);
    expect(streamed(recomputed).gradients).toEqual(streamed(plain).gradients);
    x0.dispose();
  });

  describe('checkpoint', () => {
    const clock = (): tf.Tensor => tf.tensor1d([3, 5, 0, 0], 'int32');

    test.skipIf(device === OWN && lacking('drop_path'))('recomputes with the same random bits, nests, and works under tf.variableGrads', () => {
      const [w, v] = [variable([4, 4], 1), variable([4, 4], 2)];
      const x0 = tf.randomNormal([6, 4], 0, 1, 'float32', 3);
      const time = clock();
      const inner = (x: tf.Tensor): tf.Tensor => tf.tidy(() => dropPath(linear(x, v, null, { activation: 'gelu' }), x, { rate: 0.5, site: 9, clock: time, training: true }));
      const outer = (x: tf.Tensor, run: (x: tf.Tensor) => tf.Tensor): tf.Tensor => tf.tidy(() => run(linear(run(x), w, null)));
      const plain = (): tf.Scalar => tf.sum(tf.square(outer(x0, inner))) as tf.Scalar;
      const nested = (): tf.Scalar => {
        const once = checkpoint((x) => inner(x as tf.Tensor), [v]);
        return tf.sum(tf.square(checkpoint((x) => outer(x as tf.Tensor, once), [w, v])(x0))) as tf.Scalar;
      };
      const wanted = reference(plain);
      expect(reference(nested)).toEqual(wanted);
      const { value, gradients } = streamed(nested);
      expect({ value, gradients }).toEqual(wanted);
      tf.dispose([x0, time]);
    });

    test('passes gradients to every input', () => {
      const [w, table] = [variable([3, 3], 1), variable([3, 3], 2)];
      const x0 = tf.randomNormal([2, 3], 0, 1, 'float32', 3);
      const run = (wrap: typeof checkpoint): tf.Scalar => {
        const bias = tf.square(table);
        const block = wrap((x, shared) => tf.tidy(() => tf.matMul(tf.matMul(x as tf.Tensor, w), shared as tf.Tensor)), [w]);
        return tf.sum(block(block(x0, bias), bias)) as tf.Scalar;
      };
      const plain: typeof checkpoint = (block) => block;
      const { value, gradients } = streamed(() => run(checkpoint));
      expect({ value, gradients }).toEqual(reference(() => run(plain)));
      x0.dispose();
    });

    test('refuses a block that is not a function of its inputs', () => {
      const w = variable([2], 1);
      let calls = 0;
      const odd = checkpoint((x) => tf.tile(tf.mul(x as tf.Tensor, w), [++calls]), [w]);
      const input = tf.ones([2]);
      expect(() => streamed(() => tf.sum(odd(input)) as tf.Scalar)).toThrow('checkpoint: block gave [4] when run again, [2] at first: it must be a function of its inputs');
      input.dispose();
    });
  });

  describe('errors name the cause and leave nothing behind', () => {
    test('a loss that is no scalar', () => {
      const a = variable([2], 1);
      expect(() => streamed(() => tf.square(a) as tf.Tensor as tf.Scalar)).toThrow('backward: loss returned float32 [2], expected a float32 scalar');
    });
    test('no connection', () => {
      const a = variable([2], 1);
      expect(() => streamed(() => tf.scalar(a.size))).toThrow('backward: the loss depends on none of the 1 variables');
    });
    test('a variable listed twice', () => {
      const a = variable([2], 1);
      expect(() => backward(() => tf.sum(a) as tf.Scalar, [a, a], () => undefined)).toThrow('backward: variables lists a variable twice');
    });
    test.skipIf(device === OWN && lacking('unique'))('an op without a gradient', () => {
      const a = variable([2, 2], 1);
      expect(() => streamed(() => tf.sum(tf.unique(a).values) as tf.Scalar)).toThrow('backward: tfjs kernel Unique has no gradient and lies between the loss and a variable');
    });
    test('a throwing callback, and a throwing loss', () => {
      const [a, b] = [variable([2], 1), variable([2], 2)];
      const loss = (): tf.Scalar => tf.sum(tf.mul(tf.exp(a), tf.exp(b))) as tf.Scalar;
      expect(() => backward(loss, variables, () => { throw new Error('full'); })).toThrow('full');
      expect(() => backward(() => { tf.exp(a); throw new Error('lost'); }, variables, () => undefined)).toThrow('lost');
    });
    test('inside another gradient', () => {
      const a = variable([2], 1);
      expect(() => tf.tidy(() => tf.grad((x) => { backward(() => tf.sum(tf.mul(a, x)) as tf.Scalar, [a], () => undefined); return x; })(tf.ones([2])))).toThrow('second derivatives are not supported');
    });
  });

  test('gradients are written where they are wanted, by the ops that can and where one op makes all of it', () => {
    const [w, b, gamma, beta, twice] = [variable([4, 4], 1), variable([4], 2), variable([4], 3), variable([4], 4), variable([4, 4], 5)];
    const x = tf.randomNormal([5, 4], 0, 1, 'float32', 6);
    const block = (z: tf.Tensor): tf.Tensor => linear(layerNorm(z, gamma, beta, 1e-5), w, b, { activation: 'gelu' });
    const loss = (): tf.Scalar => {
      const z = checkpoint(block, [w, b, gamma, beta])(linear(x, twice, null));
      return tf.sum(linear(z, twice, null)) as tf.Scalar;
    };
    const { value, places, written } = intoPlaces(loss);
    expect(written).toEqual(device.backend === 'cpu' ? [] : [0, 1, 2, 3]);
    tf.dispose([value, x, ...places]);
  });

  test('a place for a gradient is also offered to whoever multiplies with a copy of the variable in another storage', () => {
    const [w, shared] = [variable([4, 4], 1), variable([4, 4], 2)];
    const x = tf.randomNormal([5, 4], 0, 1, 'float32', 6);
    const loss = (): tf.Scalar => {
      const z = linear(linear(inStorage(x, 'bf16'), inStorage(w, 'bf16'), null), inStorage(shared, 'bf16'), null);
      return tf.sum(inStorage(linear(z, inStorage(shared, 'bf16'), null), 'f32')) as tf.Scalar;
    };
    const { value, places, written } = intoPlaces(loss);
    expect(written).toEqual(device.backend === 'cpu' ? [] : [0]);
    tf.dispose([value, x, ...places]);
  });

  test("tfjs-core's tape has the fields that backward relies on", () => {
    expect(tf.version_core).toBe('4.22.0');
    const a = variable([2], 1);
    const { state } = tf.engine();
    const tapeBefore = state.activeTape;
    expect(state).toMatchObject({ gradientDepth: 0, kernelDepth: 0 });
    const nodes = new Map<string, string[]>();
    const value = backward(() => {
      const y = tf.sum(tf.exp(a)) as tf.Scalar;
      expect(state.gradientDepth).toBe(1);
      for (const node of state.activeTape ?? []) nodes.set(node.kernelName, Object.keys(node).sort());
      return y;
    }, [a], () => undefined);
    value.dispose();
    const fields = ['gradient', 'id', 'inputs', 'kernelName', 'outputs', 'saved'];
    expect(nodes.get('Exp')).toEqual(fields);
    expect(nodes.get('Sum')).toEqual(fields);
    expect(state.activeTape, 'the tape is put back').toBe(tapeBefore);
  });
});
