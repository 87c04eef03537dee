#!/usr/bin/env bash
# Everything that needs a GPU, in one go; each part writes its log (and the benches their figures) to RESULTS, a part that fails
# or takes longer than SIMMIM_PART_SECONDS (default 3600) does not stop the others.
#   scripts/gpu-run.sh RESULTS [build] [test] [bench] [sanitize]      all parts by default
# The benches' rivals are PyTorch and timm of SIMMIM_PYTHON (default python3) and the official models of SIMMIM_OFFICIAL.
set -uo pipefail
cd "$(dirname "$0")/.."
results=${1:?a folder for the results is needed}
shift
parts=${*:-build test bench sanitize}
for name in $parts; do case "$name" in build | test | bench | sanitize) ;; *) echo "unknown part '$name', expected build, test, bench or sanitize" >&2; exit 2 ;; esac; done
mkdir -p "$results"
results=$(cd "$results" && pwd)
failed=()

part() { # part NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  if timeout --kill-after=30 "${SIMMIM_PART_SECONDS:-3600}" "$@" >"$results/$name.log" 2>&1; then echo "ok    $name ($((SECONDS - start)) s)"; else
    local status=$?
    failed+=("$name")
    echo "FAIL  $name ($((SECONDS - start)) s$([ $status -eq 124 ] && echo ', stopped: it took too long')), see $results/$name.log"
  fi
}

build() { # a bundle may bring the plugin, and a host need not have a compiler
  if command -v nvcc >/dev/null && command -v cmake >/dev/null; then part build npm run build:cuda; fi
}

# What must be there before anything else makes sense: one sentence says what is not.
require_device() {
  node -e '
    const stop = (sentence) => { console.error(`simmim: ${sentence}`); process.exit(1); };
    try {
      const { devices, runtime } = require("./dist/native").inspectCuda();
      if (devices.length === 0) stop("no CUDA device was found");
      if (!process.env.SIMMIM_CUBLASLT && /cuBLASLt was not found/.test(runtime)) stop(runtime);
      for (const { name, computeCapability } of devices) console.log(`${name}, compute capability ${computeCapability}; ${runtime}`);
    } catch (error) {
      stop(error.message);
    }'
}

# cuBLASLt lies where the system's loader looks, or in the packages that PyTorch brings.
find_cublas() {
  [ -n "${SIMMIM_CUBLASLT:-}" ] || ldconfig -p 2>/dev/null | grep -q 'libcublasLt\.so\.1[23]' && return
  local found
  found=$("${SIMMIM_PYTHON:-python3}" -c 'import glob, site, sys; print(*(f for p in [*site.getsitepackages(), *sys.path] if p for f in sorted(glob.glob(p + "/nvidia/*/lib/libcublasLt.so.1[23]"))), sep="\n")' 2>/dev/null | head -n 1)
  [ -z "$found" ] || export SIMMIM_CUBLASLT=$found
}

tests() {
  part test bash scripts/test-cuda.sh --device
  part test-training env SIMMIM_TRAINING_UPDATES=200 bash scripts/test-cuda.sh --device test/cuda/training
  part test-tfjs-core node test/conformance/run.cjs --backend simmim-cuda
}

bench() {
  local common=(--device cuda --rounds 9) batch
  for batch in 128 512; do
    part "bench-step-$batch" npm run bench -- step "${common[@]}" --precision bf16 --modes eager,compile,sdpa,timm,timm-compile --batch "$batch" --models swin_base,vit_base --json "$results/step-$batch.json"
  done
  part bench-ops npm run bench -- ops "${common[@]}" --precision bf16 --modes eager,compile,sdpa --batch 128 --json "$results/ops.json"
  part bench-ops-forward npm run bench -- ops --forward "${common[@]}" --precision bf16 --modes eager,compile,sdpa --batch 128 --json "$results/ops-forward.json"
  part bench-optimizer npm run bench -- ops --ops adamw,grad_norm,accumulate,random_mask "${common[@]}" --batch 128 --json "$results/optimizer.json"
}

{ date -u; uname -a; nvidia-smi; nvcc --version; node --version; "${SIMMIM_PYTHON:-python3}" -c 'import torch, timm; print("torch", torch.__version__, "timm", timm.__version__)'; } >"$results/host.txt" 2>&1
case " $parts " in *" build "*) build ;; esac
find_cublas
require_device || exit 1
for name in $parts; do
  case "$name" in
    build) part doctor node dist/cli/main.js doctor ;;
    test) tests ;;
    bench) bench ;;
    sanitize) for tool in memcheck racecheck; do part "sanitize-$tool" bash scripts/sanitize-cuda.sh "$tool"; done ;;
  esac
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
