import * as tf from '@tensorflow/tfjs-core';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';

/** Built by scripts/build-gradients.mjs; the path holds from ts/backend (tests) and from dist/backend. */
const BUNDLE = join(__dirname, '../../dist/backend/chained_methods.cjs');

/**
 * Adds the chained methods (`x.add(y)`) that tfjs-core's Node build leaves out and tfjs-layers needs (its orthogonal
 * initializer, hence every LSTM). Nothing happens where the union package has added them.
 * Throws `not_found` when the package was not built.
 */
export function registerChainedMethods(): void {
  if ('add' in tf.Tensor.prototype) return;
  if (!existsSync(BUNDLE)) throw new SimmimError('not_found', 'registerChainedMethods', `${BUNDLE} is missing: run npm run build:ts`);
  require(BUNDLE);
}
