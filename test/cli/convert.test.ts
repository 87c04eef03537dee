import { mkdtempSync, readFileSync, writeFileSync, mkdirSync, copyFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { registerConvert } from '../../ts/cli/convert';
import { readSafetensors } from '../../ts/formats/safetensors';
import { readWeights, writeWeights, type ModelConfig } from '../../ts/models';
import { goldenDir } from '../helpers/golden';

const golden = (name: string): string => join(goldenDir(), name);
const temporary = (): string => mkdtempSync(join(tmpdir(), 'simmim-convert-'));

async function run(...args: string[]): Promise<string[]> {
  const lines: string[] = [];
  const cli = new Command('simmim').exitOverride();
  registerConvert(cli, (line) => lines.push(line));
  await cli.parseAsync(['convert', ...args], { from: 'user' });
  return lines;
}

describe('simmim convert', () => {
  it('official .pth -> Hugging Face -> official, with a report', async () => {
    const out = temporary();
    const lines = await run(golden('checkpoints_pth/ckpt_zip.pth'), join(out, 'hf'), '--to', 'hf');
    const { state: original, dropped, config } = readWeights(golden('checkpoints_pth/ckpt_zip.pth'));
    expect(lines[0]).toBe(`read ${original.size} tensors of a swin in official layout, ${String(config?.encoder.imageSize)} px`);
    expect(lines.filter((line) => line.startsWith('left out'))).toHaveLength(dropped.length);
    const split = [...original.keys()].filter((name) => /attn\.qkv\./.test(name)).length; // query, key and value lie apart there
    expect(lines[lines.length - 1]).toMatch(new RegExp(`^wrote ${original.size + 2 * split} tensors: .*model.safetensors, .*config.json, .*preprocessor_config.json$`));
    await run(join(out, 'hf'), join(out, 'back'), '--to', 'official');
    const back = readSafetensors(join(out, 'back/model.safetensors')).tensors;
    expect([...back.keys()].sort()).toEqual([...original.keys()].sort());
    for (const [name, tensor] of original) expect(Buffer.from(back.get(name)?.data ?? []).equals(Buffer.from(tensor.data)), name).toBe(true);
  });

  it('reads a checkpoint of a run', async () => {
    const out = temporary();
    const checkpoint = join(out, 'step-00000001');
    mkdirSync(checkpoint);
    const { state, config } = readWeights(golden('checkpoints_pth/ckpt_zip.pth'));
    writeWeights(join(out, 'official'), 'official', state, config as ModelConfig);
    copyFileSync(join(out, 'official/model.safetensors'), join(checkpoint, 'model.safetensors'));
    const { imageSize, embedDim, depths, heads, windowSize } = (config as ModelConfig & { family: 'swin' }).encoder;
    const model = { encoder: 'swin_tiny', imageSize, dropPath: 0, checkpointing: false, patchSize: null, embedDim, depth: null, depths, heads, windowSize, mlpRatio: null, absolutePosition: null, relativeBias: null };
    writeFileSync(join(checkpoint, 'state.json'), JSON.stringify({ format: 1, recipe: { model } }));
    await run(checkpoint, join(out, 'timm'), '--to', 'timm');
    expect(JSON.parse(readFileSync(join(out, 'timm/config.json'), 'utf8'))).toMatchObject({ architecture: 'swin_base_patch4_window7_224', model_args: { img_size: imageSize, window_size: windowSize, depths, embed_dim: embedDim } });
  });

  it.each([
    [['--to', 'timmm'], /unknown layout 'timmm'; did you mean 'timm'/],
    [['--to', 'timm', '--image-size', '1000'], /imageSize is given as \[1000,1000\], but the weights are those of imageSize \[\d+,\d+\]/],
    [['--to', 'timm', '--image-size', 'big'], /--image-size is 'big', expected a whole number/],
  ])('%s is refused', async (args, message) => {
    await expect(run(golden('timm_vit'), temporary(), ...args)).rejects.toThrow(message);
  });

  it('says which sizes it must be told', async () => {
    const out = temporary();
    const { state, config } = readWeights(golden('hf_swinv2_mim'));
    const { imageSize, windowSize } = (config as ModelConfig & { family: 'swinv2' }).encoder;
    writeFileSync(join(out, 'bare.safetensors'), Buffer.concat((await import('../../ts/formats/safetensors')).encodeSafetensors(state)));
    await expect(run(join(out, 'bare.safetensors'), join(out, 'x'), '--to', 'timm')).rejects.toThrow(/say windowSize/);
    const lines = await run(join(out, 'bare.safetensors'), join(out, 'x'), '--to', 'timm', '--window', String(windowSize), '--image-size', String(imageSize));
    expect(lines[0]).toContain(`${String(imageSize)} px`);
  });
});
