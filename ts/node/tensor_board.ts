import type * as tf from '@tensorflow/tfjs-core';
import { join } from 'node:path';
import { SimmimError } from '../errors';
import { type FitCallback, type Logs, findLayers } from './installed';
import { type SummaryFileWriter, summaryFileWriter } from './summary';

export interface TensorBoardOptions {
  /** When losses and metrics are written: after every epoch (default), or after every batch as well. */
  updateFreq?: 'batch' | 'epoch';
  /** Every so many epochs (default 0: never) the weights are written as histograms. Needs tfjs-layers. */
  histogramFreq?: number;
}

/** What is needed of a layers model. */
interface Model {
  weights: { name: string; read(): tf.Tensor }[];
}

function checked({ updateFreq = 'epoch', histogramFreq = 0 }: TensorBoardOptions): Required<TensorBoardOptions> {
  if (updateFreq !== 'batch' && updateFreq !== 'epoch') throw new SimmimError('invalid_argument', 'tensorBoard', `updateFreq is ${String(updateFreq)}. Expected updateFreq to be 'batch' or 'epoch'`);
  if (!Number.isInteger(histogramFreq) || histogramFreq < 0) throw new SimmimError('invalid_argument', 'tensorBoard', `histogramFreq is ${histogramFreq}. Expected histogramFreq to be an integer >= 0`);
  return { updateFreq, histogramFreq };
}

/** Writes the logs of training to `<logDir>/train`, those of validation to `<logDir>/val`; steps count from 1, as tfjs-node's do. */
class TensorBoardLog {
  private batches = 0;
  private readonly options: Required<TensorBoardOptions>;
  model: Model | undefined;

  constructor(private readonly logDir: string, options: TensorBoardOptions) {
    this.options = checked(options);
  }

  private writer(folder: 'train' | 'val'): SummaryFileWriter {
    return summaryFileWriter(join(this.logDir, folder));
  }

  private log(prefix: string, logs: Logs, step: number): void {
    for (const [key, value] of Object.entries(logs ?? {})) {
      if (key === 'batch' || key === 'size' || key === 'num_steps') continue;
      if (key.startsWith('val_')) this.writer('val').scalar(prefix + key.slice('val_'.length), value, step);
      else this.writer('train').scalar(prefix + key, value, step);
    }
  }

  callbacks(): FitCallback {
    return {
      onBatchEnd: async (_batch, logs) => {
        this.batches++;
        if (this.options.updateFreq === 'batch') this.log('batch_', logs, this.batches);
      },
      onEpochEnd: async (epoch, logs) => {
        this.log('epoch_', logs, epoch + 1);
        const { histogramFreq } = this.options;
        if (histogramFreq > 0 && epoch % histogramFreq === 0) for (const weight of this.model?.weights ?? []) this.writer('train').histogram(weight.name, weight.read(), epoch);
      },
      onTrainEnd: async () => {
        this.writer('train').flush();
      },
    };
  }
}

/** Callbacks for `model.fit` that write losses, metrics and, if asked for, histograms of the weights for TensorBoard. */
export function tensorBoard(logDir = './logs', options: TensorBoardOptions = {}): FitCallback {
  const log = new TensorBoardLog(logDir, options);
  const layers = findLayers();
  if (!layers) {
    if (options.histogramFreq) throw new SimmimError('unsupported', 'tensorBoard', 'histogramFreq needs @tensorflow/tfjs-layers, which is not installed');
    return log.callbacks();
  }
  // Only a callback of tfjs-layers' own class is told of the model.
  class ModelCallback extends layers.CustomCallback {
    setModel(model: Model): void {
      log.model = model;
    }
  }
  return new ModelCallback(log.callbacks());
}
