#!/usr/bin/env bash
# The tests of the backend, tfjs-core's own suite among them, and of training, with every native call queued.
#   scripts/test-queued.sh [vitest filters...]        default: test/backend test/train test/programs
set -euo pipefail
cd "$(dirname "$0")/.."
npm run --silent build:ts
filters=("$@")
[ ${#filters[@]} -gt 0 ] || filters=(test/backend test/train test/programs)
SIMMIM_QUEUE_FROM=0 npx vitest run --config test/vitest.config.ts "${filters[@]}"
