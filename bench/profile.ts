import { median, Server, table } from './harness';
import { type Limits, shareOfLimit } from './limits';
import { bytesOf, flopsOf, parseTraceLine, signature, type TracedCall } from './trace';

/** What a profile adds up for one kernel, or one kernel with its shapes. */
export interface Total {
  name: string;
  calls: number;
  milliseconds: number;
  flops: number;
  bytes: number;
}

/** The native calls of each of `rounds` runs of what a server is set up for, as its trace has them. */
export async function tracedRuns(server: Server, rounds: number): Promise<TracedCall[][]> {
  const runs: TracedCall[][] = [];
  server.onComplaint((line) => {
    const call = parseTraceLine(line);
    if (call) runs.at(-1)?.push(call);
  });
  for (let round = 0; round < rounds; round++) {
    runs.push([]);
    await server.ask({ cmd: 'run', trace: true });
    await server.ask({ cmd: 'info' }); // the lines come by another way than the answer: time for them to arrive
  }
  return runs;
}

/** Calls of equal cost in several steps: the total of each is its median over the steps. */
function totals(steps: readonly TracedCall[][], clock: 'wall' | 'thread', nameOf: (call: TracedCall) => string): Total[] {
  const groups = new Map<string, { total: Total; perStep: number[] }>();
  steps.forEach((calls, step) => {
    for (const call of calls) {
      const name = nameOf(call);
      const group = groups.get(name) ?? { total: { name, calls: 0, milliseconds: 0, flops: 0, bytes: 0 }, perStep: steps.map(() => 0) };
      groups.set(name, group);
      group.perStep[step] = (group.perStep[step] as number) + call[clock] / 1000;
      if (step > 0) continue;
      group.total.calls++;
      group.total.flops += flopsOf(call);
      group.total.bytes += bytesOf(call);
    }
  });
  return [...groups.values()].map(({ total, perStep }) => ({ ...total, milliseconds: median(perStep) })).sort((a, b) => b.milliseconds - a.milliseconds);
}

function rows(title: string, list: readonly Total[], limits: Limits, precision: string): string {
  const all = list.reduce((sum, t) => sum + t.milliseconds, 0);
  const line = (t: Total): string[] => [t.name, String(t.calls), t.milliseconds.toFixed(2), ((100 * t.milliseconds) / all).toFixed(1), t.flops ? (t.flops / t.milliseconds / 1e6).toFixed(0) : '', (t.bytes / t.milliseconds / 1e6).toFixed(1), (100 * shareOfLimit(limits, precision, { ...t, seconds: t.milliseconds / 1e3 })).toFixed(0)];
  const sum: Total = { name: 'all', calls: 0, milliseconds: all, flops: 0, bytes: 0 };
  for (const t of list) (sum.calls += t.calls), (sum.flops += t.flops), (sum.bytes += t.bytes);
  return table([[title, 'calls', 'ms', '%', 'GFLOP/s', 'GB/s', '% of limit'], ...list.map(line), line(sum)]);
}

export interface ProfileOptions {
  batch: number;
  threads: number;
  rounds: number;
  precision: string;
  /** Wall time, or processor time of the calling thread: with one thread the same, but for what other processes take. */
  clock: 'wall' | 'thread';
  /** One line for each shape a kernel is called with. */
  shapes: boolean;
  limits: Limits;
}

/** Where the time of one training step goes, by kernel and by kernel with its shapes: medians over `rounds` traced steps. */
export async function profileStep(ours: Server, model: string, options: ProfileOptions): Promise<{ kernels: Total[]; calls: Total[] }> {
  const { batch, threads, rounds, precision, clock, shapes, limits } = options;
  const ready = await ours.ask({ cmd: 'step_setup', model, batch, threads, precision, recorded: false });
  if (ready.error) throw new Error(ready.error);
  await ours.ask({ cmd: 'run', repeats: 2 });
  const steps = await tracedRuns(ours, rounds);
  ours.close();
  const kernels = totals(steps, clock, (call) => call.kernel);
  const byShape = totals(steps, clock, signature);
  console.log(rows(`${model}, batch ${batch}, ${precision}, ${threads} threads, ${clock} time`, kernels, limits, precision));
  if (shapes) console.log(`\n${rows('call', byShape, limits, precision)}`);
  return { kernels, calls: byShape };
}
