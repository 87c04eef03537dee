import * as tf from '@tensorflow/tfjs-core';
import { expect, test } from 'vitest';
import * as ops from '../../ts/ops';
import { checkOp } from '../helpers/check_op';
import { activate } from '../helpers/devices';
import { layerNormSpec } from './layer_norm.cases';

checkOp(layerNormSpec);

// Results of more than 4 MiB are stored past the caches (native/cpu/stream.h), those of each half are not.
test('the rows of a large result are those of its halves, bit by bit', async () => {
  await activate({ name: '', backend: 'simmim-cpu' });
  tf.engine().startScope();
  const [x, dy, gamma, beta] = [tf.randomNormal([8256, 128], 1, 2, 'float32', 1), tf.randomNormal([8256, 128], 0, 1, 'float32', 2), tf.randomNormal([128], 1, 0.3, 'float32', 3), tf.randomNormal([128], 0, 1, 'float32', 4)] as [tf.Tensor2D, tf.Tensor2D, tf.Tensor1D, tf.Tensor1D];
  const both = (rows: tf.Tensor2D, d: tf.Tensor2D): tf.Tensor[] => {
    const norm = (t: tf.Tensor): tf.Tensor => ops.layerNorm(t, gamma, beta, 1e-5);
    return [norm(rows), tf.grad(norm)(rows, d)];
  };
  const whole = both(x, dy);
  const halves = [0, 1].map((half) => both(tf.slice(x, [half * 4128, 0], [4128, 128]), tf.slice(dy, [half * 4128, 0], [4128, 128])));
  whole.forEach((result, i) => expect(Buffer.from(result.dataSync().buffer).equals(Buffer.from(tf.concat(halves.map((h) => h[i] as tf.Tensor)).dataSync().buffer))).toBe(true));
  tf.engine().endScope();
});
