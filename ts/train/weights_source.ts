import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { inferConfig, readWeights, type KnownSizes, type ModelConfig, type Weights } from '../models';
import { AVERAGE, checkpointsFolder, latestCheckpoint, openCheckpoint, type Checkpoint } from './checkpoint';

/** Weights with their architecture, and the checkpoint they are from where they are a run's. */
export interface FoundWeights extends Weights {
  config: ModelConfig;
  /** The file or folder that was read. */
  path: string;
  checkpoint: Checkpoint | null;
}

export interface WeightsSourceOptions {
  /** Sizes that a bare file of weights does not tell. */
  known?: KnownSizes;
  /** The moving average of the weights instead of themselves. Default false. */
  ema?: boolean;
  /** Told of damaged checkpoints that were passed over. */
  note?: (sentence: string) => void;
}

const OP = 'weights';

/**
 * The weights of a run (its newest complete checkpoint), of one checkpoint, or of anything else that `readWeights` reads.
 * Throws `not_found` for a run without checkpoints or a path that is not there; `unsupported`, naming what must be said, where
 * the sizes of the model are open.
 */
export function findWeights(source: string, { known = {}, ema = false, note = () => undefined }: WeightsSourceOptions = {}): FoundWeights {
  const checkpoint = checkpointOf(source, note);
  const path = checkpoint?.folder ?? source;
  if (ema && !checkpoint?.state.files[AVERAGE]) throw new SimmimError('not_found', OP, `'${source}' holds no moving average of the weights: it is kept where optimizer.ema is set`);
  const weights = readWeights(path, known, ema ? AVERAGE : undefined);
  return { ...weights, config: weights.config ?? inferConfig(weights.state, known), path, checkpoint };
}

function checkpointOf(source: string, note: (sentence: string) => void): Checkpoint | null {
  if (existsSync(checkpointsFolder(source))) {
    const latest = latestCheckpoint(checkpointsFolder(source), note);
    if (!latest) throw new SimmimError('not_found', OP, `the run '${source}' holds no complete checkpoint`);
    return latest;
  }
  return existsSync(join(source, 'state.json')) ? openCheckpoint(source) : null;
}
