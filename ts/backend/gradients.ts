import * as tf from '@tensorflow/tfjs-core';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { gatherGradient, MISSING_GRADIENTS, reductionGradient } from './missing_gradients';

/** Built by scripts/build-gradients.mjs; the path holds from ts/backend (tests) and from dist/backend. */
const BUNDLE = join(__dirname, '../../dist/backend/core_gradients.cjs');

/** Those of tfjs-core's that are changed. */
const OWN: Readonly<Record<string, (core: tf.GradConfig) => tf.GradConfig>> = { GatherV2: gatherGradient, Mean: reductionGradient, Sum: reductionGradient };

let registered = false;

/**
 * Registers tfjs-core's own gradients, which its Node build leaves out, and those of kernels it has none for.
 * Gradients that are already registered, e.g. by the union package, stay as they are. Idempotent and cheap when called again.
 * Throws `not_found` when the package was not built.
 */
export function registerGradients(): void {
  if (registered) return;
  if (!existsSync(BUNDLE)) throw new SimmimError('not_found', 'registerGradients', `${BUNDLE} is missing: run npm run build:ts`);
  const { configs } = require(BUNDLE) as { configs: tf.GradConfig[] };
  for (const config of [...configs, ...MISSING_GRADIENTS]) {
    if (tf.getGradient(config.kernelName) != null) continue;
    tf.registerGradient(OWN[config.kernelName]?.(config) ?? config);
  }
  registered = true;
}
