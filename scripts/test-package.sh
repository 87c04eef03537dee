#!/usr/bin/env bash
# Packs the package and installs the tarball in an empty folder as users would, compiles against its types, then runs the backend
# and the CLI there: once from source, and once with a prebuilt binary on a machine where no compiler, make or CMake is to be found.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
npm run --silent build:ts
folder=$(mktemp -d)
trap 'rm -rf "$folder" "$root/prebuilds"' EXIT

write_programs() {
  cat >program.cjs <<'PROGRAM'
const tf = require('@tensorflow/tfjs-core');
require('simmim/backend');
tf.setBackend('simmim-cpu').then(() => {
  const y = tf.matMul(tf.tensor2d([[1, 2], [3, 4]]), tf.tensor2d([[1], [1]]));
  if (String(y.dataSync()) !== '3,7') throw new Error('wrong product ' + y.dataSync());
  console.log('require ok');
});
PROGRAM
  cat >program.mjs <<'PROGRAM'
import * as tf from '@tensorflow/tfjs-core';
import 'simmim/backend';
import { createEncoder, SimMIM } from 'simmim';
await tf.setBackend('simmim-cpu');
if (typeof createEncoder !== 'function' || typeof SimMIM !== 'function') throw new Error('exports are missing');
if (tf.grad((x) => tf.square(x))(tf.scalar(3)).dataSync()[0] !== 6) throw new Error('wrong gradient');
console.log('import ok');
PROGRAM
}

check_types() { # strict, against the package's own .d.ts as well; those of tfjs-core and its dependencies do not compile by themselves
  cat >types.mts <<'PROGRAM'
import * as tf from '@tensorflow/tfjs-core';
import 'simmim/backend';
import { createEncoder, SimMIM } from 'simmim';
import * as models from 'simmim/models';
import * as node from 'simmim/node';
import * as train from 'simmim/train';
// @ts-expect-error: were the types missing, any name would do
import { createEncoderr } from 'simmim';
const y: tf.Tensor = tf.matMul(tf.ones([2, 3]), tf.ones([3, 1]));
console.log(y, createEncoder, SimMIM, models, node, train);
PROGRAM
  npm install --silent --no-save --ignore-scripts @types/node@20.19.25
  local tsc=("$root/node_modules/.bin/tsc" --noEmit --strict --target es2022 --module nodenext --types node types.mts)
  "${tsc[@]}" --skipLibCheck
  "${tsc[@]}" >types.log 2>&1 || true
  if grep -E '^(types\.mts|node_modules/simmim/)' types.log; then
    echo 'the types do not compile' >&2
    return 1
  fi
  echo 'types ok'
}

install_and_run() { # install_and_run NAME: the tarball that packs now, in a folder of its own
  echo "== $1"
  mkdir "$folder/$1"
  local tarball
  tarball=$(npm pack --silent --pack-destination "$folder/$1")
  cd "$folder/$1"
  npm init -y >/dev/null
  npm install --silent "./$tarball" @tensorflow/tfjs-core@4.22.0
  write_programs
  node program.cjs
  node program.mjs
  npx simmim doctor
  cd "$root"
}

rm -rf prebuilds
install_and_run source
(cd "$folder/source"; check_types)

npm run --silent prebuilt >/dev/null 2>&1
mkdir "$folder/bin"
for tool in node npm npx sh bash env mktemp mkdir rm cat dirname uname sed ls; do
  found=$(command -v "$tool") && ln -s "$found" "$folder/bin/$tool"
done
PATH="$folder/bin" install_and_run prebuilt
if [ -d "$folder/prebuilt/node_modules/simmim/build" ]; then
  echo 'the prebuilt package compiled itself' >&2
  exit 1
fi
