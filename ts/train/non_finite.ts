import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';

/** What is known of an update whose loss or gradient was not finite. */
export interface NonFiniteReport {
  update: number;
  loss: number;
  lr: number;
  gradientNorm: number;
  skippedInARow: number;
  /** The pictures of the update. */
  files: string[];
  /** Norm of each parameter's gradient by name. */
  gradientNorms: Record<string, number>;
}

/**
 * Writes `report.json` and a checkpoint into `folder`: what is needed to find out why. Numbers that are not
 * finite are written as strings, which JSON lacks otherwise.
 */
export function writeNonFiniteReport(folder: string, report: NonFiniteReport, save: (parent: string) => string): string {
  try {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'report.json'), JSON.stringify(report, (_, value: unknown) => (typeof value === 'number' && !Number.isFinite(value) ? String(value) : value), 1));
    save(folder);
  } catch (error) {
    if (error instanceof SimmimError) throw error;
    throw new SimmimError('io', 'train', `cannot write '${folder}': ${(error as Error).message}`);
  }
  return folder;
}
