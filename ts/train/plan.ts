import { countParameters } from '../nn/module';
import { type Encoder, planWindow, stageGeometry, type SwinConfig, type SwinV2Config, type VitConfig } from '../models';
import { pair } from '../models/encoder';
import { buildClassifier } from './classifier_build';
import type { FinetuneRecipe } from './finetune_recipe';
import { buildModel } from './model_build';
import { encoderConfig } from '../models';
import { parseRecipe, type PartialRecipe } from './recipe';
import { findWeights } from './weights_source';

/** What a model costs to train. */
export interface Plan {
  encoder: Encoder;
  /** With the head: the linear one of pre-training, or that of the classes. */
  parameters: number;
  encoderParameters: number;
  /** Multiply-adds of the encoder's forward pass per image, counted as the official `flops()` methods do. */
  encoderMacs: number;
  /** Floating point operations of one training step per image: forward and backward, two per multiply-add. */
  trainingFlops: number;
  /** The same when the blocks run forward twice, as checkpointing has them. */
  recomputedFlops: number;
  /** Bytes of activations at their most per image (float32): what is kept for the backward pass, the image, the prediction and its gradient. */
  activationBytes: number;
  /** The same when each block keeps its input only and runs again in the backward pass (`model.checkpointing`). */
  checkpointedBytes: number;
  /** Bytes of weights, gradients and the two moments. */
  stateBytes: number;
  /** Of these the moments, which sharding (ZeRO stage 1) divides among the devices. */
  optimizerBytes: number;
}

interface Cost {
  macs: number;
  /** Multiply-adds of the blocks alone. */
  blocks: number;
  /** Elements kept for the backward pass. */
  kept: number;
  /** Elements kept with checkpointing: the inputs of blocks, and what lies between them. */
  inputs: number;
  /** Elements that the largest block keeps, which is what one recomputed block adds. */
  largest: number;
}

const isVit = (config: object): config is VitConfig => 'depth' in config;
const isV2 = (config: object): config is SwinV2Config => 'pretrainedWindowSizes' in config;

/** Costs of a recipe's model, by formula: nothing is allocated or run. Throws as `createEncoder` for unknown names. */
export function planModel(model: PartialRecipe['model']): Plan {
  const imageSize = model?.imageSize ?? encoderConfig(model?.encoder ?? 'swin_tiny').imageSize;
  const side = typeof imageSize === 'number' ? [imageSize, imageSize] : [...imageSize];
  const recipe = parseRecipe({ model: { ...model, imageSize: [side[0] as number, side[1] as number] }, masking: { patchSize: greatestMask(side) } });
  const { encoder: name, ...options } = recipe.model;
  const config = encoderConfig(name, Object.fromEntries(Object.entries(options).filter(([, v]) => v !== null)));
  const { model: built } = buildModel(recipe);
  const { encoder } = built;
  const [height, width] = encoder.imageSize;
  const macs = cellsOf(encoder) * encoder.channels * 3 * encoder.stride ** 2;
  return planOf(encoder, config, { parameters: countParameters(built), encoderParameters: countParameters(encoder) }, { macs, results: 3 * height * width });
}

/**
 * Costs of a fine-tuning recipe's classifier of so many classes, by formula. Throws as `buildClassifier`, and as `findWeights` where
 * the recipe names weights that are not there.
 */
export function planClassifier(recipe: FinetuneRecipe, classes: number): Plan {
  const weights = recipe.init === null ? null : findWeights(recipe.init);
  const { model, identity } = buildClassifier({ ...recipe, fromScratch: true }, Array.from({ length: classes }, (_, i) => String(i)), weights);
  const { encoder } = model;
  const parameters = countParameters(model);
  const head = countParameters({ head: model.head, norm: model.fc_norm });
  return planOf(encoder, identity.encoder, { parameters, encoderParameters: parameters - head }, { macs: encoder.channels * classes, results: encoder.channels + classes });
}

const cellsOf = ({ imageSize: [height, width], stride }: Encoder): number => (height / stride) * (width / stride);

