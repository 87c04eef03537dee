import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';

/**
 * Argument checks shared by every op. They run before any kernel, on every backend, so a wrong shape
 * is reported in the caller's terms: `window_attention: table has shape [121, 4], expected [169, 4] = ...`.
 */

/** Throws `op: message` with code `invalid_argument`. */
export function refuse(op: string, message: string): never {
  throw new SimmimError('invalid_argument', op, message);
}

/** `[2, 3]`. */
export function shapeText(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** A tensor that is not disposed, of the dtype (default float32). */
export function requireTensor(op: string, name: string, value: unknown, dtype: tf.DataType = 'float32'): void {
  if (!(value instanceof tf.Tensor)) refuse(op, `${name} is ${describe(value)}, expected a ${dtype} tensor`);
  if (value.isDisposed) throw new SimmimError('disposed', op, `${name} was disposed`);
  if (value.dtype !== dtype) refuse(op, `${name} has dtype ${value.dtype}, expected ${dtype}`);
}

/** A float32 tensor of as many dimensions as `letters` names, e.g. `[B, H, W, 3C]`. */
export function requireRank(op: string, name: string, value: tf.Tensor, letters: string): void {
  requireTensor(op, name, value);
  const rank = letters.split(',').length;
  if (value.rank !== rank) refuse(op, `${name} has shape ${shapeText(value.shape)}, expected ${rank} dimensions ${letters}`);
}

/** A tensor of exactly `shape`; `why` says where the expectation comes from. */
export function requireShape(
  op: string,
  name: string,
  value: tf.Tensor,
  shape: readonly number[],
  why: string,
  dtype: tf.DataType = 'float32',
): void {
  requireTensor(op, name, value, dtype);
  if (value.rank !== shape.length || value.shape.some((size, axis) => size !== shape[axis])) {
    refuse(op, `${name} has shape ${shapeText(value.shape)}, expected ${shapeText(shape)} = ${why}`);
  }
}

/** A finite number in [low, high]. */
export function requireNumber(op: string, name: string, value: unknown, low: number, high: number): void {
  if (typeof value !== 'number' || !(value >= low && value <= high)) {
    const range = high === Infinity ? `at least ${low}` : low === -Infinity ? `at most ${high}` : `in [${low}, ${high}]`;
    refuse(op, `${name} is ${describe(value)}, expected a number ${range}`);
  }
  if (!Number.isFinite(value)) refuse(op, `${name} is ${value}, expected a finite number`);
}

/** An integer in [low, high]. */
export function requireInteger(op: string, name: string, value: unknown, low: number, high = Infinity): void {
  if (!Number.isSafeInteger(value) || (value as number) < low || (value as number) > high) {
    const range = high === Infinity ? `of at least ${low}` : `in [${low}, ${high}]`;
    refuse(op, `${name} is ${describe(value)}, expected an integer ${range}`);
  }
}

/** `value` is a whole multiple of `divisor`; `why` says what is cut into what. */
export function requireMultiple(op: string, name: string, value: number, divisor: number, why: string): void {
  if (value % divisor !== 0) refuse(op, `${name} is ${value}, expected a multiple of ${divisor}: ${why}`);
}

/** The clock of the random ops: int32 [4] = seed, step, micro-step, 0. */
export function requireClock(op: string, clock: tf.Tensor): void {
  requireShape(op, 'clock', clock, [4], 'seed, step, micro-step, 0', 'int32');
}

function describe(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (Array.isArray(value)) return shapeText(value as number[]);
  if (value !== null && typeof value === 'object') return `an object (${value.constructor?.name ?? 'no class'})`;
  return String(value);
}
