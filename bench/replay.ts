import { readFileSync } from 'node:fs';
import { interleave, median, type Result, type Server, table } from './harness';
import { type Limits, shareOfLimit, streamBandwidth } from './limits';
import { bytesOf, flopsOf, parseTraceLine, signature, type TracedCall } from './trace';

/** A distinct call of a trace, run again alone; times in seconds. */
export interface Replayed {
  name: string;
  /** How often it stands in the trace, and the median of its times there. */
  calls: number;
  traced: number;
  replayed: Result;
  flops: number;
  bytes: number;
}

/** The calls of a trace file by signature, in the order in which they come. Lines that are no trace lines are passed over. */
function distinctCalls(file: string, kernels: readonly string[] | undefined): Map<string, TracedCall[]> {
  const groups = new Map<string, TracedCall[]>();
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const call = parseTraceLine(line);
    if (!call || (kernels && !kernels.includes(call.kernel))) continue;
    const name = signature(call);
    groups.set(name, [...(groups.get(name) ?? []), call]);
  }
  if (groups.size === 0) throw new Error(`${file} has no trace line${kernels ? ` of ${kernels.join(', ')}` : ''}: write one by SIMMIM_TRACE=1 ... 2> FILE`);
  return groups;
}

/** Every distinct call of a trace as a bench case of its own, in a fresh process. */
export async function replayTrace(file: string, server: () => Server, options: { kernels?: string[]; threads: number; rounds: number; limits: Limits }): Promise<Replayed[]> {
  const { kernels, threads, rounds, limits } = options;
  const list: Replayed[] = [];
  const rows = [['call', 'calls', 'traced ms', 'replayed ms', 'GFLOP/s', 'GB/s', '% of stream', '% of limit', 'note']];
  for (const [name, calls] of distinctCalls(file, kernels)) {
    const call = calls[0] as TracedCall;
    const ours = server();
    const [replayed] = (await interleave([ours], () => ({ cmd: 'replay_setup', call, threads }), rounds, 0.1)) as [Result];
    ours.close();
    const work = { flops: flopsOf(call), bytes: bytesOf(call), seconds: replayed.median };
    const traced = median(calls.map((c) => c.wall)) / 1e6;
    const precision = Object.values(call.tensors).some((t) => t?.dtype === 'bf16') ? 'bf16' : 'f32';
    const gbytes = work.bytes / work.seconds / 1e9;
    const percent = (share: number): string => (100 * share).toFixed(0);
    list.push({ name, calls: calls.length, traced, replayed, flops: work.flops, bytes: work.bytes });
    rows.push([name, String(calls.length), (traced * 1e3).toFixed(3), (replayed.median * 1e3).toFixed(3), work.flops ? (work.flops / work.seconds / 1e9).toFixed(1) : '', gbytes.toFixed(1), percent(gbytes / streamBandwidth(limits)), percent(shareOfLimit(limits, precision, work)), (replayed.error ?? '').split('\n')[0] as string]);
  }
  console.log(table(rows));
  return list;
}
