import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

/** What this machine can do at most, measured by limits.cc; null where it has no such thing. */
export interface Limits {
  threads: number;
  /** Multiply-adds in float32, GFLOP/s. */
  f32: number;
  /** Dot products of bf16 pairs with float32 sums, GFLOP/s. */
  bf16: number | null;
  /** a = b + s c on arrays beyond the caches, 12 bytes an element, GB/s. */
  triad: number;
  /** The same with stores that go round the caches. */
  triadStreamed: number | null;
  /** 8 bytes an element. */
  copy: number;
  read: number;
}

interface Raw {
  f32_gflops: number;
  bf16_gflops: number | null;
  triad_gbs: number;
  triad_streamed_gbs: number | null;
  copy_gbs: number;
  read_gbs: number;
}

/** Compiles limits.cc into `folder` and runs it. Throws when there is no compiler (CXX, else c++). */
export function measureLimits(here: string, folder: string, threads: number): Limits {
  mkdirSync(folder, { recursive: true });
  const program = join(folder, process.platform === 'win32' ? 'limits.exe' : 'limits');
  const compiler = process.env.CXX ?? 'c++';
  const built = spawnSync(compiler, ['-std=c++20', '-O3', '-march=native', '-pthread', join(here, 'limits.cc'), '-o', program], { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(`limits: '${compiler}' could not compile bench/limits.cc: ${built.error?.message ?? built.stderr}`);
  const run = spawnSync(program, [String(threads)], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`limits: ended with ${run.status}: ${run.stderr}`);
  const raw = JSON.parse(run.stdout) as Raw;
  return { threads, f32: raw.f32_gflops, bf16: raw.bf16_gflops, triad: raw.triad_gbs, triadStreamed: raw.triad_streamed_gbs, copy: raw.copy_gbs, read: raw.read_gbs };
}

/** The bandwidth that shares of it refer to: the best stream of reads and writes, in GB/s. */
export function streamBandwidth({ triad, triadStreamed, copy }: Limits): number {
  return Math.max(triad, triadStreamed ?? 0, copy);
}

/** Operations a second at most, in GFLOP/s; without dot products of bf16 the float32 ones have to do. */
export function peak(limits: Limits, precision: string): number {
  return precision === 'bf16' ? (limits.bf16 ?? limits.f32) : limits.f32;
}

/** Share of what the machine allows: the time that the slower of operations and bytes needs at least, over the time taken. */
export function shareOfLimit(limits: Limits, precision: string, work: { flops: number; bytes: number; seconds: number }): number {
  const least = Math.max(work.flops / peak(limits, precision), work.bytes / streamBandwidth(limits)) / 1e9;
  return least / work.seconds;
}
