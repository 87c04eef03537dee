import { availableParallelism } from 'node:os';

/** Runs `work` on as many items at a time as there are cores; yields the results in the items' order. */
export async function* sideBySide<T, R>(items: readonly T[], work: (item: T) => Promise<R>): AsyncGenerator<R> {
  const pending: Promise<R>[] = [];
  const width = availableParallelism() + 1;
  for (const item of items) {
    const started = work(item);
    started.catch(() => undefined); // it is awaited, and thrown, in its turn
    pending.push(started);
    if (pending.length === width) yield await (pending.shift() as Promise<R>);
  }
  for (const result of pending) yield await result;
}
