#!/usr/bin/env bash
# Everything that needs a GPU, in one go, what tells most first. Each part writes its log (and the benches their figures) to RESULTS
# and a line to RESULTS/summary.txt as soon as it is done, and RESULTS.tar.gz is packed anew (or the file that SIMMIM_ARCHIVE names):
# whoever runs out of time has what was done. A part that fails or takes too long does not stop the others.
#   scripts/gpu-run.sh RESULTS [build] [test] [bench] [sanitize]      all kinds of parts by default
# SIMMIM_SECONDS=N: all of it in N seconds, each part in the seconds that stand beside it; otherwise a part may take an hour.
# The benches' rivals are PyTorch and timm of SIMMIM_PYTHON (default python3) and the official models of SIMMIM_OFFICIAL.
# Ends with 0; 1 when a part failed or was left out for want of time, 2 for wrong arguments, 3 where there is no GPU to run on.
set -uo pipefail
cd "$(dirname "$0")/.."
results=${1:?a folder for the results is needed}
shift
kinds=${*:-build test bench sanitize}
for kind in $kinds; do case "$kind" in build | test | bench | sanitize) ;; *) echo "unknown part '$kind', expected build, test, bench or sanitize" >&2; exit 2 ;; esac; done
mkdir -p "$results"
results=$(cd "$results" && pwd)
archive=${SIMMIM_ARCHIVE:-$results.tar.gz}
: >"$results/summary.txt"
failed=()

say() { # one line, to be kept
  echo "$1" | tee -a "$results/summary.txt"
  tar -C "$results" -czf "$archive.new" . && mv "$archive.new" "$archive"
}

part() { # part KIND NAME SECONDS COMMAND...
  local kind=$1 name=$2 seconds=$3 start=$SECONDS left status
  shift 3
  case " $kinds " in *" $kind "*) ;; *) return 0 ;; esac
  if [ -n "${SIMMIM_SECONDS:-}" ]; then
    left=$((SIMMIM_SECONDS - SECONDS))
    [ "$seconds" -le "$left" ] || seconds=$left
  else
    seconds=3600
  fi
  if [ "$seconds" -lt 10 ]; then
    failed+=("$name")
    say "left  $name: the $SIMMIM_SECONDS seconds are over"
    return 1
  fi
  timeout --kill-after=10 "$seconds" "$@" >"$results/$name.log" 2>&1 && { say "ok    $name ($((SECONDS - start)) s)"; return 0; }
  status=$?
  failed+=("$name")
  say "FAIL  $name ($((SECONDS - start)) s$([ $status -ne 124 ] || echo ', stopped: it took too long')), see $results/$name.log"
  return 1
}

stop() { # stop SENTENCE: without a GPU there is nothing to run
  say "simmim: $1"
  exit 3
}

# A plugin that came along is used where it was made of the sources that lie here; otherwise it is made, for this host's GPU alone.
build() {
  local plugin=build/Release/libsimmim_cuda.so capability
  case " $kinds " in *" build "*) ;; *) return 0 ;; esac
  [ ! -d node_modules/typescript ] || part build build-ts 120 node scripts/build-ts.mjs
  if [ -f "$plugin" ] && [ "$(cat "$plugin.sources" 2>/dev/null)" = "$(node scripts/build-native.mjs --fingerprint)" ]; then
    say "ok    the plugin that is here was made of these sources"
  elif command -v nvcc >/dev/null && command -v cmake >/dev/null; then
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
    part build build-plugin 300 node scripts/build-native.mjs --build-dir build-cuda -DSIMMIM_ADDON=OFF -DSIMMIM_CUDA=ON ${capability:+"-DSIMMIM_CUDA_TARGETS=${capability/#90/90a}"}
  else
    stop "the CUDA plugin $([ -f "$plugin" ] && echo 'was made of other sources' || echo 'is not here'), and this host has no nvcc and CMake to make it"
  fi
}

