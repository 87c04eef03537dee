import * as tf from '@tensorflow/tfjs-core';
import { type Encoder, type SwinConfig, SwinTransformer, SwinTransformerV2, type SwinV2Config, VisionTransformer, type VitConfig } from '../../ts/models';
import type { Context } from '../../ts/nn/context';
import { namedParameters, type Parameter } from '../../ts/nn/module';
import { SimMIM } from '../../ts/simmim';
import { type Fixture, readFixture } from './golden';

/** `model` of a fixture's JSON, in the official code's words. */
export interface ModelJson {
  type: 'swin' | 'swinv2' | 'vit';
  img_size: number;
  patch_size: number;
  in_chans: number;
  embed_dim: number;
  depth?: number;
  depths?: number[];
  num_heads: number | number[];
  window_size?: number;
  pretrained_window_sizes?: number[];
  mlp_ratio: number;
  qkv_bias: boolean;
  qk_scale?: number | null;
  ape?: boolean;
  patch_norm?: boolean;
  init_values?: number | null;
  use_ape?: boolean;
  use_rpb?: boolean;
  use_shared_rpb?: boolean;
  use_mean_pooling?: boolean;
  drop_path_rate: number;
  layer_norm_eps: number;
  norm_target?: { enable: boolean; patch_size: number };
}

/** What the tests read of a `simmim_*` fixture's JSON. */
export interface SimmimJson {
  model: ModelJson;
  masking: { mask_patch_size: number; mask_ratio: number; mask_cells: number; masked_cells: number };
  batch_size: number;
  image_index: number[][];
  num_params: number;
  loss: number;
  tolerance: { z: number; x_rec: number; loss: number; act: Record<string, number>; grad: Record<string, number> };
}

/** The encoder of a fixture's `model`. */
export function encoderOf(m: ModelJson): Encoder {
  const common = {
    imageSize: m.img_size, patchSize: m.patch_size, inChannels: m.in_chans, embedDim: m.embed_dim, mlpRatio: m.mlp_ratio,
    qkvBias: m.qkv_bias, dropPath: m.drop_path_rate, layerNormEps: m.layer_norm_eps, checkpointing: false, seed: 1,
  };
  if (m.type === 'vit') {
    const config: VitConfig = {
      ...common, keyBias: false, depth: m.depth as number, heads: m.num_heads as number, layerScale: m.init_values ?? null, absolutePosition: m.use_ape === true,
      relativeBias: m.use_shared_rpb ? 'shared' : m.use_rpb ? 'per_block' : 'none', finalNorm: m.use_mean_pooling !== true,
    };
    return new VisionTransformer(m.type, config);
  }
  const config: SwinConfig = {
    ...common, depths: m.depths as number[], heads: m.num_heads as number[], windowSize: m.window_size as number, qkScale: m.qk_scale ?? null,
    absolutePosition: m.ape === true, patchNorm: m.patch_norm !== false,
  };
  if (m.type === 'swin') return new SwinTransformer(m.type, config);
  const v2: SwinV2Config = { ...config, pretrainedWindowSizes: m.pretrained_window_sizes ?? [], extraNormPeriod: 0 };
  return new SwinTransformerV2(m.type, v2);
}

/** A fixture's model with its `param/*` loaded. */
export interface ModelFixture {
  fixture: Fixture<SimmimJson>;
  model: SimMIM;
  /** Parameters by official name, in the fixture's own shapes. */
  parameters: Map<string, Parameter>;
  /** Images [B, C, H, W] and mask [B, h, w] of a step; the caller disposes them. */
  batch(step: number): { images: tf.Tensor; mask: tf.Tensor };
}

/** Builds the model of a `simmim_*` fixture and loads `param/*`. Throws when a name or shape is missing, unexpected or different. */
export function modelFromFixture(name: string): ModelFixture {
  const fixture = readFixture<SimmimJson>(name);
  const { model: m, image_index: index } = fixture.json;
  const normalised = m.norm_target?.enable ? { normalise: 'window' as const, size: m.norm_target.patch_size } : {};
  const model = new SimMIM(encoderOf(m), { target: { kind: 'rgb', ...normalised } });
  const parameters = namedParameters(model);
  const expected = fixture.under('param/');
  const missing = expected.filter((n) => !parameters.has(n));
  const unexpected = [...parameters.keys()].filter((n) => !expected.includes(n));
  if (missing.length + unexpected.length > 0) throw new Error(`${name}: model lacks ${missing.join(', ') || 'nothing'}, has besides ${unexpected.join(', ') || 'nothing'}`);
  for (const [parameterName, parameter] of parameters) {
    const shape = fixture.shape(`param/${parameterName}`);
    if (shape.join() !== parameter.shape.join()) throw new Error(`${name}: ${parameterName} is [${parameter.shape.join()}], expected [${shape.join()}]`);
    parameter.set(Float32Array.from(fixture.values(`param/${parameterName}`)));
  }
  const pool = fixture.values('input/images');
  const masks = fixture.values('input/masks');
  const [, ...imageShape] = fixture.shape('input/images') as [number, number, number, number];
  const [, batch = 0, rows = 0, columns = 0] = fixture.shape('input/masks');
  const pixels = imageShape.reduce((a, b) => a * b, 1);
  return {
    fixture,
    model,
    parameters,
    batch(step) {
      const rowsOf = index[step] as number[];
      const images = Float32Array.from(rowsOf.flatMap((row) => [...pool.subarray(row * pixels, (row + 1) * pixels)]));
      const cells = batch * rows * columns;
      return {
        images: tf.tensor(images, [rowsOf.length, ...imageShape]),
        mask: tf.tensor(Float32Array.from(masks.subarray(step * cells, (step + 1) * cells)), [batch, rows, columns]),
      };
    },
  };
}

/** A context without drop path; `clock` is zero unless given. */
export function testContext(options: Partial<Context> = {}): Context {
  return { training: false, precision: 'f32', clock: tf.tensor1d([0, 0, 0, 0], 'int32'), ...options };
}
