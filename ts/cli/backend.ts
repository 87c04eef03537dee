import * as tf from '@tensorflow/tfjs-core';
import type { Command } from 'commander';
import { CPU_BACKEND, CUDA_BACKEND } from '../backend';
import { SimmimError } from '../errors';
import { inspectCuda } from '../native';
import { nearest } from '../train/recipe';

const BACKENDS = [CPU_BACKEND, CUDA_BACKEND, 'cpu'] as const;
/** What `--device` says for our backends. */
const DEVICES: Record<string, string> = { cpu: CPU_BACKEND, cuda: CUDA_BACKEND };

/** Gives every command that takes a `--backend` a `--device cpu|cuda` as well, which names ours. */
export function addDeviceOption(cli: Command): void {
  for (const command of cli.commands.filter(({ options }) => options.some(({ long }) => long === '--backend'))) {
    command.option('--device <name>', 'where to compute: cpu, or cuda for an NVIDIA GPU');
    command.hook('preAction', () => {
      const device = command.getOptionValue('device') as string | undefined;
      if (device === undefined) return;
      if (command.getOptionValueSource('backend') === 'cli') throw new SimmimError('invalid_argument', '--device', '--device and --backend exclude each other: both say where to compute');
      const backend = DEVICES[device];
      if (backend === undefined) throw new SimmimError('invalid_argument', '--device', `unknown device '${device}', expected ${Object.keys(DEVICES).join(' or ')}`);
      command.setOptionValue('backend', backend);
    });
  }
}

/**
 * Makes a tfjs backend the active one: `simmim-cpu` or `simmim-cuda` (ours), or `cpu` (tfjs's own, hundreds of times
 * slower, for comparison). Never falls back from one to the other; where there is no GPU, says why.
 */
export async function useBackend(name: string): Promise<void> {
  if (!(BACKENDS as readonly string[]).includes(name)) {
    const guess = nearest(name, BACKENDS);
    throw new SimmimError('invalid_argument', '--backend', `unknown backend '${name}'${guess ? `, did you mean '${guess}'?` : ''} (known: ${BACKENDS.join(', ')})`);
  }
  tf.enableProdMode(); // silences tfjs's advertisement for another backend
  if (name === 'cpu') await import('@tensorflow/tfjs-backend-cpu');
  if (name === CUDA_BACKEND) inspectCuda(); // throws the reason, which tfjs would only print
  await tf.setBackend(name);
  await tf.ready();
  if (tf.getBackend() !== name) throw new SimmimError('unsupported', '--backend', `'${name}' does not start on this machine: see 'simmim doctor'`);
}
