import type { Encoder } from './encoder';
import { unknownName, withOptions } from './options';
import { SwinTransformer, swinPresets, type SwinConfig } from './swin';
import { SwinTransformerV2, swinV2Presets, type SwinV2Config } from './swin_v2';
import { VisionTransformer, vitPresets, type VitConfig } from './vit';

export type { Encoder, Pair } from './encoder';
export { SwinBlock, SwinTransformer, swinPresets, type SwinConfig } from './swin';
export { planWindow, stageGeometry } from './swin_pyramid';
export { SwinTransformerV2, swinV2Presets, type SwinV2Config } from './swin_v2';
export { VisionTransformer, vitPresets, type VitConfig } from './vit';

export { featurePyramid, pyramidLevels, type PyramidLevel, type PyramidOptions } from './feature_pyramid';
export { describeLoad, loadPretrained, type LoadOptions, type LoadReport, type LoadTarget, type StateDict } from './pretrained';
export { encoderFromConfig, gridsOf, inferConfig, modelConfig, type KnownSizes, type ModelConfig } from './model_config';
export type { Family, Layout } from './name_maps';
export { readWeights, writeWeights, type Weights, type WriteReport } from './weights';

/** Any of a family's options; each overrides the preset's value. */
export type EncoderOptions = Partial<VitConfig> | Partial<SwinConfig> | Partial<SwinV2Config>;

/** Names of all presets. */
export const encoderNames: readonly string[] = [...Object.keys(vitPresets), ...Object.keys(swinPresets), ...Object.keys(swinV2Presets)];

const LETTERS: Readonly<Record<string, string>> = { t: 'tiny', s: 'small', b: 'base', l: 'large', h: 'huge', g: 'giant' };

/** The preset that a name or its short form (`swinv2_g`, `vit_b`) means; throws for any other, naming the nearest. */
export function encoderPreset(name: string): string {
  const full = name.replace(/_([tsblhg])$/, (_, letter: string) => `_${LETTERS[letter] ?? letter}`);
  return encoderNames.includes(full) ? full : unknownName('createEncoder', 'encoder', name, encoderNames);
}

/** The full configuration of a preset with some options replaced; throws as `createEncoder`. */
export function encoderConfig(name: string, overrides: EncoderOptions = {}): VitConfig | SwinConfig | SwinV2Config {
  const preset = encoderPreset(name);
  const config = vitPresets[preset] ?? swinPresets[preset] ?? (swinV2Presets[preset] as SwinV2Config);
  return withOptions(preset, config, overrides);
}

/**
 * An encoder by preset name (`encoderNames`, or a short form such as `swin_b`) with some options replaced.
 *
 * No parameter takes memory until it is used, so counting the parameters of the largest model is free. Throws
 * `invalid_argument` for an unknown name or option (naming the nearest), a value of the wrong kind, or sizes
 * that do not fit each other.
 *
 * ```ts
 * const encoder = createEncoder('swin_base', { imageSize: [192, 256], inChannels: 4 });
 * ```
 */
export function createEncoder(name: string, overrides: EncoderOptions = {}): Encoder {
  const preset = encoderPreset(name);
  const config = encoderConfig(name, overrides);
  if (preset in vitPresets) return new VisionTransformer(preset, config as VitConfig);
  if (preset in swinPresets) return new SwinTransformer(preset, config as SwinConfig);
  return new SwinTransformerV2(preset, config as SwinV2Config);
}
