import pc from 'picocolors';
import { duration, isMasked, short, type ClassFigures, type UpdateRecord, type ValidationRecord } from '../train/metrics';
import type { Reporter } from '../train/trainer';

/** Shortest time between two redraws of the progress line. */
const REDRAW_MS = 100;

/** What the reporter writes to: process.stderr, or a stand-in. */
export interface Output {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** `epoch 3/100  step 120/4000  loss 0.5123  lr 0.00021  |g| 0.83  45.1 img/s  1.2 GiB  ETA 3 min 2 s`. */
export function progressLine(r: UpdateRecord, run: { updates: number; epochs: number; secondsLeft: number }): string {
  return [
    `epoch ${r.epoch + 1}/${run.epochs}`, `step ${r.step}/${run.updates}`, `loss ${short(r.loss)}`, `lr ${short(r.lr)}`, `|g| ${short(r.gradientNorm)}`,
    `${short(r.imagesPerSecond)} img/s`, `${(r.memory / 2 ** 30).toFixed(2)} GiB`, `ETA ${duration(run.secondsLeft)}`,
  ].join('  ');
}

/** `top-1 81.25 %, top-5 95.00 %, loss 0.7123 on 160 images`. */
export function classFigures({ loss, top1, top5, images, ema }: ClassFigures): string {
  const five = top5 === null ? '' : `, top-5 ${top5.toFixed(2)} %`;
  return `top-1 ${top1.toFixed(2)} %${five}, loss ${short(loss)} on ${images} images${ema ? ` (moving average: top-1 ${ema.top1.toFixed(2)} %, loss ${short(ema.loss)})` : ''}`;
}

/** One line that redraws itself on a terminal; elsewhere plain lines now and then. */
export class ConsoleReporter implements Reporter {
  private drawn = false;
  private lastDraw = 0;

  constructor(private readonly epochs: number, private readonly output: Output) {}

  update(record: UpdateRecord, run: { updates: number; secondsLeft: number; show: boolean }): void {
    const line = progressLine(record, { ...run, epochs: this.epochs });
    if (!this.output.isTTY) {
      if (run.show) this.output.write(`${line}\n`);
      return;
    }
    const now = Date.now();
    if (!run.show && now - this.lastDraw < REDRAW_MS) return;
    this.lastDraw = now;
    this.drawn = true;
    this.output.write(`\r${line.slice(0, Math.max(20, (this.output.columns ?? 120) - 1))}\x1b[K`);
  }

  validation(r: ValidationRecord): void {
    const what = isMasked(r) ? `masked loss ${short(r.loss)} on ${r.images} images (best constant per image: ${short(r.constantLoss)})` : classFigures(r);
    this.line(`validation after epoch ${r.epoch + 1}: ${what}`);
  }

  checkpoint(folder: string): void {
    this.line(pc.dim(`saved ${folder}`));
  }

  note(sentence: string): void {
    this.line(pc.yellow(sentence));
  }

  /** A line of its own; the progress line goes on below it. */
  line(text: string): void {
    if (this.drawn) this.output.write('\n');
    this.drawn = false;
    this.output.write(`${text}\n`);
  }
}

/** Counts to `total` on a terminal: `at(n)` redraws `WORD n/total` now and then, `end` wipes it. Silent elsewhere. */
export function counter(word: string, total: number, output: Output): { at(done: number): void; end(): void } {
  let last = 0;
  return {
    at: (done) => {
      const now = Date.now();
      if (!output.isTTY || now - last < REDRAW_MS) return;
      last = now;
      output.write(`\r${word} ${done}/${total}\x1b[K`);
    },
    end: () => void (output.isTTY && last > 0 && output.write('\r\x1b[K')),
  };
}
