#!/usr/bin/env bash
# Packs what a GPU host without network or Node needs to build, test and bench the CUDA plugin: Node, the sources, the installed
# packages but for what only editors and browsers read, the compiled addon, the plugin where nvcc is found here, and the official
# models that SIMMIM_OFFICIAL names.
#   scripts/gpu-bundle.sh [OUT.tar.xz]        then on the host: tar xf OUT.tar.xz && simmim-gpu/run
#   scripts/gpu-bundle.sh --folder DIR        the same as a folder, DIR/simmim-gpu
# SIMMIM_BUNDLE_AS_IS=1 takes what was built before and builds nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --folder ]; then
  stage=${2:?a folder is needed}
  out=
else
  out=${1:-simmim-gpu.tar.xz}
  stage=$(mktemp -d)
  trap 'rm -rf "$stage"' EXIT
fi
root=$stage/simmim-gpu
mkdir -p "$root/source" "$root/node/bin"
cp "$(node -p process.execPath)" "$root/node/bin/node"
if [ -z "${SIMMIM_BUNDLE_AS_IS:-}" ]; then
  npm run --silent build:native
  npm run --silent build:ts
  if command -v nvcc >/dev/null; then npm run --silent build:cuda; fi
fi
not_read=(--exclude='*.map' --exclude='*.d.ts' --exclude='*.d.cts' --exclude='*.d.mts' --exclude='*.min.js' --exclude='*.fesm.js' --exclude='*.es2017.js')
for package in .cache @types @typescript typescript cmake-js node-gyp prebuildify 'lightningcss-*' why-is-node-running; do not_read+=(--exclude="node_modules/$package"); done
{ git ls-files -z --cached --others --exclude-standard; printf '%s\0' node_modules dist build/Release; } | tar -c "${not_read[@]}" --null -T - | tar -x -C "$root/source"
[ -z "${SIMMIM_OFFICIAL:-}" ] || { mkdir -p "$root/official" && tar -C "$SIMMIM_OFFICIAL" --exclude=.git --exclude='*.png' -c . | tar -x -C "$root/official"; }
cat >"$root/run" <<'RUN'
#!/usr/bin/env bash
# Builds, tests and benches on this host's GPU; results in simmim-gpu/results (or SIMMIM_RESULTS) and packed beside it. `run test`, `run sanitize`, `run bench`: one part.
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/node/bin:$PATH"
[ ! -d "$here/official" ] || export SIMMIM_OFFICIAL="${SIMMIM_OFFICIAL:-$here/official}"
exec bash "$here/source/scripts/gpu-run.sh" "${SIMMIM_RESULTS:-$here/results}" "$@"
RUN
chmod +x "$root/run"
[ -n "$out" ] || exit 0
tar -C "$stage" -caf "$out" simmim-gpu
echo "$out: $(du -h "$out" | cut -f1)"
