#!/usr/bin/env bash
# Packs the package, installs the tarball in an empty folder as a user would, and runs the backend and the CLI there.
set -euo pipefail
cd "$(dirname "$0")/.."
npm run --silent build:ts
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tarball=$(npm pack --silent --pack-destination "$folder")
cd "$folder"
npm init -y >/dev/null
npm install --silent "./$tarball" @tensorflow/tfjs-core@4.22.0
cat >program.cjs <<'PROGRAM'
const tf = require('@tensorflow/tfjs-core');
require('simmim/backend');
tf.setBackend('simmim-cpu').then(() => {
  const y = tf.matMul(tf.tensor2d([[1, 2], [3, 4]]), tf.tensor2d([[1], [1]]));
  if (String(y.dataSync()) !== '3,7') throw new Error('wrong product ' + y.dataSync());
  console.log('require ok');
});
PROGRAM
node program.cjs
cat >program.mjs <<'PROGRAM'
import * as tf from '@tensorflow/tfjs-core';
import 'simmim/backend';
import { createEncoder, SimMIM } from 'simmim';
await tf.setBackend('simmim-cpu');
if (typeof createEncoder !== 'function' || typeof SimMIM !== 'function') throw new Error('exports are missing');
if (tf.grad((x) => tf.square(x))(tf.scalar(3)).dataSync()[0] !== 6) throw new Error('wrong gradient');
console.log('import ok');
PROGRAM
node program.mjs
npx simmim doctor
