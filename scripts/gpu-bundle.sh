#!/usr/bin/env bash
# Packs what a GPU host without network or Node needs to build, test and bench the CUDA plugin: Node with npm, the sources, the
# installed packages, the compiled addon, and the plugin where it was built here (npm run build:cuda).
#   scripts/gpu-bundle.sh [OUT.tar.gz]        then on the host: tar xzf OUT.tar.gz && simmim-gpu/run
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-simmim-gpu.tar.gz}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/simmim-gpu
mkdir -p "$root/source" "$root/node/bin" "$root/node/lib/node_modules"
cp "$(node -p process.execPath)" "$root/node/bin/node"
cp -R "$(npm root -g)/npm" "$root/node/lib/node_modules/npm"
for tool in npm npx; do ln -s "../lib/node_modules/npm/bin/$tool-cli.js" "$root/node/bin/$tool"; done
npm run --silent build:native
npm run --silent build:ts
git ls-files -z | tar -c --null -T - | tar -x -C "$root/source"
cp -R node_modules dist build "$root/source/"
rm -rf "$root/source/build/emulated" "$root/source/build/asan"
cat >"$root/run" <<'RUN'
#!/usr/bin/env bash
# Builds, tests and benches on this host's GPU; results in simmim-gpu/results. `run test`, `run sanitize`, `run bench`: one part.
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/node/bin:$PATH"
exec bash "$here/source/scripts/gpu-run.sh" "$here/results" "$@"
RUN
chmod +x "$root/run"
tar -C "$stage" -czf "$out" simmim-gpu
echo "$out: $(du -h "$out" | cut -f1)"
