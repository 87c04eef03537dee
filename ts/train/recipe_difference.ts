/** Keys that may differ when a run is resumed: they do not change its course. */
const FREE_KEYS = ['log', 'checkpoint', 'train.stopAfter', 'train.maxNonFinite', 'train.recorded', 'data.folder', 'data.workers', 'data.validationFolder', 'validation'];

/** The first key, other than the `free` ones, in which two recipes differ, in words; null when there is none. */
export function firstDifference(a: unknown, b: unknown, free: readonly string[] = FREE_KEYS, path = ''): string | null {
  if (free.includes(path)) return null;
  if (typeof a === 'object' && a !== null && b !== null && typeof b === 'object' && !Array.isArray(a)) {
    for (const key of Object.keys(a)) {
      const found = firstDifference((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key], free, path ? `${path}.${key}` : key);
      if (found) return found;
    }
    return null;
  }
  return JSON.stringify(a) === JSON.stringify(b) ? null : `${path} was ${JSON.stringify(a)} and is now ${JSON.stringify(b)}`;
}
