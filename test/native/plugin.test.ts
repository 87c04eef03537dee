import * as tf from '@tensorflow/tfjs-core';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { CUDA_BACKEND } from '../../ts/backend';
import { inspectCuda, openCuda } from '../../ts/native';

// A machine without a GPU, a plugin of another version, a file that is none: one sentence each.
const folder = mkdtempSync(join(tmpdir(), 'simmim-plugin-'));
const given = process.env.SIMMIM_CUDA_PLUGIN;

afterEach(() => {
  if (given === undefined) delete process.env.SIMMIM_CUDA_PLUGIN;
  else process.env.SIMMIM_CUDA_PLUGIN = given;
  delete process.env.SIMMIM_CUDA_DEVICE;
});
afterAll(() => rmSync(folder, { recursive: true }));

function plugin(name: string): string {
  process.env.SIMMIM_CUDA_PLUGIN = join(folder, name);
  return process.env.SIMMIM_CUDA_PLUGIN;
}

describe('the CUDA plugin', () => {
  test('that is not there', () => {
    const file = plugin('missing.so');
    expect(() => inspectCuda()).toThrow(expect.objectContaining({ code: 'not_found', message: `cuda: SIMMIM_CUDA_PLUGIN names ${file}, which does not exist` }) as Error);
  });

  test('that is no library', () => {
    writeFileSync(plugin('text.so'), 'text');
    expect(() => openCuda()).toThrow(/^openDevice: the plugin .*text\.so cannot be opened: .*(invalid ELF header|file too short)/);
  });

  test('that is another library', () => {
    copyFileSync(join(__dirname, '../../build/Release/simmim.node'), plugin('other.so'));
    expect(() => inspectCuda()).toThrow(/other\.so is not a plugin of simmim: it has no simmim_plugin$/);
  });

  test('the number of a device must be one', () => {
    writeFileSync(plugin('text.so'), 'text');
    process.env.SIMMIM_CUDA_DEVICE = 'first';
    expect(() => openCuda()).toThrow("cuda: SIMMIM_CUDA_DEVICE is 'first', expected the number of a device");
  });

  test('setBackend says no where there is none, and the other backend goes on', async () => {
    plugin('missing.so');
    await tf.setBackend('simmim-cpu');
    const warned = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    expect(await tf.setBackend(CUDA_BACKEND)).toBe(false);
    expect(warned.mock.calls.flat().join('\n')).toContain('which does not exist');
    warned.mockRestore();
    await tf.setBackend('simmim-cpu');
    expect(tf.tidy(() => tf.add(1, 2).dataSync()[0])).toBe(3);
  });
});
