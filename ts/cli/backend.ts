import * as tf from '@tensorflow/tfjs-core';
import { CPU_BACKEND } from '../backend';
import { SimmimError } from '../errors';
import { nearest } from '../train/recipe';

const BACKENDS = [CPU_BACKEND, 'cpu'] as const;

/**
 * Makes a tfjs backend the active one: `simmim-cpu` (ours) or `cpu` (tfjs's own, hundreds of times slower,
 * for comparison). Never falls back from one to the other.
 */
export async function useBackend(name: string): Promise<void> {
  if (!(BACKENDS as readonly string[]).includes(name)) {
    const guess = nearest(name, BACKENDS);
    throw new SimmimError('invalid_argument', '--backend', `unknown backend '${name}'${guess ? `, did you mean '${guess}'?` : ''} (known: ${BACKENDS.join(', ')})`);
  }
  tf.enableProdMode(); // silences tfjs's advertisement for another backend
  if (name === 'cpu') await import('@tensorflow/tfjs-backend-cpu');
  await tf.setBackend(name);
  await tf.ready();
  if (tf.getBackend() !== name) throw new SimmimError('unsupported', '--backend', `'${name}' does not start on this machine: see 'simmim doctor'`);
}
