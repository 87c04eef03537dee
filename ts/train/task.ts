import { readFile } from 'node:fs/promises';
import { decodeImage, type Normalisation } from '../data';
import { SimmimError } from '../errors';
import { readNpy } from '../formats/npy';
import type { RawTensor } from '../formats/raw_tensor';
import { toFloat32 } from '../formats/safetensors';
import { encoderConfig, type EncoderOptions } from '../models';
import { readStateFile } from '../models/weights';
import { Codebook, Dvae, gridFromPixels, type MaskStrategy, type TargetSpec, type VisualTokenizer } from '../simmim';
import { type Recipe, imageSizeOf, statisticsOf } from './recipe';

/** What a recipe hides, in the words of `Masking`. Throws `invalid_argument` for an explicit mask that was not read yet. */
export function maskStrategy({ masking }: Pick<Recipe, 'masking'>): MaskStrategy {
  const { strategy, patchSize: patch, ratio, minCells, minAspect, grid } = masking;
  if (strategy === 'block') return { kind: 'block', patch, ratio, minAspect, ...(minCells === null ? {} : { minCells }) };
  if (strategy !== 'explicit') return { kind: strategy, patch, ratio };
  if (!grid) throw new SimmimError('invalid_argument', 'masking.file', 'is not read yet: pass the recipe through withMaskGrid first');
  return { kind: 'explicit', grid };
}

/** What a recipe predicts; reads the palette, codebook or dVAE. Throws one sentence for keys and files that do not fit. */
export function targetSpec(recipe: Recipe): TargetSpec {
  const { kind, resolution, normalise, normaliseSize, bins, palette } = recipe.target;
  const refuse = (key: string, message: string): never => {
    throw new SimmimError('invalid_argument', `target.${key}`, message);
  };
  if (normalise !== 'none' && kind !== 'rgb') refuse('normalise', `is ${normalise}, but target.kind is ${kind}: only colours (rgb) are normalised`);
  const at = resolution === null ? {} : { resolution };
  switch (kind) {
    case 'rgb':
      return { kind, ...at, ...(normalise === 'none' ? {} : { normalise }), ...(normaliseSize === null ? {} : { size: normaliseSize }) };
    case 'bins':
      return { kind, bins, ...at };
    case 'clusters':
      return { kind, palette: readPalette(palette ?? refuse('palette', "is not set: target.kind clusters needs the .npy that 'simmim cluster' writes")), ...at };
    case 'tokens': {
      const tokenizer = readTokenizer(recipe);
      const [height, width] = imageSizeOf(recipe);
      return { kind, vocabulary: tokenizer.size, resolution: resolution ?? [height / tokenizer.patch, width / tokenizer.patch], tokenizer };
    }
  }
}

/** The tokenizer of a recipe. Throws when it names none or two, and what is wrong with its file. */
function readTokenizer(recipe: Recipe): VisualTokenizer {
  const { codebook, tokenizer } = recipe.target;
  if ((codebook === null) === (tokenizer === null)) {
    throw new SimmimError('invalid_argument', 'target.tokenizer', `${codebook === null ? 'is not set' : 'and target.codebook are both set'}: target.kind tokens needs either the dVAE that 'simmim tokenizer' writes, or as target.codebook the .npy of 'simmim cluster --patch P'`);
  }
  if (tokenizer !== null) return Dvae.load(readStateFile(tokenizer).state, statisticsOf(recipe), tokenizer);
  return readCodebook(codebook as string, statisticsOf(recipe));
}

/** Colours in 0..1 of an .npy [K, 3] of floats. */
export function readPalette(file: string): number[][] {
  const { shape } = readNpy(file);
  if (shape.length !== 2 || shape[1] !== 3) throw new SimmimError('invalid_argument', 'target.palette', `'${file}' is [${shape.join(', ')}], expected [K, 3]`);
  const values = floats(readNpy(file), file);
  return Array.from({ length: shape[0] as number }, (_, k) => Array.from(values.subarray(3 * k, 3 * k + 3)));
}

function readCodebook(file: string, statistics: Normalisation): Codebook {
  const stored = readNpy(file);
  return new Codebook(floats(stored, file), stored.shape, statistics);
}

function floats(stored: RawTensor, file: string): Float32Array {
  if (stored.dtype !== 'F32' && stored.dtype !== 'F64' && stored.dtype !== 'F16') throw new SimmimError('invalid_argument', 'target', `'${file}' holds ${stored.dtype}, expected floats`);
  return toFloat32(stored, file);
}

/**
 * The recipe with the cells of `masking.file` in `masking.grid`, so that checkpoints hold the mask itself;
 * a recipe without an explicit mask file comes back as it is. Throws one sentence for files that do not fit.
 */
export async function withMaskGrid(recipe: Recipe): Promise<Recipe> {
  const { strategy, file, grid } = recipe.masking;
  if (strategy !== 'explicit' || file === null || grid !== null) return recipe;
  const { pixels, size } = file.endsWith('.npy') ? gridOfNpy(file) : await gridOfPicture(file);
  const rows = size.join() === imageSizeOf(recipe).join()
    ? gridFromPixels(pixels, size, modelPatch(recipe))
    : Array.from({ length: size[0] }, (_, y) => Array.from(pixels.subarray(y * size[1], (y + 1) * size[1])));
  return { ...recipe, masking: { ...recipe.masking, grid: rows.map((row) => row.map((v) => (v ? 1 : 0))) } };
}

interface Cells {
  /** 1 = hidden, row-major. */
  pixels: Uint8Array;
  size: [number, number];
}

function gridOfNpy(file: string): Cells {
  const stored = readNpy(file);
  const [rows = 0, columns = 0] = stored.shape;
  if (stored.shape.length !== 2) throw new SimmimError('invalid_argument', 'masking.file', `'${file}' is [${stored.shape.join(', ')}], expected [rows, columns]`);
  const bytes = stored.data.byteLength / Math.max(1, rows * columns);
  const pixels = Uint8Array.from({ length: rows * columns }, (_, i) => (stored.data.subarray(i * bytes, (i + 1) * bytes).some((b) => b !== 0) ? 1 : 0));
  return { pixels, size: [rows, columns] };
}

async function gridOfPicture(file: string): Promise<Cells> {
  const bytes = await readFile(file).catch((error: unknown) => {
    throw new SimmimError('not_found', 'masking.file', `cannot read '${file}': ${(error as Error).message}`);
  });
  const { data, width, height } = await decodeImage(bytes, file);
  const bright = (i: number): number => ((data[3 * i] as number) + (data[3 * i + 1] as number) + (data[3 * i + 2] as number) >= 3 * 128 ? 1 : 0);
  return { pixels: Uint8Array.from({ length: width * height }, (_, i) => bright(i)), size: [height, width] };
}

/** The encoder's patch size, presets and overrides considered. */
export function modelPatch({ model }: Pick<Recipe, 'model'>): number {
  const { encoder, patchSize } = model;
  return encoderConfig(encoder, (patchSize === null ? {} : { patchSize }) as EncoderOptions).patchSize;
}
