import type * as tf from '@tensorflow/tfjs-core';

// Parts of graph models as the converter writes them.

export const FLOAT = { type: 'DT_FLOAT' };
export const INT = { type: 'DT_INT32' };
export const text = (s: string): { s: string } => ({ s: Buffer.from(s).toString('base64') });
export const list = (...i: number[]): object => ({ list: { i: i.map(String) } });
export const texts = (...s: string[]): object => ({ list: { s: s.map((one) => text(one).s) } });
const shapeOf = (dims: number[]): object => ({ dim: dims.map((size) => ({ size: String(size) })) });
/** Attributes of convolutions and pooling. */
export const SAME = { padding: text('SAME'), data_format: text('NHWC'), T: FLOAT };

export const placeholder = (name: string, dims: number[], dtype = FLOAT): object => ({ name, op: 'Placeholder', attr: { dtype, shape: { shape: shapeOf(dims) } } });

/** A constant: its node, and its values as the file of weights holds them. */
export interface Weight {
  node: object;
  spec: tf.io.WeightsManifestEntry;
  bytes: Uint8Array;
}

function weight(spec: tf.io.WeightsManifestEntry, values: Float32Array | Int32Array | Uint8Array): Weight {
  const dtype = spec.dtype === 'int32' ? INT : FLOAT;
  return {
    node: { name: spec.name, op: 'Const', attr: { dtype, value: { tensor: { dtype: dtype.type, tensorShape: shapeOf(spec.shape) } } } },
    spec,
    bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  };
}

export const floats = (name: string, shape: number[], values: Float32Array): Weight => weight({ name, shape, dtype: 'float32' }, values);
export const integers = (name: string, values: number[], shape = [values.length]): Weight => weight({ name, shape, dtype: 'int32' }, Int32Array.from(values));

/** Floats rounded to 256 steps between the least and the greatest. */
export function quantised(name: string, shape: number[], values: Float32Array): Weight {
  const [min, max] = [Math.min(...values), Math.max(...values)];
  const scale = (max - min) / 255;
  return weight({ name, shape, dtype: 'float32', quantization: { dtype: 'uint8', min, scale } }, Uint8Array.from(values, (v) => Math.round((v - min) / scale)));
}

export function artifacts(node: object[], weights: Weight[], library?: object): tf.io.ModelArtifacts {
  const data = Buffer.concat(weights.map(({ bytes }) => bytes));
  return {
    format: 'graph-model',
    modelTopology: { node, library, versions: { producer: 1 } },
    weightSpecs: weights.map(({ spec }) => spec),
    weightData: data.buffer.slice(data.byteOffset, data.byteOffset + data.length) as ArrayBuffer,
  };
}
