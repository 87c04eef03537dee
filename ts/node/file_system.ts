import * as tf from '@tensorflow/tfjs-core';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SimmimError } from '../errors';

const SCHEME = 'file://';
const MODEL = 'model.json';
const WEIGHTS = 'weights.bin';

/** A path from a file:// URL or a path; relative ones (`file://./model`) are taken from the working directory. */
function toPath(url: string): string {
  if (!url.startsWith(SCHEME)) return resolve(url);
  return url.startsWith('file:///') ? fileURLToPath(url) : resolve(url.slice(SCHEME.length));
}

/** `what`: how the sentence about a missing file begins. */
async function read(path: string, what = 'Path'): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SimmimError(missing ? 'not_found' : 'io', 'file system', missing ? `${what} ${path} does not exist: loading failed.` : (error as Error).message, { cause: error });
  }
}

async function makeFolder(path: string): Promise<void> {
  if (await stat(path).then((s) => s.isFile(), () => false)) throw new SimmimError('io', 'file system', `${path} exists as a file, expected a directory or nothing`);
  await mkdir(path, { recursive: true });
}

const toArrayBuffer = (bytes: Buffer): ArrayBuffer => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer;

/** The artifacts without the weights' values; absent parts are left out by JSON. */
function modelJson(artifacts: tf.io.ModelArtifacts, weightsManifest: tf.io.WeightsManifestConfig): object {
  const { modelTopology, format, generatedBy, convertedBy, trainingConfig, signature, userDefinedMetadata, modelInitializer, initializerSignature } = artifacts;
  return { modelTopology, weightsManifest, format, generatedBy, convertedBy, trainingConfig, signature, userDefinedMetadata, modelInitializer, initializerSignature };
}

/** Weight specs and the joined weight files of a manifest, which lie in `folder`. */
async function readWeights(manifest: tf.io.WeightsManifestConfig, folder: string): Promise<[tf.io.WeightsManifestEntry[], ArrayBuffer]> {
  const files = manifest.flatMap((group) => group.paths.map((path) => join(folder, path)));
  const parts = await Promise.all(files.map((file) => read(file, 'Weight file')));
  return [manifest.flatMap((group) => group.weights), toArrayBuffer(Buffer.concat(parts))];
}

/** Saves a model as `model.json` and `weights.bin` in a folder, and loads such folders, layers and graph models alike. */
class FileSystemHandler implements tf.io.IOHandler {
  private readonly paths: string[];

  constructor(paths: string | string[]) {
    this.paths = (Array.isArray(paths) ? paths : [paths]).map(toPath);
    if (this.paths.length < 1 || this.paths.length > 2) throw new SimmimError('invalid_argument', 'file system', `${this.paths.length} paths given, expected a folder, model.json, or a binary model and its manifest.json`);
    if (Array.isArray(paths) && this.paths.length !== 2) throw new SimmimError('invalid_argument', 'file system', `file paths must have a length of 2 (a binary model and its manifest.json), actual length is ${paths.length}`);
  }

  async save(artifacts: tf.io.ModelArtifacts): Promise<tf.io.SaveResult> {
    const folder = this.paths[0] as string;
    if (this.paths.length > 1) throw new SimmimError('invalid_argument', 'file system', 'saving takes one folder, got two paths');
    if (artifacts.modelTopology instanceof ArrayBuffer) throw new SimmimError('unsupported', 'file system', 'a binary model topology cannot be saved, expected JSON');
    await makeFolder(folder);
    const manifest = [{ paths: [WEIGHTS], weights: artifacts.weightSpecs ?? [] }];
    const weights = artifacts.weightData ? tf.io.CompositeArrayBuffer.join(artifacts.weightData) : new ArrayBuffer(0);
    await writeFile(join(folder, MODEL), JSON.stringify(modelJson(artifacts, manifest)));
    await writeFile(join(folder, WEIGHTS), Buffer.from(weights));
    return { modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts) };
  }

  async load(): Promise<tf.io.ModelArtifacts> {
    const [path, manifest] = this.paths as [string, string | undefined];
    if (manifest !== undefined) return this.loadBinary(path, manifest);
    const model = (await stat(path).then((s) => s.isDirectory(), () => false)) ? join(path, MODEL) : path;
    if (model.endsWith('.pb')) throw new SimmimError('unsupported', 'file system', `${model}: a SavedModel or frozen graph must first be converted with tensorflowjs_converter`);
    const json = JSON.parse((await read(model)).toString('utf8')) as tf.io.ModelJSON;
    return tf.io.getModelArtifactsForJSON(json, (weights) => readWeights(weights, dirname(model)));
  }

  private async loadBinary(model: string, manifestPath: string): Promise<tf.io.ModelArtifacts> {
    const modelTopology = toArrayBuffer(await read(model));
    const manifest = JSON.parse((await read(manifestPath)).toString('utf8')) as tf.io.WeightsManifestConfig;
    const [weightSpecs, weightData] = await readWeights(manifest, dirname(manifestPath));
    return { modelTopology, weightSpecs, weightData };
  }
}

/** An IOHandler on a path: a folder to save to; a folder, `model.json`, or a binary model as `[model.pb, manifest.json]` to load from. */
export function fileSystem(path: string | string[]): tf.io.IOHandler {
  return new FileSystemHandler(path);
}

function router(url: string | string[]): tf.io.IOHandler {
  const ours = (Array.isArray(url) ? url : [url]).every((one) => one.startsWith(SCHEME));
  return (ours ? new FileSystemHandler(url) : null) as tf.io.IOHandler;
}

/** Makes `file://` URLs work in save() and load functions, unless another package has done so already. */
export function registerFileSystem(): void {
  if (tf.io.getLoadHandlers('file://x').length === 0) tf.io.registerLoadRouter(router);
  if (tf.io.getSaveHandlers('file://x').length === 0) tf.io.registerSaveRouter(router);
}
