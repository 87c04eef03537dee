import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bufferSource } from '../../ts/formats/byte_source';
import { encodeNpy, parseNpy } from '../../ts/formats/npy';
import { fromFloat32 } from '../../ts/formats/raw_tensor';
import { parseSafetensors } from '../../ts/formats/safetensors';
import { parseTorchFile, readTorchTensors, toPlain, torchTensors } from '../../ts/formats/torch_pth';
import { readZipDirectory, readZipEntry } from '../../ts/formats/zip';
import { readDamaged, TOTAL } from '../helpers/damage';
import { goldenDir } from '../helpers/golden';
import { zipOf } from './zip_writer';

const golden = (name: string): Uint8Array => readFileSync(join(goldenDir(), name));

/** Pickles inside an archive are shielded by checksums: here they are written with none, as PyTorch can be told to. */
function withoutChecksums(bytes: Uint8Array): Uint8Array {
  const source = bufferSource(bytes);
  return zipOf([...readZipDirectory(source).values()].map((entry) => ({ name: entry.name, data: readZipEntry(source, entry), crc: 0 })));
}

function readTorch(bytes: Uint8Array): void {
  const { root } = parseTorchFile(bufferSource(bytes, 'damaged.pth'));
  readTorchTensors(torchTensors(root), bytes.length);
  toPlain(root);
}

const kinds: [string, Uint8Array[], (bytes: Uint8Array) => unknown][] = [
  ['.pth in zip format', [golden('checkpoints_pth/odd_zip.pth'), withoutChecksums(golden('checkpoints_pth/odd_zip.pth')), withoutChecksums(golden('checkpoints_pth/ckpt_zip.pth'))], readTorch],
  ['.pth in legacy format', [golden('checkpoints_pth/odd_legacy.pth'), golden('checkpoints_pth/ckpt_legacy.pth')], readTorch],
  ['safetensors', [golden('timm_vit/model.safetensors'), golden('checkpoints_pth/expected_odd.safetensors')], (bytes) => parseSafetensors(bytes, 'damaged.safetensors')],
  ['npy', [encodeNpy(fromFloat32(Float32Array.from({ length: 24 }, (_, i) => i), [2, 3, 4]))], (bytes) => parseNpy(bytes, 'damaged.npy')],
];

describe('damaged files give a SimmimError or a valid reading, quickly and in bounded memory', () => {
  it.each(kinds)('%s', { timeout: 600_000 }, (_, originals, read) => {
    const count = Math.ceil(TOTAL / 6); // six kinds with those of test/models/fuzz.test.ts
    expect(readDamaged(originals, count, read)).toBeGreaterThan(count * 0.2);
  });
});
