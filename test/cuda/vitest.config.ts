import { defineConfig } from 'vitest/config';

const root = new URL('../..', import.meta.url).pathname;
const common = { root, env: { SIMMIM_TEST_DEVICE: 'cuda' }, pool: 'forks', testTimeout: 300_000, hookTimeout: 300_000 } as const;

// The cases of the CPU on 'simmim-cuda' (scripts/test-cuda.sh): the ops (many files to a process, as in ../vitest.config.ts), the backend's
// random cases, programs, gradients, kernels called directly, the models against the official code's; and what only that backend has.
export default defineConfig({
  test: {
    root,
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...common,
          name: 'alone',
          include: ['test/cuda/**/*.test.ts', 'test/backend/{*_cases,gradients,program,missing_gradients}.test.ts', 'test/autodiff/**/*.test.ts', 'test/native/{gemm,train_kernels}.test.ts', 'test/models/golden.test.ts'],
        },
      },
      { test: { ...common, name: 'together', include: ['test/ops/**/*.test.ts'], isolate: false } },
    ],
  },
});
