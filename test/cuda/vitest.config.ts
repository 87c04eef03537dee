import { defineConfig } from 'vitest/config';

// The cases of the CPU on 'simmim-cuda' (scripts/test-cuda.sh): the ops, the backend's random cases, programs, gradients,
// kernels called directly, the models against the official code's; and what only that backend has.
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/cuda/**/*.test.ts', 'test/ops/**/*.test.ts', 'test/backend/{*_cases,gradients,program,missing_gradients}.test.ts', 'test/autodiff/**/*.test.ts', 'test/native/{gemm,train_kernels}.test.ts', 'test/models/golden.test.ts'],
    env: { SIMMIM_TEST_DEVICE: 'cuda' },
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
