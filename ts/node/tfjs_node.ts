/**
 * Stands in for `require('@tensorflow/tfjs-node')`: tfjs with our backend as its default, `tf.node`, `tf.io.fileSystem`
 * and chained methods. The parts of tfjs that are installed beside us are merged: the union package, or else
 * core, layers, converter and data.
 */
import * as core from '@tensorflow/tfjs-core';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import * as node from './index';
import { ProgressBar, type LayersModule } from './progress';

/** From the package itself, then from the program: a linked checkout finds the program's packages this way. */
function optional(name: string): object | undefined {
  for (const from of [__filename, join(process.cwd(), 'index.js')]) {
    let file: string;
    try {
      file = createRequire(from).resolve(name);
    } catch {
      continue;
    }
    return createRequire(from)(file) as object;
  }
  return undefined;
}

/** tfjs-core's Node build ships no chained methods (`x.add(y)`); the bundle made by scripts/build-gradients.mjs adds them. */
function registerChainedMethods(): void {
  if ('add' in core.Tensor.prototype) return;
  const bundle = join(__dirname, '../../dist/node/chained_ops.cjs');
  if (!existsSync(bundle)) throw new SimmimError('not_found', 'tfjs-node', `${bundle} is missing: run npm run build:ts`);
  require(bundle);
}

const union = optional('@tensorflow/tfjs');
const layers = union ?? optional('@tensorflow/tfjs-layers');
const parts = union ? [union] : [core, layers, optional('@tensorflow/tfjs-converter')];
const data = union ? undefined : optional('@tensorflow/tfjs-data');
registerChainedMethods();
void core.setBackend('simmim-cpu');
if (layers && 'registerCallbackConstructor' in layers) ProgressBar.register(layers as unknown as LayersModule);

const api: Record<string, unknown> = Object.assign({}, ...parts, data ? { data } : {});
api.node = node;
api.io = { ...core.io, fileSystem: node.fileSystem };
api.version = { ...((api.version as object | undefined) ?? {}), 'tfjs-core': core.version_core, 'tfjs-node': core.version_core };

export = api;
