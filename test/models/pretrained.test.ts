import { describe, expect, it } from 'vitest';
import { fromFloat32, type RawTensor } from '../../ts/formats/raw_tensor';
import { describeLoad, loadPretrained, type LoadTarget } from '../../ts/models/pretrained';
import { fixtures, maxAbsDiff, readFixture } from '../helpers/golden';

/** Parameters that remember what they were set to. */
class Recorded implements LoadTarget {
  values: Float32Array | null = null;
  constructor(readonly shape: readonly number[]) {}
  set(values: Float32Array): void {
    this.values = values;
  }
}
const model = (shapes: Record<string, number[]>): Map<string, Recorded> => new Map(Object.entries(shapes).map(([name, shape]) => [name, new Recorded(shape)]));
const state = (shapes: Record<string, number[]>): Map<string, RawTensor> =>
  new Map(Object.entries(shapes).map(([name, shape]) => [name, fromFloat32(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i + 1), shape)]));

describe.each(fixtures(/^load_pretrained_/))('%s', (name) => {
  const fixture = readFixture<{ loaded_parameters: string[]; parameters_left_at_initial_value: string[]; tolerance: { tables: number } }>(name);
  const pretrained = new Map(fixture.under('pretrained/').map((key) => [key, fixture.raw.get(`pretrained/${key}`) as RawTensor]));
  const parameters = model(Object.fromEntries(fixture.under('finetune/').map((key) => [key, fixture.shape(`finetune/${key}`)])));
  const report = loadPretrained(parameters, pretrained);

  it('fills what the official load_pretrained fills, with its values', () => {
    expect([...report.loaded, ...report.resized.map((r) => r.name)].sort()).toEqual([...fixture.json.loaded_parameters].sort());
    expect(report.missing.sort()).toEqual([...fixture.json.parameters_left_at_initial_value].sort());
    for (const key of report.loaded) expect(maxAbsDiff(parameters.get(key)?.values ?? [], fixture.values(`finetune/${key}`)), key).toBe(0);
    for (const { name: key } of report.resized) expect(maxAbsDiff(parameters.get(key)?.values ?? [], fixture.values(`finetune/${key}`)), key).toBeLessThanOrEqual(fixture.json.tolerance.tables);
  });

  it('accounts for every entry', () => {
    expect(report.mismatched).toEqual([]);
    expect(report.dropped.map((d) => d.name)).toEqual(expect.arrayContaining(['decoder.0.weight', 'decoder.0.bias', 'encoder.mask_token']));
    expect(report.unexpected.filter((key) => !/^encoder\.norm\./.test(key))).toEqual([]); // a ViT that pools by mean has no such norm
    expect(report.resized.every((r) => r.name.endsWith('relative_position_bias_table'))).toBe(true);
    expect(describeLoad(report).split('\n')[0]).toContain(`${report.loaded.length} loaded, ${report.resized.length} resized`);
  });
});

describe('loadPretrained', () => {
  it('adds the encoder prefix for a pre-training model', () => {
    const parameters = model({ 'encoder.norm.weight': [2], 'decoder.0.bias': [1] });
    const report = loadPretrained(parameters, state({ 'norm.weight': [2], 'head.weight': [3, 2] }));
    expect(report).toMatchObject({ loaded: ['encoder.norm.weight'], missing: ['decoder.0.bias'], dropped: [{ name: 'head.weight' }], unexpected: [] });
  });

  it('joins and splits query and value biases', () => {
    const joint = model({ 'blocks.0.attn.qkv.bias': [6] });
    expect(loadPretrained(joint, state({ 'blocks.0.attn.q_bias': [2], 'blocks.0.attn.v_bias': [2] })).unexpected).toEqual([]);
    expect(Array.from(joint.get('blocks.0.attn.qkv.bias')?.values ?? [])).toEqual([1, 2, 0, 0, 1, 2]);
    const parts = model({ 'blocks.0.attn.q_bias': [2], 'blocks.0.attn.v_bias': [2] });
    loadPretrained(parts, state({ 'blocks.0.attn.qkv.bias': [6] }));
    expect(Array.from(parts.get('blocks.0.attn.v_bias')?.values ?? [])).toEqual([5, 6]);
  });

  it('resizes absolute positions, on rectangles where it is told the grids', () => {
    const parameters = model({ pos_embed: [1, 7, 2] });
    const report = loadPretrained(parameters, state({ pos_embed: [1, 5, 2] }), { targetGrid: [2, 3] });
    expect(report.resized).toEqual([{ name: 'pos_embed', from: [1, 5, 2], to: [1, 7, 2], rule: 'bicubic' }]);
    expect(() => loadPretrained(model({ pos_embed: [1, 7, 2] }), state({ pos_embed: [1, 5, 2] }))).toThrow(/pos_embed is \[1, 5, 2\], expected \[1, 7, 2\]/);
  });

  it('leaves a head with another number of classes, and says so', () => {
    const report = loadPretrained(model({ 'norm.weight': [2], 'head.weight': [5, 2] }), state({ 'norm.weight': [2], 'head.weight': [3, 2] }));
    expect(report.mismatched).toEqual([{ name: 'head.weight', got: [3, 2], expected: [5, 2] }]);
    expect(describeLoad(report)).toContain('head.weight: [3, 2], expected [5, 2]');
  });

  it('writes nothing when it refuses', () => {
    const parameters = model({ 'norm.weight': [2], 'norm.bias': [2] });
    expect(() => loadPretrained(parameters, state({ 'norm.weight': [2], 'norm.bias': [3] }))).toThrow(/another model or size/);
    expect(parameters.get('norm.weight')?.values).toBeNull();
  });

  it.each([
    [{ 'norm.weight': [2], 'norm.bias': [2] }, { 'norm.weight': [2] }, /nothing for 1 parameters: norm.bias/],
    [{ 'norm.weight': [2] }, { 'norm.weight': [2], 'nrom.bias': [2] }, /1 entries of the checkpoint find no place in the model: nrom.bias/],
  ])('strict refuses', (shapes, entries, message) => {
    expect(() => loadPretrained(model(shapes as Record<string, number[]>), state(entries as unknown as Record<string, number[]>), { strict: true })).toThrow(message);
  });

  it('refuses a checkpoint of something else', () => {
    expect(() => loadPretrained(model({ 'norm.weight': [2] }), state({ 'conv1.weight': [2] }))).toThrow(/no entry of the checkpoint fits/);
  });
});
