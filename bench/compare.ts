import { table } from './harness';

/** A result that can be found again in another run of the same bench. */
export interface Comparable {
  /** What was timed, such as `step swin_base bf16 simmim`. */
  key: string;
  /** Median time. */
  seconds: number;
  /** The rival's time over ours in the same rounds; what other processes took from both cancels. Null without a rival. */
  ratio: number | null;
}

/** How much slower is a regression: runs of an idle machine differ by less. */
const TOLERANCE = 1.08;

/**
 * A table of new against old results of the same keys, and the keys that became slower by more than 8 %: in their ratio to the rival
 * where both runs had one, else in time.
 */
export function compare(before: readonly Comparable[], now: readonly Comparable[]): { text: string; slower: string[] } {
  const old = new Map(before.map((r) => [r.key, r]));
  const slower: string[] = [];
  const rows = [['case', 'before ms', 'now ms', 'time', 'ratio before', 'ratio now', '']];
  for (const r of now) {
    const was = old.get(r.key);
    if (!was) continue;
    const time = r.seconds / was.seconds;
    const factor = r.ratio !== null && was.ratio !== null ? was.ratio / r.ratio : time;
    if (factor > TOLERANCE) slower.push(r.key);
    const shown = (ratio: number | null): string => ratio?.toFixed(2) ?? '-';
    rows.push([r.key, (was.seconds * 1e3).toFixed(3), (r.seconds * 1e3).toFixed(3), time.toFixed(2), shown(was.ratio), shown(r.ratio), factor > TOLERANCE ? 'SLOWER' : factor < 1 / TOLERANCE ? 'faster' : '']);
  }
  return { text: rows.length > 1 ? table(rows) : 'no case of that file was measured now', slower };
}
