import { expect, test } from 'vitest';
import { ConsoleReporter, progressLine } from '../../ts/cli/progress';
import { duration, short, type UpdateRecord } from '../../ts/train/metrics';

const record: UpdateRecord = { kind: 'update', step: 120, epoch: 2, loss: 0.51234, lr: 2.1e-4, gradientNorm: 0.834, imagesPerSecond: 45.12, dataSeconds: 0, memory: 1.25 * 2 ** 30 };
const run = { updates: 4000, secondsLeft: 183 };

test('the line says epoch, step, loss, rate, gradient norm, speed, memory and time left', () => {
  expect(progressLine(record, { ...run, epochs: 100 })).toBe('epoch 3/100  step 120/4000  loss 0.5123  lr 2.10e-4  |g| 0.834  45.12 img/s  1.25 GiB  ETA 3 min 3 s');
});

/** What a reporter writes to a terminal or to a file. */
function written(isTTY: boolean): string {
  let text = '';
  const reporter = new ConsoleReporter(100, { isTTY, columns: 60, write: (s) => (text += s) });
  reporter.update(record, { ...run, show: true });
  reporter.update({ ...record, step: 121 }, { ...run, show: false });
  reporter.checkpoint('runs/x');
  return text;
}

test('plain lines where there is no terminal, one that redraws itself where there is', () => {
  const plain = written(false);
  expect(plain.split('\n').filter((l) => l.startsWith('epoch'))).toHaveLength(1);
  expect(plain).not.toContain('\r');
  const drawn = written(true);
  expect(drawn.startsWith('\repoch 3/100')).toBe(true);
  expect(drawn.split('\n')[0]?.replace('\r', '').replace('\x1b[K', '').length).toBe(59);
});

test('numbers and durations are short', () => {
  expect([4.4, 125, 3600 * 3.5, 86400 * 2 + 3600 * 4, Infinity].map(duration)).toEqual(['4 s', '2 min 5 s', '3 h 30 min', '2 d 4 h', '?']);
  expect([0.51234, 123456, 1e-5, NaN].map(short)).toEqual(['0.5123', '1.23e+5', '1.00e-5', 'NaN']);
});