/** `head`: its multiply-adds, and the elements of its results, which are kept with their gradient. */
function planOf(encoder: Encoder, config: object, counts: { parameters: number; encoderParameters: number }, head: { macs: number; results: number }): Plan {
  const cost = isVit(config) ? vitCost(config) : swinCost(config as SwinConfig | SwinV2Config);
  const { parameters } = counts;
  const [height, width] = encoder.imageSize;
  const [prediction, headMacs] = [2 * head.results, head.macs];
  const rest = cellsOf(encoder) * encoder.channels + 3 * height * width;
  return {
    encoder, ...counts,
    encoderMacs: cost.macs, trainingFlops: 6 * (cost.macs + headMacs), recomputedFlops: 6 * (cost.macs + headMacs) + 2 * cost.blocks,
    activationBytes: 4 * (cost.kept + prediction + rest),
    checkpointedBytes: 4 * (cost.inputs + Math.max(cost.largest, prediction) + rest), // the prediction is gone when blocks run again
    stateBytes: 16 * parameters, optimizerBytes: 8 * parameters,
  };
}

/** A mask cell that tiles the image and holds whole patches: the image's own greatest common divisor. */
function greatestMask([h = 1, w = 1]: readonly number[]): number {
  return w === 0 ? h : greatestMask([w, h % w]);
}

/**
 * A block of `tokens` tokens of width `c`, each attending to `seen` others. Kept: block input, q k v, attention output and
 * second residual (6 c; the norms' results are made again) and the input of the GELU (ratio * c); SwinV2's norms follow the
 * branches, whose ends are kept as well, and so are the norms' results (`widths` 10).
 */
function blockCost(tokens: number, c: number, seen: number, ratio: number, widths = 6): Cost {
  const products = 4 * c * c + 2 * seen * c + 2 * ratio * c * c;
  const kept = tokens * c * (widths + ratio);
  return { macs: tokens * products, blocks: tokens * products, kept, inputs: tokens * c, largest: kept };
}

/** As SwinTransformer.flops() and SwinTransformerV2.flops() of the official repositories, normalisations included. */
function swinCost(config: SwinConfig | SwinV2Config): Cost {
  const { inChannels, patchSize, embedDim, mlpRatio, patchNorm, windowSize } = config;
  const stages = stageGeometry('plan', config);
  const total: Cost = { macs: 0, blocks: 0, kept: 0, inputs: 0, largest: 0 };
  const add = (macs: number, kept = 0, inputs = kept): void => {
    total.macs += macs;
    total.kept += kept;
    total.inputs += inputs;
  };
  const [rows, columns] = [pair(config.imageSize)[0] / patchSize, pair(config.imageSize)[1] / patchSize];
  add(rows * columns * embedDim * (inChannels * patchSize ** 2 + (patchNorm ? 1 : 0)), rows * columns * embedDim * 2);
  stages.forEach((stage, i) => {
    const [h, w] = stage.resolution;
    const c = stage.channels;
    const { window } = planWindow(stage.resolution, windowSize, false);
    const block = blockCost(h * w, c, window[0] * window[1], mlpRatio, isV2(config) ? 10 : 6);
    add(stage.depth * (block.macs + 2 * h * w * c), stage.depth * block.kept, stage.depth * block.inputs);
    total.blocks += stage.depth * block.macs;
    total.largest = Math.max(total.largest, block.largest);
    if (i + 1 < stages.length) add((h / 2) * (w / 2) * 8 * c * c + (isV2(config) ? (h * w * c) / 2 : h * w * c), h * w * c * (isV2(config) ? 2 : 1));
  });
  const last = stages[stages.length - 1];
  if (last) add((last.channels * rows * columns) / 2 ** stages.length, last.channels * last.resolution[0] * last.resolution[1]);
  return total;
}

function vitCost(config: VitConfig): Cost {
  const [height, width] = pair(config.imageSize);
  const patches = (height / config.patchSize) * (width / config.patchSize);
  const tokens = patches + 1;
  const c = config.embedDim;
  const block = blockCost(tokens, c, tokens, config.mlpRatio);
  return {
    macs: patches * c * config.inChannels * config.patchSize ** 2 + config.depth * block.macs,
    kept: tokens * c * 2 + config.depth * block.kept,
    blocks: config.depth * block.macs,
    inputs: tokens * c * 2 + config.depth * block.inputs,
    largest: block.largest,
  };
}
