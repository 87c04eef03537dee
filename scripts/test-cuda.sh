#!/usr/bin/env bash
# Runs the op cases, random cases, programs and gradients on 'simmim-cuda'.
#   scripts/test-cuda.sh [vitest filters...]            on the host, by the emulation of native/cuda (built first)
#   scripts/test-cuda.sh --sanitize [filters...]        the same with AddressSanitizer and UBSan
#   scripts/test-cuda.sh --device [filters...]          on the GPU, by the plugin that `npm run build:cuda` made
set -euo pipefail
cd "$(dirname "$0")/.."
mode=emulated
case "${1:-}" in --device | --sanitize) mode=${1#--}; shift ;; esac
npm run --silent build:ts
case "$mode" in
  emulated)
    npm run --silent build:emulated
    build/emulated/simmim_emulation_test
    export SIMMIM_RANDOM_CASES=${SIMMIM_RANDOM_CASES:-30} SIMMIM_GRADIENT_CASES=${SIMMIM_GRADIENT_CASES:-1} # each random case runs in three orders
    export SIMMIM_CUDA_PLUGIN="$PWD/build/emulated/libsimmim_cuda_emulated.so"
    ;;
  sanitize)
    options="-DSIMMIM_SANITIZE=address,undefined"
    node scripts/build-native.mjs --build-dir build-cmake-asan --out build/asan "$options"
    node scripts/build-native.mjs --build-dir build-emulated-asan --out build/asan "$options" -DSIMMIM_ADDON=OFF -DSIMMIM_CUDA_EMULATED=ON
    export SIMMIM_ADDON="$PWD/build/asan/simmim.node" SIMMIM_CUDA_PLUGIN="$PWD/build/asan/libsimmim_cuda_emulated.so"
    export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
    export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    ;;
esac
exec npx vitest run --config test/cuda/vitest.config.ts "$@"
