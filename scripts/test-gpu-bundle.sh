#!/usr/bin/env bash
# The bundle for a GPU host (gpu-bundle.sh), unpacked where there is neither Node nor a GPU: it has every file that its tests and
# benches import, runs with its own Node, keeps to its time, and without a GPU ends with one sentence and status 3. The plugin
# that its tests run on here is the emulation.
set -euo pipefail
cd "$(dirname "$0")/.."
npm run --silent build:emulated
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
SIMMIM_BUNDLE_AS_IS=1 bash scripts/gpu-bundle.sh --folder "$folder"
bundle=$folder/simmim-gpu emulated=$PWD/build/emulated/libsimmim_cuda_emulated.so
mkdir "$folder/tools"
for tool in bash env timeout date uname dirname basename mkdir sed grep head cat tar gzip tee mv tr nproc; do ln -s "$(command -v $tool)" "$folder/tools/$tool"; done
inside() { env -i PATH="$folder/tools" HOME="$folder" "$@"; }
fail() { # fail SENTENCE OUTPUT
  printf 'gpu-bundle: %s\n%s\n' "$1" "$2"
  exit 1
}

for script in scripts/gpu-run.sh scripts/sanitize-cuda.sh; do bash -n "$script"; done
status=0
said=$(inside "$bundle/run") || status=$?
[ $status -eq 3 ] && [[ $(tail -n 1 <<<"$said") == "simmim: "* ]] || fail "without a GPU it ended with $status, expected 3 and one sentence" "$said"

cd "$bundle/source"
said=$(inside "$bundle/node/bin/node" scripts/check-imports.mjs 2>&1) || fail 'an import does not resolve' "$said"
said=$(inside SIMMIM_CUDA_PLUGIN="$emulated" "$bundle/node/bin/node" node_modules/vitest/vitest.mjs run --config test/cuda/vitest.config.ts test/cuda/device 2>&1) || fail 'a test file does not run' "$said"
said=$(inside SIMMIM_CUDA_PLUGIN="$emulated" "$bundle/node/bin/node" test/conformance/run.cjs --backend simmim-cuda --grep '^softmax ' 2>&1) || fail "tfjs-core's suite does not run" "$said"

status=0
said=$(inside SIMMIM_CUDA_PLUGIN="$emulated" SIMMIM_SECONDS=20 "$bundle/run" test) || status=$?
[ $status -eq 1 ] && grep -q '^ok    doctor ' "$bundle/results/summary.txt" && grep -q '^left  ' "$bundle/results/summary.txt" || fail "with 20 seconds it ended with $status, expected 1, the doctor's part and parts that are left" "$said"
tar -tzf "$bundle/results.tar.gz" | grep -q doctor.log || fail 'the packed results lack a log' "$said"

# A plugin that lies there is used where it was made of these sources, and named where it was not and cannot be made anew.
plugin=build/Release/libsimmim_cuda.so
cp "$emulated" "$plugin"
for made_of in these other; do
  status=0
  inside "$bundle/node/bin/node" scripts/build-native.mjs --fingerprint >"$plugin.sources"
  [ $made_of = these ] || echo of others >"$plugin.sources"
  said=$(inside "$bundle/run" build) || status=$?
  case $made_of in
    these) [ $status -eq 0 ] && grep -q '^ok    the plugin that is here was made of these sources' <<<"$said" || fail "with its plugin it ended with $status, expected 0" "$said" ;;
    other) [ $status -eq 3 ] && grep -q '^simmim: the CUDA plugin was made of other sources' <<<"$said" || fail "with another plugin it ended with $status, expected 3 and why" "$said" ;;
  esac
done
