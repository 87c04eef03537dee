#!/usr/bin/env bash
# Packs what a GPU host without network or Node needs to build, test and bench the CUDA plugin: Node with npm, the sources, the
# installed packages, the compiled addon, the plugin where nvcc is found here, and the official models that SIMMIM_OFFICIAL names.
#   scripts/gpu-bundle.sh [OUT.tar.gz]        then on the host: tar xzf OUT.tar.gz && simmim-gpu/run
#   scripts/gpu-bundle.sh --folder DIR        the same as a folder, DIR/simmim-gpu
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --folder ]; then
  stage=${2:?a folder is needed}
  out=
else
  out=${1:-simmim-gpu.tar.gz}
  stage=$(mktemp -d)
  trap 'rm -rf "$stage"' EXIT
fi
root=$stage/simmim-gpu
mkdir -p "$root/source" "$root/node/bin" "$root/node/lib/node_modules"
cp "$(node -p process.execPath)" "$root/node/bin/node"
cp -R "$(npm root -g)/npm" "$root/node/lib/node_modules/npm"
for tool in npm npx; do ln -s "../lib/node_modules/npm/bin/$tool-cli.js" "$root/node/bin/$tool"; done
npm run --silent build:native
npm run --silent build:ts
if [ -z "${SIMMIM_BUNDLE_AS_IS:-}" ] && command -v nvcc >/dev/null; then npm run --silent build:cuda; fi # as is: the plugin only where it was built before
git ls-files -z | tar -c --null -T - | tar -x -C "$root/source"
cp -R node_modules dist build "$root/source/"
rm -rf "$root/source/build/emulated" "$root/source/build/asan"
[ -z "${SIMMIM_OFFICIAL:-}" ] || cp -R "$SIMMIM_OFFICIAL" "$root/official"
cat >"$root/run" <<'RUN'
#!/usr/bin/env bash
# Builds, tests and benches on this host's GPU; results in simmim-gpu/results. `run test`, `run sanitize`, `run bench`: one part.
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/node/bin:$PATH"
[ ! -d "$here/official" ] || export SIMMIM_OFFICIAL="${SIMMIM_OFFICIAL:-$here/official}"
exec bash "$here/source/scripts/gpu-run.sh" "$here/results" "$@"
RUN
chmod +x "$root/run"
[ -n "$out" ] || exit 0
tar -C "$stage" -czf "$out" simmim-gpu
echo "$out: $(du -h "$out" | cut -f1)"
