import * as tf from '@tensorflow/tfjs-core';
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { SimmimError } from '../errors';

// TensorBoard's event files: a TFRecord file (length, masked CRC-32C of it, data, masked CRC-32C of that) of Event
// messages (tensorflow/core/util/event.proto, summary.proto). Only the fields written here are encoded.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});
function maskedCrc(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) c = (CRC_TABLE[(c ^ byte) & 255] as number) ^ (c >>> 8);
  c = ~c >>> 0;
  return (((c >>> 15) | (c << 17)) + 0xa282ead8) >>> 0;
}

const uint32 = (v: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(v);
  return b;
};
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let v = BigInt(Math.trunc(value));
  if (v < 0n) v += 1n << 64n;
  do {
    bytes.push(Number(v & 127n) | (v > 127n ? 128 : 0));
    v >>= 7n;
  } while (v > 0n);
  return Buffer.from(bytes);
}
const tag = (field: number, wire: number): Buffer => varint(field * 8 + wire);
const bytesField = (field: number, data: Uint8Array): Buffer => Buffer.concat([tag(field, 2), varint(data.length), data]);
const doubles = (values: number[]): Buffer => Buffer.from(Float64Array.from(values).buffer);
const doubleField = (field: number, v: number): Buffer => Buffer.concat([tag(field, 1), doubles([v])]);
const floatField = (field: number, v: number): Buffer => Buffer.concat([tag(field, 5), Buffer.from(Float32Array.of(v).buffer)]);

function event(step: number | undefined, body: Buffer): Buffer {
  const parts = [doubleField(1, Date.now() / 1000)];
  if (step !== undefined) parts.push(tag(2, 0), varint(step));
  return Buffer.concat([...parts, body]);
}

/** HistogramProto of values over equal buckets. */
function histogramProto(values: ArrayLike<number>, buckets: number): Buffer {
  let [low, high, sum, squares] = [Infinity, -Infinity, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const v = values[i] as number;
    low = Math.min(low, v);
    high = Math.max(high, v);
    sum += v;
    squares += v * v;
  }
  const bins = high > low ? buckets : 1; // equal values: one bucket from the value to itself
  const width = (high - low) / bins || 1;
  const counts = new Array<number>(bins).fill(0);
  for (let i = 0; i < values.length; i++) {
    const at = Math.min(bins - 1, Math.floor(((values[i] as number) - low) / width));
    counts[at] = (counts[at] ?? 0) + 1;
  }
  const limits = bins === 1 ? [high] : counts.map((_, i) => low + width * (i + 1));
  return Buffer.concat([doubleField(1, low), doubleField(2, high), doubleField(3, values.length), doubleField(4, sum), doubleField(5, squares), bytesField(6, doubles(limits)), bytesField(7, doubles(counts))]);
}

/** SessionLog.START of event.proto. */
const SESSION_START = 1;

const open = new Map<string, SummaryFileWriter>();

/** Writes scalars and histograms to an event file in a folder, which TensorBoard reads. */
export class SummaryFileWriter {
  private file: number | undefined;

  constructor(readonly logdir: string, suffix = '') {
    mkdirSync(logdir, { recursive: true });
    this.file = openSync(join(logdir, `events.out.tfevents.${Math.floor(Date.now() / 1000)}.${hostname()}.${process.pid}${suffix}`), 'a');
    this.write(event(undefined, bytesField(3, Buffer.from('brain.Event:2'))));
  }

  private write(message: Buffer): void {
    if (this.file === undefined) return;
    const length = Buffer.concat([uint32(message.length), uint32(0)]);
    writeSync(this.file, Buffer.concat([length, uint32(maskedCrc(length)), message, uint32(maskedCrc(message))]));
  }
  private value(name: string, step: number, body: Buffer): void {
    this.write(event(step, bytesField(5, bytesField(1, Buffer.concat([bytesField(1, Buffer.from(name)), body])))));
  }

  /** One value of a curve. */
  scalar(name: string, value: tf.Scalar | number, step: number): void {
    this.value(name, step, floatField(2, typeof value === 'number' ? value : (value.dataSync()[0] as number)));
  }
  /** The distribution of a tensor's values, in `buckets` (default 30) equal ranges. */
  histogram(name: string, data: tf.Tensor, step: number, buckets = 30): void {
    if (data.size > 0) this.value(name, step, bytesField(5, histogramProto(data.dataSync(), buckets)));
  }
  /** Tells TensorBoard that a run goes on from `step`: what earlier files of the folder hold from there on is taken back. */
  restart(step: number): void {
    this.write(event(step, bytesField(7, Buffer.concat([tag(1, 0), varint(SESSION_START)]))));
  }
  /** Values are written as they come; there is nothing to flush. */
  flush(): void {}
  close(): void {
    if (this.file !== undefined) closeSync(this.file);
    this.file = undefined;
    for (const [key, writer] of open) if (writer === this) open.delete(key);
  }
}

/**
 * The writer of TensorBoard event files in `logdir`: a folder has one in this process, until it is closed, so that
 * several runs of `model.fit` continue one file. The queue arguments of tfjs-node are accepted and need nothing.
 */
export function summaryFileWriter(logdir: string, _maxQueue?: number, _flushMillis?: number, filenameSuffix = ''): SummaryFileWriter {
  if (logdir === '') throw new SimmimError('invalid_argument', 'summaryFileWriter', 'logdir is an empty string, expected a folder');
  const key = `${resolve(logdir)}\0${filenameSuffix}`;
  const writer = open.get(key) ?? new SummaryFileWriter(logdir, filenameSuffix);
  open.set(key, writer);
  return writer;
}
