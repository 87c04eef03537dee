#!/usr/bin/env bash
# Everything that needs a GPU, in one go; each part writes its log (and the benches their figures) to RESULTS, a part that fails
# does not stop the others.
#   scripts/gpu-run.sh RESULTS [build] [test] [sanitize] [bench]      all parts by default
# The benches' rivals are PyTorch and timm of SIMMIM_PYTHON (default python3) and the official models of SIMMIM_OFFICIAL.
set -uo pipefail
cd "$(dirname "$0")/.."
results=$1
shift
parts=${*:-build test sanitize bench}
mkdir -p "$results"
failed=()

part() { # part NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  if "$@" >"$results/$name.log" 2>&1; then echo "ok    $name ($((SECONDS - start)) s)"; else
    failed+=("$name")
    echo "FAIL  $name ($((SECONDS - start)) s), see $results/$name.log"
  fi
}

build() { # a bundle may bring the plugin, and a host need not have a compiler
  if command -v nvcc >/dev/null && command -v cmake >/dev/null; then npm run build:cuda; else ls -l build/Release/libsimmim_cuda.so; fi
}

bench() {
  local common=(--device cuda --modes eager,compile --rounds 9)
  part bench-ops npm run bench -- ops "${common[@]}" --json "$results/ops.json"
  part bench-ops-forward npm run bench -- ops --forward "${common[@]}" --json "$results/ops-forward.json"
  local batch
  for batch in 128 512; do part "bench-step-$batch" npm run bench -- step "${common[@]}" --batch "$batch" --models swin_base,vit_base --json "$results/step-$batch.json"; done
}

{ date -u; uname -a; nvidia-smi; nvcc --version; node --version; } >"$results/host.txt" 2>&1
for name in $parts; do
  case "$name" in
    build) part build build && part doctor node dist/cli/main.js doctor ;;
    test)
      part test bash scripts/test-cuda.sh --device
      part test-training env SIMMIM_TRAINING_UPDATES=200 bash scripts/test-cuda.sh --device test/cuda/training
      ;;
    sanitize) for tool in memcheck racecheck; do part "sanitize-$tool" bash scripts/sanitize-cuda.sh "$tool"; done ;;
    bench) bench ;;
    *) echo "unknown part '$name', expected build, test, sanitize or bench" >&2; exit 2 ;;
  esac
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
