import * as tf from '@tensorflow/tfjs-core';
import * as kernels from '../native/kernels.gen';
import { NUMERIC, requireDtype } from './host';
import type { KernelTable } from './register';
import { ROWS } from './rows';
import { castTo } from './unary';

const TWO_32 = 0x100000000;

/** The state from which the generator "alea" (J. Baagoe) starts for a seed, as tfjs seeds it. */
function aleaState(seed: string): { s0: number; s1: number; s2: number; carry: number } {
  let n = 0xefc8249d;
  const mash = (text: string): number => {
    for (const char of text.split('')) {
      n += char.charCodeAt(0);
      let h = 0.02519603282416938 * n;
      n = h >>> 0;
      h = (h - n) * n;
      n = h >>> 0;
      n += (h - n) * TWO_32;
    }
    return (n >>> 0) / TWO_32;
  };
  const start = [mash(' '), mash(' '), mash(' ')];
  const [s0, s1, s2] = start.map((s) => {
    const less = s - mash(seed);
    return less < 0 ? less + 1 : less;
  }) as [number, number, number];
  return { s0, s1, s2, carry: 1 };
}

/** Random numbers. tf.randomNormal and its like are drawn by tfjs-core itself, in JavaScript. */
export const RANDOM: KernelTable = {
  Multinomial: (backend, inputs, attrs) => {
    const logits = inputs.logits as tf.TensorInfo;
    requireDtype('Multinomial', inputs, ...NUMERIC);
    const { numSamples, seed, normalized } = attrs as { numSamples: number; seed: number; normalized: boolean };
    const probabilities = normalized ? castTo(backend, logits, 'float32') : (ROWS.Softmax?.(backend, { logits }, { dim: -1 }) as tf.TensorInfo);
    const y = backend.output([logits.shape[0] as number, numSamples], 'int32');
    kernels.multinomial({ probabilities: backend.ref(probabilities), y: backend.outRef(y), ...aleaState(seed.toString()) });
    backend.disposeData(probabilities.dataId);
    return y;
  },
};
