import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { CPU_BACKEND, type NativeBackend } from '../../ts/backend';
import { RecordedFunction } from '../../ts/backend/program';

beforeAll(() => tf.setBackend(CPU_BACKEND));

it('a program keeps the memory of temporaries of many sizes, far more than are alive at a time', async () => {
  // Each temporary has a size class of its own, so that none is reused: 380 MiB in all, 66 MiB at a time.
  const x = tf.keep(tf.fill([1 << 19], -1));
  const body = (): tf.Tensor[] => {
    let sum: tf.Tensor = tf.fill([], 0);
    for (let mebi = 3; mebi <= 11; mebi++) sum = tf.add(sum, tf.tidy(() => tf.max(tf.relu(tf.neg(tf.concat(new Array<tf.Tensor>(mebi).fill(x)))))));
    return [sum];
  };
  const program = new RecordedFunction('sizes', tf.backend() as NativeBackend, body);
  for (let run = 0; run < 3; run++) {
    const [y] = await program.run();
    expect((y as tf.Tensor).dataSync()[0]).toBe(9);
  }
  program.dispose();
  x.dispose();
});
