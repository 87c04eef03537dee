import * as tf from '@tensorflow/tfjs-core';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { MENDED_GRADIENTS } from './mended_gradients';
import { MISSING_GRADIENTS } from './missing_gradients';

/** Built by scripts/build-gradients.mjs; the path holds from ts/backend (tests) and from dist/backend. */
const BUNDLE = join(__dirname, '../../dist/backend/core_gradients.cjs');

let registered = false;

/**
 * Registers tfjs-core's own gradients, which its Node build leaves out, those of kernels it has none for, and its wrong ones
 * mended. Gradients that are already registered, e.g. by the union package, stay as they are unless they are wrong.
 * Idempotent and cheap when called again. Throws `not_found` when the package was not built.
 */
export function registerGradients(): void {
  if (registered) return;
  if (!existsSync(BUNDLE)) throw new SimmimError('not_found', 'registerGradients', `${BUNDLE} is missing: run npm run build:ts`);
  const { configs } = require(BUNDLE) as { configs: tf.GradConfig[] };
  for (const config of [...configs, ...MISSING_GRADIENTS]) {
    const mend = MENDED_GRADIENTS[config.kernelName];
    if (mend) tf.registerGradient(mend(config));
    else if (tf.getGradient(config.kernelName) == null) tf.registerGradient(config);
  }
  registered = true;
}
