/** `node -r simmim/tfjs-node/register program.js`: the program's `@tensorflow/tfjs-node` and `-gpu` become simmim/tfjs-node. */
import Module = require('node:module');
import { join } from 'node:path';

type Resolve = (request: string, ...rest: unknown[]) => string;
const loader = Module as unknown as { _resolveFilename: Resolve };
const resolve = loader._resolveFilename;
loader._resolveFilename = function (this: unknown, request: string, ...rest: unknown[]): string {
  if (request === '@tensorflow/tfjs-node' || request === '@tensorflow/tfjs-node-gpu') return join(__dirname, 'tfjs_node.js');
  return resolve.call(this, request, ...rest);
};
