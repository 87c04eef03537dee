import { defineConfig } from 'vitest/config';

const root = new URL('..', import.meta.url).pathname;
const common = { root, pool: 'forks', testTimeout: 120_000, hookTimeout: 120_000 } as const;
/** Cases that leave nothing behind, which each of them checks: one process runs many files, and reads tfjs and the addon once. */
const TOGETHER = ['test/ops/**/*.test.ts'];

export default defineConfig({
  test: {
    root,
    maxWorkers: 2,
    projects: [
      // test/cuda needs the CUDA plugin or its emulation: scripts/test-cuda.sh
      { test: { ...common, name: 'alone', include: ['test/**/*.test.ts'], exclude: ['test/cuda/**', ...TOGETHER] } },
      { test: { ...common, name: 'together', include: TOGETHER, isolate: false } },
    ],
  },
});
