import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromFloat32, type RawTensor } from '../../ts/formats/raw_tensor';
import { readSafetensors } from '../../ts/formats/safetensors';
import { familyIn, familyOf, fromHuggingFace, fromTimm, layoutOf, toHuggingFace, toTimm, type Family } from '../../ts/models/name_maps';
import { fixtures, goldenDir, readFixture } from '../helpers/golden';

type State = Map<string, RawTensor>;
const stored = (folder: string): State => readSafetensors(join(goldenDir(), folder, 'model.safetensors')).tensors;

function expectSame(got: State, want: State): void {
  expect([...got.keys()].sort()).toEqual([...want.keys()].sort());
  for (const [name, tensor] of want) {
    expect(got.get(name)?.shape, name).toEqual(tensor.shape);
    expect(got.get(name)?.dtype, name).toBe(tensor.dtype);
    expect(Buffer.from(got.get(name)?.data ?? []).equals(Buffer.from(tensor.data)), name).toBe(true);
  }
}

/** The parameters of a golden model of the official code. */
function official(name: string): State {
  const fixture = readFixture(name);
  return new Map(fixture.under('param/').map((key) => [key, fixture.raw.get(`param/${key}`) as RawTensor]));
}

describe.each(['hf_swin_mim', 'hf_swinv2_mim', 'hf_vit_mim'])('%s', (folder) => {
  it('goes to official names and back, bit for bit', () => {
    const hf = stored(folder);
    expect(layoutOf(hf.keys())).toBe('huggingface');
    const family = familyIn('huggingface', hf.keys());
    expect(folder).toContain(`_${family}_`);
    const { tensors, dropped } = fromHuggingFace(hf, family);
    expect(dropped).toEqual([]);
    expect(familyOf(tensors.keys())).toBe(family);
    expect([...tensors.keys()].every((name) => /^(encoder|decoder)\./.test(name))).toBe(true);
    expectSame(toHuggingFace(tensors, family).tensors, hf);
  });
});

describe.each(['timm_swin', 'timm_swinv2', 'timm_vit'])('%s', (folder) => {
  it('goes to official names and back, bit for bit', () => {
    const timm = stored(folder);
    const family = familyOf(timm.keys());
    expect(folder).toBe(`timm_${family}`);
    if (family !== 'vit') expect(layoutOf(timm.keys())).toBe('timm');
    const { tensors } = fromTimm(timm, family);
    expect([...tensors.keys()]).toContain('head.weight');
    if (family !== 'vit') expect([...tensors.keys()].filter((name) => name.includes('downsample'))).toEqual(expect.arrayContaining(['layers.0.downsample.reduction.weight']));
    expectSame(toTimm(tensors, family).tensors, timm);
  });
});

describe('official -> Hugging Face -> official, bit for bit', () => {
  const models: [string, Family][] = fixtures(/^simmim_swin/).map((name) => [name, name.includes('swinv2') ? 'swinv2' : 'swin']);
  it.each(models)('%s', (name, family) => {
    const state = official(name);
    expect(layoutOf(state.keys())).toBe('official');
    expectSame(fromHuggingFace(toHuggingFace(state, family).tensors, family).tensors, state);
  });

  it('drops buffers, and says so', () => {
    const fixture = readFixture('simmim_swin_w6_ape');
    const state = new Map([...official('simmim_swin_w6_ape'), ...fixture.under('buffer/').map((key): [string, RawTensor] => [key, fixture.raw.get(`buffer/${key}`) as RawTensor])]);
    expect(toHuggingFace(state, 'swin').dropped.map((d) => d.name).sort()).toEqual(fixture.under('buffer/').sort());
  });
});

describe('official -> timm -> official, bit for bit, but for decoder and mask token', () => {
  it.each(fixtures(/^(finetune|simmim)_(swinv2|vit)|^finetune_swin$/))('%s', (name) => {
    const state = official(name);
    const family = familyOf(state.keys());
    if (family !== 'vit' && [...state.keys()].some((key) => key.endsWith('absolute_pos_embed'))) {
      expect(() => toTimm(state, family)).toThrow(/has no absolute position embedding/);
      return;
    }
    const { tensors, dropped } = toTimm(state, family);
    expect(dropped.map((d) => d.name).sort()).toEqual([...state.keys()].filter((key) => /decoder|mask_token/.test(key)).map((key) => key.replace(/^encoder\./, '')).sort());
    const want: State = new Map([...state].filter(([key]) => !/decoder|mask_token/.test(key)).map(([key, tensor]) => [key.replace(/^encoder\./, ''), tensor]));
    expectSame(fromTimm(tensors, family).tensors, want);
  });
});

describe('what a layout cannot hold is refused by name', () => {
  it.each<[string, Family, RegExp]>([
    ['simmim_vit_rpb', 'vit', /Hugging Face's vit has no place for 'gamma_1|Hugging Face's vit has no place for '.*(gamma_1|relative_position_bias_table)'/],
    ['finetune_vit', 'vit', /Hugging Face's vit has no place for/],
  ])('%s', (name, family, message) => {
    expect(() => toHuggingFace(official(name), family)).toThrow(message);
  });

  it('foreign names', () => {
    const one = (name: string): State => new Map([[name, fromFloat32(new Float32Array(3), [3])]]);
    expect(() => familyOf(['conv1.weight'])).toThrow(/not those of a Swin/);
    expect(() => fromHuggingFace(one('swin.embeddings.rotary.weight'), 'swin')).toThrow(/'swin.embeddings.rotary.weight' is not a name/);
    expect(() => toHuggingFace(one('norm.weight'), 'swin')).toThrow(/neither a decoder nor a classification head/);
    expect(() => toTimm(one('layers.0.blocks.5.norm3.weight'), 'swinv2')).toThrow(/extra norm/);
  });

  it('configurations of the fixtures are those of the names', () => {
    const config = JSON.parse(readFileSync(join(goldenDir(), 'hf_swinv2_mim/config.json'), 'utf8')) as { model_type: string };
    expect(familyIn('huggingface', stored('hf_swinv2_mim').keys())).toBe(config.model_type);
  });
});
