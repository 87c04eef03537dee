import * as tf from '@tensorflow/tfjs-core';
import { expect, test } from 'vitest';
import { clear } from '../../ts/ops';
import { checkOp } from '../helpers/check_op';
import { activate, COMPOSED, nativeDevices } from '../helpers/devices';
import { accumulateSpec } from './accumulate.cases';

checkOp(accumulateSpec);

test.each([COMPOSED, ...nativeDevices()])('clear sets all of a variable to 0 on $name', async (device) => {
  await activate(device);
  const flat = tf.tidy(() => tf.variable(tf.tensor1d([1, NaN, Infinity, -2])));
  clear(flat);
  expect(flat.dataSync()).toEqual(new Float32Array(4));
  flat.dispose();
});
