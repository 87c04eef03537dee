import * as tf from '@tensorflow/tfjs-core';
import type { Batch, Normalisation } from '../data';
import { SimmimError } from '../errors';
import { writeWhole } from '../formats/whole_file';
import { IMAGENET } from '../image_statistics';
import { encoderConfig } from '../models';
import { factList, figureHtml, htmlPage } from '../report/page';
import { figurePng, toRgb, type Figure } from '../report/pictures';
import { ClassifyTask } from '../train/classify_task';
import { openEvaluation, openLabelledData, openTraining } from '../train/finetune_data';
import type { FinetuneRecipe } from '../train/finetune_recipe';
import { withSource } from '../train/finetune_run';
import type { HostTensor } from '../train/step';

/** Shares of labels below this are not named. */
const NAMED_SHARE = 0.05;

/** Writes BASE.png and BASE.html: pictures of the first batch of an epoch as they are, augmented, and mixed, with the labels that they are trained on. */
export async function writeFinetunePreview(recipe: FinetuneRecipe, shown: { count: number; epoch: number }, base: string): Promise<void> {
  const size = previewSize(recipe);
  const { augment, data } = recipe;
  const figure = await augmentedPictures(recipe, size, shown);
  const facts = {
    recipe: recipe.name, 'image size': size.join(' x '),
    crop: data.crop === 'padded' ? 'moved by up to 4 pixels over black' : `${data.cropScale.join(' to ')} of the area, sides ${data.cropRatio.map((r) => r.toFixed(2)).join(' to ')}, ${data.interpolation}`,
    augmentation: augment.autoAugment ?? (augment.colorJitter > 0 ? `colour jitter ${augment.colorJitter}` : 'none'), 'random erasing': `${augment.erasing}`,
    mixing: `mixup ${augment.mixup}, cutmix ${augment.cutmix}, by ${augment.mixMode}, label smoothing ${augment.labelSmoothing}`,
  };
  writeWhole(`${base}.png`, 'preview', await figurePng(figure));
  writeWhole(`${base}.html`, 'preview', htmlPage(`What ${recipe.name} trains on`, [{ title: '', content: `${factList(facts)}\n${await figureHtml(figure)}` }]));
}

function previewSize({ model: { imageSize, encoder } }: FinetuneRecipe): [number, number] {
  const size = imageSize ?? (encoder === null ? null : encoderConfig(encoder).imageSize);
  if (size === null) throw new SimmimError('invalid_argument', 'preview', 'the recipe leaves the image size to the weights it starts from: say --set model.imageSize=PIXELS');
  return typeof size === 'number' ? [size, size] : [size[0], size[1]];
}

async function augmentedPictures(recipe: FinetuneRecipe, size: [number, number], { count, epoch }: { count: number; epoch: number }): Promise<Figure> {
  const { train } = openLabelledData(recipe);
  const normalisation: Normalisation = recipe.data.statistics ?? IMAGENET;
  const images = { size, normalisation };
  const source = openTraining({ ...recipe, data: { ...recipe.data, workers: 0 } }, train, images, () => undefined);
  const batch = await withSource(source, async (open) => {
    open.restore({ ...open.state(), epoch, step: 0 });
    return open.next();
  });
  const plain = await withSource(openEvaluation(train.subset(batch.indices.slice(0, count)), { ...images, resizeRatio: null, batchSize: count, workers: 0, maxBrokenShare: 1 }), (open) => open.next());
  const { mixed, targets } = await mix(recipe, batch, size, train.classes.length);
  const values = 3 * size[0] * size[1];
  const picture = (all: Float32Array, row: number): Uint8Array => toRgb(all.subarray(row * values, (row + 1) * values), normalisation);
  const labels = (row: number): string => train.classes.flatMap((name, c) => {
    const share = targets[row * train.classes.length + c] as number;
    return share < NAMED_SHARE ? [] : [`${(100 * share).toFixed(0)} % ${name}`];
  }).join(', ');
  return {
    title: '', size, headings: ['as it is', 'augmented', 'mixed'],
    rows: plain.files.map((name, row) => ({ name: `${name}: ${labels(row)}`, cells: [picture(plain.images, row), picture(batch.images, row), picture(mixed, row)] })),
    caption: `The first pictures of epoch ${epoch}, as a run of this recipe trains on them, with their soft labels from ${100 * NAMED_SHARE} % on.`,
  };
}

/** The batch as the loss gets it: pictures and soft labels. */
async function mix(recipe: FinetuneRecipe, batch: Batch, size: [number, number], classes: number): Promise<{ mixed: Float32Array; targets: Float32Array }> {
  const notUsed = (): never => {
    throw new SimmimError('internal', 'preview', 'nothing is trained');
  };
  const task = new ClassifyTask({ classes, loss: notUsed }, recipe.augment, recipe.train.seed);
  const inputs = task.inputs(batch, [3, ...size]);
  const output = tf.tidy(() => {
    const on = Object.fromEntries(Object.entries(inputs).map(([name, { values, shape, dtype }]: [string, HostTensor]) => [name, tf.tensor(values, [...shape], dtype)]));
    return tf.add(task.prepare(on).images as tf.Tensor, 0);
  });
  const mixed = await output.data<'float32'>();
  output.dispose();
  return { mixed, targets: inputs.targets?.values as Float32Array };
}