# What must be there before anything else makes sense: one sentence says what is not.
require_device() {
  local sentence
  sentence=$(node -e '
    const stop = (sentence) => { console.log(sentence); process.exit(1); };
    try {
      const { devices, runtime } = require("./dist/native").inspectCuda();
      if (devices.length === 0) stop("no CUDA device was found");
      if (!process.env.SIMMIM_CUBLASLT && /cuBLASLt was not found/.test(runtime)) stop(runtime);
      for (const { name, computeCapability } of devices) console.log(`${name}, compute capability ${computeCapability}; ${runtime}`);
    } catch (error) {
      stop(error.message);
    }' 2>&1) || stop "$sentence"
  say "$sentence"
}

# cuBLASLt lies where the system's loader looks, or in the packages that PyTorch brings.
find_cublas() {
  [ -n "${SIMMIM_CUBLASLT:-}" ] || ldconfig -p 2>/dev/null | grep -q 'libcublasLt\.so\.1[23]' && return
  local found
  found=$("${SIMMIM_PYTHON:-python3}" -c 'import glob, site, sys; print(*(f for p in [*site.getsitepackages(), *sys.path] if p for f in sorted(glob.glob(p + "/nvidia/*/lib/libcublasLt.so.1[23]"))), sep="\n")' 2>/dev/null | head -n 1)
  [ -z "$found" ] || export SIMMIM_CUBLASLT=$found
}

on_gpu() { node node_modules/vitest/vitest.mjs run --config test/cuda/vitest.config.ts --maxWorkers="$workers" "$@"; }
bench() { # bench NAME SECONDS ARGUMENTS...
  local name=$1 seconds=$2
  shift 2
  part bench "$name" "$seconds" node bench/run.mjs "$@" --device cuda --json "$results/$name.json"
}

{ date -u; uname -a; nvidia-smi; nvcc --version; node --version; "${SIMMIM_PYTHON:-python3}" -c 'import torch, timm; print("torch", torch.__version__, "timm", timm.__version__)'; } >"$results/host.txt" 2>&1
build
find_cublas
require_device
workers=$(($(nproc) / 2 > 8 ? 8 : $(nproc) / 2 > 1 ? $(nproc) / 2 : 1))
export workers
export -f on_gpu
bf16=(--precision bf16 --rounds 9)
part test doctor 30 node dist/cli/main.js doctor
part test test-attention 60 bash -c 'on_gpu test/cuda/attention_bf16 test/cuda/device'
part test test-ops 120 bash -c 'on_gpu test/ops test/native test/models'
part test test-training 120 env SIMMIM_TRAINING_UPDATES=200 bash -c 'on_gpu test/cuda/training'
bench bench-step-swin-128 60 step "${bf16[@]}" --modes eager --batch 128 --models swin_base
part sanitize sanitize-memcheck 90 bash scripts/sanitize-cuda.sh memcheck test/cuda/attention_bf16
bench bench-attention 60 ops "${bf16[@]}" --modes eager --batch 128 --ops window_attention
bench bench-attention-forward 60 ops --forward "${bf16[@]}" --modes eager --batch 128 --ops window_attention
bench bench-optimizer 40 ops --rounds 9 --modes eager --batch 128 --ops adamw,grad_norm,accumulate,random_mask
part test test-tfjs-core 90 node test/conformance/run.cjs --backend simmim-cuda
bench bench-step-swin-128-compile 120 step "${bf16[@]}" --modes compile --batch 128 --models swin_base
bench bench-step-vit-128-compile 120 step "${bf16[@]}" --modes compile --batch 128 --models vit_base
bench bench-step-swin-512 90 step "${bf16[@]}" --modes eager --batch 512 --models swin_base
part test test-rest 180 bash -c 'on_gpu test/backend test/autodiff test/cuda/failures'
bench bench-step 300 step "${bf16[@]}" --modes eager,compile,sdpa,timm,timm-compile --batch 128 --models swin_base,vit_base
bench bench-ops 200 ops "${bf16[@]}" --modes eager,compile,sdpa --batch 128
bench bench-ops-forward 200 ops --forward "${bf16[@]}" --modes eager,compile,sdpa --batch 128
part sanitize sanitize-all-memcheck 600 bash scripts/sanitize-cuda.sh memcheck
part sanitize sanitize-all-racecheck 600 bash scripts/sanitize-cuda.sh racecheck
[ ${#failed[@]} -eq 0 ] || { say "not done: ${failed[*]}"; exit 1; }
