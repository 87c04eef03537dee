import type { LayersModule } from './installed';

type Logs = Record<string, number> | undefined;

const registered = new WeakSet<object>();

/** One line per epoch on stderr for `model.fit` with verbose 1, redrawn while the epoch runs when stderr is a terminal. */
export const ProgressBar = {
  register(layers: LayersModule): void {
    if (registered.has(layers)) return;
    registered.add(layers);
    class EpochLogger extends layers.CustomCallback {
      params: { epochs?: number } = {};
      constructor() {
        let started = 0;
        let batches = 0;
        const perStep = (ms: number): string => `${ms.toFixed(0)}ms ${((1000 * ms) / Math.max(1, batches)).toFixed(0)}us/step`;
        const figures = (logs: Logs): string => Object.entries(logs ?? {}).filter(([key]) => key !== 'batch' && key !== 'size').map(([key, v]) => `${key}=${Number(v).toPrecision(4)}`).join(' ');
        super({
          onEpochBegin: async (epoch: number) => {
            started = Date.now();
            batches = 0;
            process.stderr.write(`Epoch ${epoch + 1}${this.params.epochs === undefined ? '' : ` / ${this.params.epochs}`}\n`);
          },
          onBatchEnd: async (_batch: number, logs: Logs) => {
            batches++;
            if (process.stderr.isTTY) process.stderr.write(`\r  batch ${batches} ${figures(logs)}   `);
          },
          onEpochEnd: async (_epoch: number, logs: Logs) => {
            process.stderr.write(`${process.stderr.isTTY ? '\r' : ''}  ${perStep(Date.now() - started)} - ${figures(logs)}\n`);
          },
        });
      }
    }
    layers.registerCallbackConstructor(1, EpochLogger);
  },
};
