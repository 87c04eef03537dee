#!/usr/bin/env bash
# Runs the op cases on the GPU under compute-sanitizer: scripts/sanitize-cuda.sh memcheck|racecheck|initcheck|synccheck [vitest filters...]
# Tensors share the allocations of an arena: writes over the end of one are for the emulation's guards to find.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=${1:-memcheck}
shift || true
[ $# -gt 0 ] || set -- test/ops test/cuda/attention_bf16 test/native
exec compute-sanitizer --tool "$tool" --target-processes all --error-exitcode 9 node node_modules/vitest/vitest.mjs run --config test/cuda/vitest.config.ts --maxWorkers=1 "$@"
