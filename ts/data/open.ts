/** One door to every kind of dataset, by what its path is. */
import { existsSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import { openTar, openZip } from './archives';
import { byCodeUnit, isFolder, openImageFolder, type FolderOptions, type ImageDataset } from './dataset';
import { openCifar, openCsv } from './tables';

/**
 * Opens a folder of images, a folder of tar shards (*.tar and no image beside them), a .tar, .zip or .csv
 * file, or CIFAR records (.bin). Anything else is taken for a folder, whose errors say what is missing.
 */
export function openDataset(path: string, options: FolderOptions = {}): ImageDataset {
  if (isFolder(path)) {
    const shards = listShards(path);
    return shards.length > 0 ? openTar(shards.map((name) => join(path, name)), options) : openImageFolder(path, options);
  }
  switch (existsSync(path) ? extname(path).toLowerCase() : '') {
    case '.tar': return openTar(path, options);
    case '.zip': return openZip(path, options);
    case '.csv': return openCsv(path, typeof options.classes === 'object' ? { classes: options.classes } : {});
    case '.bin': return openCifar(path);
    default: return openImageFolder(path, options);
  }
}

/** Names of the shards in a folder, in order; none where it cannot be listed (opening it as images says why). */
function listShards(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.endsWith('.tar')).sort(byCodeUnit);
  } catch {
    return [];
  }
}
