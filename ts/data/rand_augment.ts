/** RandAugment as timm's `rand-m9-mstd0.5-inc1` (increasing severity), on 8-bit pictures with Pillow's bits. */
import { SimmimError } from '../errors';
import type { Rng } from '../rng';
import { affine, rotation } from './affine';
import { autoContrast, brightness, color, contrast, equalize, invert, posterize, sharpness, solarize, solarizeAdd } from './enhance';
import type { DecodedImage } from './resample';

export interface RandAugmentOptions {
  /** Operations per picture. Default 2. */
  layers?: number;
  /** Mean magnitude, 0 to 10. Default 9. */
  magnitude?: number;
  /** Standard deviation of the magnitude; it is cut to 0..10. Default 0.5. */
  magnitudeStd?: number;
  /** Probability of each operation. Default 0.5. */
  probability?: number;
  /** What geometric operations show outside of the picture. Default the ImageNet mean, (124, 116, 104). */
  fill?: readonly [number, number, number];
}

export type RandAugment = Required<RandAugmentOptions>;

interface Operation {
  /** The operation's parameter at a magnitude of 0..10; `sign` is 1 or -1 for those that have two directions. */
  argument(magnitude: number, sign: number): number | null;
  /** Whether a sign is drawn. */
  signed: boolean;
  apply(image: DecodedImage, argument: number, fill: RandAugment['fill']): DecodedImage;
}

const none = { signed: false, argument: () => null };
const scaled = (limit: number): Pick<Operation, 'argument' | 'signed'> => ({ signed: true, argument: (m, sign) => (m / 10) * limit * sign });
const enhanced = { signed: true, argument: (m: number, sign: number) => 1 + (m / 10) * 0.9 * sign };

/** The fifteen operations in timm's order and under its names. */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  AutoContrast: { ...none, apply: autoContrast },
  Equalize: { ...none, apply: equalize },
  Invert: { ...none, apply: invert },
  Rotate: { ...scaled(30), apply: (image, degrees, fill) => affine(image, rotation(image.width, image.height, degrees), fill) },
  PosterizeIncreasing: { signed: false, argument: (m) => 4 - Math.trunc((m / 10) * 4), apply: posterize },
  SolarizeIncreasing: { signed: false, argument: (m) => 256 - Math.trunc((m / 10) * 256), apply: solarize },
  SolarizeAdd: { signed: false, argument: (m) => Math.trunc((m / 10) * 110), apply: solarizeAdd },
  ColorIncreasing: { ...enhanced, apply: color },
  ContrastIncreasing: { ...enhanced, apply: contrast },
  BrightnessIncreasing: { ...enhanced, apply: brightness },
  SharpnessIncreasing: { ...enhanced, apply: sharpness },
  ShearX: { ...scaled(0.3), apply: (image, shear, fill) => affine(image, [1, shear, 0, 0, 1, 0], fill) },
  ShearY: { ...scaled(0.3), apply: (image, shear, fill) => affine(image, [1, 0, 0, shear, 1, 0], fill) },
  TranslateXRel: { ...scaled(0.45), apply: (image, share, fill) => affine(image, [1, 0, share * image.width, 0, 1, 0], fill) },
  TranslateYRel: { ...scaled(0.45), apply: (image, share, fill) => affine(image, [1, 0, 0, 0, 1, share * image.height], fill) },
};

const NAMES = Object.keys(OPERATIONS);

/** Fills in the defaults and checks every value. Throws invalid_argument naming the option. */
export function randAugment(options: RandAugmentOptions = {}): RandAugment {
  const o: RandAugment = { layers: 2, magnitude: 9, magnitudeStd: 0.5, probability: 0.5, fill: [124, 116, 104], ...options };
  const check = (name: string, value: number, most: number): void => {
    if (!(value >= 0 && value <= most)) throw new SimmimError('invalid_argument', 'rand_augment', `${name} is ${value}, expected 0 to ${most}`);
  };
  check('layers', o.layers, 16);
  check('magnitude', o.magnitude, 10);
  check('magnitudeStd', o.magnitudeStd, 10);
  check('probability', o.probability, 1);
  for (const level of o.fill) check('fill', level, 255);
  return o;
}

/** One named operation at a magnitude. Throws invalid_argument for a name that does not exist. */
export function applyOperation(name: string, image: DecodedImage, magnitude: number, sign: 1 | -1, fill: RandAugment['fill']): DecodedImage {
  const operation = OPERATIONS[name];
  if (!operation) throw new SimmimError('invalid_argument', 'rand_augment', `there is no operation '${name}', expected one of ${NAMES.join(', ')}`);
  return operation.apply(image, operation.argument(magnitude, sign) ?? 0, fill);
}

/** Augments one picture. Five draws per layer whatever happens (choice, probability, two for the magnitude, sign). */
export function applyRandAugment(image: DecodedImage, o: RandAugment, rng: Rng): DecodedImage {
  let result = image;
  for (let layer = 0; layer < o.layers; layer++) {
    const name = NAMES[Math.floor(rng.uniform() * NAMES.length)] as string;
    const applies = rng.uniform() < o.probability;
    const magnitude = Math.max(0, Math.min(10, o.magnitude + o.magnitudeStd * rng.normal()));
    const sign = rng.uniform() > 0.5 ? -1 : 1;
    if (applies) result = applyOperation(name, result, magnitude, sign, o.fill);
  }
  return result;
}

/** torchvision's ColorJitter for brightness, contrast and saturation: factors from [max(0, 1 - s), 1 + s], in random order. */
export function colorJitter(image: DecodedImage, strength: number, rng: Rng): DecodedImage {
  const steps = [brightness, contrast, color];
  for (let i = steps.length - 1; i > 0; i--) {
    const j = rng.below(i + 1);
    [steps[i], steps[j]] = [steps[j] as (typeof steps)[number], steps[i] as (typeof steps)[number]];
  }
  const low = Math.max(0, 1 - strength);
  return steps.reduce((current, step) => step(current, low + (1 + strength - low) * rng.uniform()), image);
}
