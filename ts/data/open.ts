/** One door to every kind of dataset, by what its path is. */
import { existsSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import { openTar, openZip } from './archives';
import { byCodeUnit, isFolder, openImageFolder, type FolderOptions, type ImageDataset } from './dataset';
import { checkShardSizes, readShardIndex } from './shards';
import { openCifar, openCsv } from './tables';

/**
 * Opens a folder of images, a folder of tar shards (*.tar), CIFAR-10's own folder (data_batch_*.bin), a .tar, .zip
 * or .csv file, or CIFAR records (.bin). Anything else is taken for a folder, whose errors say what is missing.
 */
export function openDataset(path: string, options: FolderOptions = {}): ImageDataset {
  if (isFolder(path)) {
    const shards = filesIn(path, /\.tar$/);
    const index = readShardIndex(path);
    if (index) checkShardSizes(path, shards, index);
    if (shards.length > 0) return openTar(shards, options);
    const records = filesIn(path, /^data_batch_\d+\.bin$/);
    return records.length > 0 ? openCifar(records) : openImageFolder(path, options);
  }
  switch (existsSync(path) ? extname(path).toLowerCase() : '') {
    case '.tar': return openTar(path, options);
    case '.zip': return openZip(path, options);
    case '.csv': return openCsv(path, typeof options.classes === 'object' ? { classes: options.classes } : {});
    case '.bin': return openCifar(path);
    default: return openImageFolder(path, options);
  }
}

/** Files of a folder whose names match, in order; none where it cannot be listed (opening it as images says why). */
function filesIn(folder: string, name: RegExp): string[] {
  try {
    return readdirSync(folder).filter((file) => name.test(file)).sort(byCodeUnit).map((file) => join(folder, file));
  } catch {
    return [];
  }
}
