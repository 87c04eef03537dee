import { copyFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { encoderFromConfig, readWeights } from '../../ts/models';
import { anyRecipeFromYaml } from '../../ts/train/finetune_recipe';
import { recipeNames, recipeText } from '../../ts/train/recipe_files';
import { readDamaged, TOTAL } from '../helpers/damage';
import { goldenDir } from '../helpers/golden';

const golden = (name: string): string => join(goldenDir(), name);

describe('damaged settings give a SimmimError or a valid reading, quickly and in bounded memory', () => {
  it('recipes', { timeout: 600_000 }, () => {
    const recipes = recipeNames().map((name) => Buffer.from(recipeText(name)));
    const count = Math.ceil(TOTAL / 6);
    expect(readDamaged(recipes, count, (bytes) => anyRecipeFromYaml(Buffer.from(bytes).toString('utf8'), 'damaged.yaml'))).toBeGreaterThan(count * 0.2);
  });

  it('config.json of Hugging Face and timm folders', { timeout: 600_000 }, () => {
    const count = Math.ceil(TOTAL / 6 / 6);
    for (const name of ['hf_swin_mim', 'hf_swinv2_mim', 'hf_vit_mim', 'timm_swin', 'timm_swinv2', 'timm_vit']) {
      const folder = mkdtempSync(join(tmpdir(), 'simmim-damaged-'));
      copyFileSync(golden(`${name}/model.safetensors`), join(folder, 'model.safetensors'));
      const read = (bytes: Uint8Array): void => {
        writeFileSync(join(folder, 'config.json'), bytes);
        const { config } = readWeights(folder);
        if (config) encoderFromConfig(config);
      };
      expect(readDamaged([readFileSync(golden(`${name}/config.json`))], count, read)).toBeGreaterThan(count * 0.2);
    }
  });
});
