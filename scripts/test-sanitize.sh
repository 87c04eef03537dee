#!/usr/bin/env bash
# Builds the addon with AddressSanitizer and UBSan and runs the kernel tests on it, at the lowest and the highest
# instruction-set level. Any report fails the run.
#   scripts/test-sanitize.sh [vitest filters...]        default: test/ops test/native, the fuzz of the addon, the queue and the random cases of the backend
#   SIMMIM_FUZZ_CALLS=100000 scripts/test-sanitize.sh test/fuzz   the long fuzz
set -euo pipefail
cd "$(dirname "$0")/.."
level=avx512
[ ! -r /proc/cpuinfo ] || grep -q avx512dq /proc/cpuinfo || level=avx2 # the highest that this machine can run
node scripts/build-native.mjs --build-dir build-cmake-asan --out build/asan "-DSIMMIM_SANITIZE=address,undefined" "-DSIMMIM_LEVELS=$level"
npm run --silent build:ts
filters=("$@")
[ ${#filters[@]} -gt 0 ] || filters=(test/ops test/native/storage test/native/train_kernels test/fuzz test/backend/asynchronous test/backend/random_cases)
preload="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
# Node itself leaks on purpose at exit, hence no leak check here; leaks are counted by the arena in every op test.
env LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
  SIMMIM_ADDON="$PWD/build/asan/simmim.node" \
  npx vitest run --config test/vitest.config.ts "${filters[@]}"
