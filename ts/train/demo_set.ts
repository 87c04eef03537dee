import { ImageDataset, openImageFolder, type LabelledSplits, type Region } from '../data';
import { DEMO_PHOTOS } from './run_data';

/** Part of each photograph that training sees; validation has what is right of it, with a gap between. */
const TRAIN_RIGHT = 0.68;
const VALIDATION_LEFT = 0.7;
const ROWS = 4;

/**
 * A labelled dataset out of the package's six photographs: square-ish tiles of each, labelled with the photograph they are
 * from; 4 x 8 of the left part for training, 4 x 3 of the right for validation.
 */
export function demoSplits(): LabelledSplits {
  const photos = openImageFolder(DEMO_PHOTOS, { classes: 'none' });
  const classes = photos.samples.map(({ name }) => name.replace(/\.\w+$/, ''));
  const part = (left: number, right: number, columns: number): ImageDataset => new ImageDataset('the photographs of the package', photos.samples.flatMap((sample, label) => tiles(left, right, columns).map((region, i) => ({
    name: `${sample.name}#${i}`, label, location: { ...sample.location, region },
  }))), classes);
  return { train: part(0, TRAIN_RIGHT, 8), validation: part(VALIDATION_LEFT, 1, 3), warnings: [] };
}

function tiles(left: number, right: number, columns: number): Region[] {
  const width = (right - left) / columns;
  return Array.from({ length: ROWS * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return { top: row / ROWS, bottom: (row + 1) / ROWS, left: left + column * width, right: left + (column + 1) * width };
  });
}
