import { defineConfig } from 'vitest/config';
export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    exclude: ['test/cuda/**'], // they need the CUDA plugin or its emulation: scripts/test-cuda.sh
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
