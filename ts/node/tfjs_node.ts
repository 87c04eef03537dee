/**
 * Stands in for `require('@tensorflow/tfjs-node')`: tfjs with our backend as its default, `tf.node`, `tf.io.fileSystem`
 * and chained methods. The parts of tfjs that are installed beside us are merged: the union package, or else
 * core, layers, converter and data.
 */
import * as core from '@tensorflow/tfjs-core';
import { registerBackend } from '../backend';
import * as node from './index';
import { findLayers, installed } from './installed';
import { ProgressBar } from './progress';

const union = installed('@tensorflow/tfjs');
const layers = findLayers();
const parts = union ? [union] : [core, installed('@tensorflow/tfjs-layers'), installed('@tensorflow/tfjs-converter')];
const data = union ? undefined : installed('@tensorflow/tfjs-data');
registerBackend('tensorflow'); // the name that programs for tfjs-node ask for
void core.setBackend('tensorflow');
if (layers) ProgressBar.register(layers);

const api: Record<string, unknown> = Object.assign({}, ...parts, data ? { data } : {});
api.node = node;
api.io = { ...core.io, fileSystem: node.fileSystem, nodeHTTPRequest: (path: string, requestInit?: RequestInit, weightPathPrefix?: string) => core.io.http(path, { requestInit, weightPathPrefix }) };
api.version = { ...((api.version as object | undefined) ?? {}), 'tfjs-core': core.version_core, 'tfjs-node': core.version_core };

export = api;
