// Runs tfjs-core's own jasmine specs (they ship in the npm package, under dist/) against a backend of this package.
//   node test/conformance/run.cjs [--backend NAME] [--module FILE] [--grep REGEX] [--show N]
// Prints every failure (at most N, 20) and, last, one JSON line {run, passed, failed, skipped}; exits 1 when something failed.
//
// The specs are ES modules with extensionless imports in a package that is not a module, which Node refuses; require() is
// taught to compile such files with esbuild. The backend sees tfjs-core's CommonJS bundle, as a user's program does; both
// copies of core share one engine.
'use strict';
const { readFileSync } = require('node:fs');
const Module = require('node:module');
const path = require('node:path');

const root = path.resolve(__dirname, '../..');
const args = process.argv.slice(2);
const option = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise);
const backend = option('--backend', 'simmim-cpu');
const only = new RegExp(option('--grep', ''));
const show = Number(option('--show', 20));

const coreDist = path.join(path.dirname(require.resolve('@tensorflow/tfjs-core/package.json', { paths: [root] })), 'dist');

/** Spies replace functions of module namespaces, so exports must stay writable as TypeScript's own output has them. */
function compile(source, file) {
  const { code } = require('esbuild').transformSync(source, { loader: 'js', format: 'cjs', target: 'node20', sourcefile: file });
  const writable = 'configurable: true, set: (v) => __defProp(TARGET, NAME, { value: v, writable: true, enumerable: true, configurable: true })';
  return code
    .replace('{ get: all[name], enumerable: true }', `{ get: all[name], enumerable: true, ${writable.replace('TARGET', 'target').replace('NAME', 'name')} }`)
    .replace('{ get: () => from[key],', `{ get: () => from[key], ${writable.replace('TARGET', 'to').replace('NAME', 'key')},`);
}

const load = Module._extensions['.js'];
Module._extensions['.js'] = (module, file) => {
  if (!file.startsWith(coreDist) || file.endsWith('.node.js')) return load(module, file);
  const source = readFileSync(file, 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, '');
  return /^\s*(import|export)\b/m.test(source) ? module._compile(compile(source, file), file) : load(module, file);
};

async function main() {
  const Jasmine = require('jasmine');
  const jasmine = new Jasmine();
  jasmine.loadConfig({ spec_files: [], random: false });
  jasmine.exitOnCompletion = false;
  jasmine.clearReporters();
  const count = { run: 0, passed: 0, failed: 0, skipped: 0 };
  const failures = [];
  jasmine.addReporter({
    specDone(spec) {
      if (spec.status === 'excluded') return;
      if (spec.status === 'pending') count.skipped++;
      else count.run++;
      if (spec.status === 'passed') count.passed++;
      if (spec.status === 'failed') {
        count.failed++;
        failures.push(`${spec.fullName}: ${spec.failedExpectations[0]?.message.split('\n')[0]}`);
      }
    },
    suiteDone(suite) {
      for (const failure of suite.failedExpectations) failures.push(`${suite.fullName}: ${failure.message}`), count.failed++;
    },
  });
  require(path.resolve(root, option('--module', 'dist/backend/index.js')));
  require(path.join(coreDist, 'public/chained_ops/register_all_chained_ops.js'));
  require(path.join(coreDist, 'register_all_gradients.js'));
  require(path.join(coreDist, 'jasmine_util.js')).setTestEnvs([{ name: backend, backendName: backend, flags: {}, isDataSync: true }]);
  jasmine.env.configure({ specFilter: (spec) => only.test(spec.getFullName()) });
  require(path.join(coreDist, 'tests.js'));
  globalThis.jasmine.DEFAULT_TIMEOUT_INTERVAL = 30_000;
  const { warn } = console;
  console.warn = console.log = () => {};
  await jasmine.execute();
  console.warn = warn;
  for (const failure of failures.slice(0, show)) process.stdout.write(`FAIL ${failure}\n`);
  process.stdout.write(`${JSON.stringify(count)}\n`);
  process.exit(count.failed > 0 ? 1 : 0);
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(2);
});
