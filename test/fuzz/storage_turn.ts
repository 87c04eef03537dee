import type { HostArray } from '../../ts/native';
import { BYTES } from './calls';
import { attempt, difference, expectSame, Finding, type Session } from './session';

const BF16 = 3;

/** What a storage should hold; those of views lie in the memory of their parents. */
interface Model {
  handle: number;
  dtype: number;
  bytes: Uint8Array<ArrayBuffer>;
}

interface Turn {
  session: Session;
  live: Model[];
  stale: number[];
  /** Reads that are under way, with what they should give. */
  reads: { what: string; values: Promise<ArrayBuffer>; expected: Uint8Array }[];
  writes: Promise<void>[];
}

/** A dozen calls on storages, right and wrong ones, against a model of what they hold. */
export async function storageTurn(session: Session): Promise<void> {
  const { addon, draw } = session;
  addon.join();
  const before = addon.stats();
  const turn: Turn = { session, live: [], stale: [], reads: [], writes: [] };
  for (let n = 0; n < 12; n++) draw.pick(STEPS)(turn);
  await Promise.all(turn.writes);
  for (const { what, values, expected } of turn.reads) {
    if (difference(new Uint8Array(await values), expected) >= 0) throw new Finding(`${what}: gave other bytes than were there`);
  }
  for (const model of turn.live) {
    checkContent(session, model);
    addon.release(model.handle);
  }
  expectSame(session, () => 'storage calls', before);
}

function checkContent({ addon }: Session, { handle, bytes }: Model): void {
  const seen = new Uint8Array(bytes.length);
  addon.readInto(handle, seen);
  const at = difference(seen, bytes);
  if (at >= 0) throw new Finding(`storage of ${bytes.length} bytes: byte ${at} is ${seen[at]}, expected ${bytes[at]}`);
}

/** An array over memory of its own that may be shared and need not be aligned. */
function hostArray({ draw }: Session, length: number): { array: HostArray; bytes: Uint8Array } {
  const bytes = draw.bytes(length);
  const offset = draw.pick([0, 0, 8, 1, 3]);
  const buffer = (draw.chance(0.3) ? new SharedArrayBuffer(offset + length) : new ArrayBuffer(offset + length)) as ArrayBuffer;
  new Uint8Array(buffer).set(bytes, offset);
  const Words = draw.pick([Float32Array, Int32Array]);
  const array = offset % 4 === 0 && length % 4 === 0 && draw.chance(0.6) ? new Words(buffer, offset, length / 4) : new Uint8Array(buffer, offset, length);
  return { array, bytes };
}

/** Hands the memory of an array to another one that nobody keeps. */
function detach(array: HostArray): void {
  if (array.buffer instanceof ArrayBuffer) structuredClone(array.buffer, { transfer: [array.buffer] });
  globalThis.gc?.();
}

/** A call whose outcome the model knows; returns its result when it has one. */
function call<T>({ session }: Turn, right: boolean, what: string, action: () => T): T | undefined {
  const answer = attempt(session, () => what, action);
  if ('error' in answer) {
    if (right) throw new Finding(`${what}: a right call is refused: ${answer.error.message}`);
    return undefined;
  }
  if (!right) throw new Finding(`${what}: is not refused`);
  return answer.result;
}

const someSize = ({ session: { draw } }: Turn): number => draw.pick([0, 1, 2, 3, 5, 16, 17, 64, 100, 1000, 70000]);

function upload(turn: Turn): void {
  const { addon, draw } = turn.session;
  const dtype = draw.below(BYTES.length);
  const count = someSize(turn);
  const { array, bytes: given } = hostArray(turn.session, draw.chance(0.5) ? count * (BYTES[dtype] as number) : someSize(turn));
  const handle = call(turn, true, `upload of ${given.length} bytes as ${count} values of dtype ${dtype}`, () => addon.upload(dtype, array, count));
  if (draw.chance(0.3)) detach(array);
  const bytes = new Uint8Array(count * (BYTES[dtype] as number));
  bytes.set(given.subarray(0, bytes.length));
  turn.live.push({ handle: handle as number, dtype, bytes });
}

function some(turn: Turn): Model {
  if (turn.live.length === 0) upload(turn);
  return turn.session.draw.pick(turn.live);
}

/** An offset that fits or nearly does. */
function someOffset({ session: { draw } }: Turn, room: number): number {
  return Math.max(0, draw.pick([0, 0, room, room + 1, draw.below(room + 1), room - 1]));
}

function write(turn: Turn): void {
  const { addon, draw } = turn.session;
  const { handle, bytes } = some(turn);
  const { array, bytes: given } = hostArray(turn.session, draw.pick([bytes.length, draw.below(bytes.length + 2), someSize(turn)]));
  const offset = someOffset(turn, bytes.length - given.length);
  const right = offset + given.length <= bytes.length;
  const later = draw.chance(0.5);
  const what = `${later ? 'writeLater' : 'writeInto'} of ${given.length} bytes at ${offset} of ${bytes.length}`;
  const written = call(turn, right, what, () => (later ? addon.writeLater(handle, array, offset) : addon.writeInto(handle, array, offset)));
  if (written instanceof Promise) turn.writes.push(written);
  if (right) bytes.set(given, offset);
  if (draw.chance(0.3)) detach(array);
}

function read(turn: Turn): void {
  const { addon, draw } = turn.session;
  const { handle, dtype, bytes } = some(turn);
  const length = draw.pick([bytes.length, bytes.length + 1, draw.below(bytes.length + 2)]);
  const right = length <= bytes.length;
  const what = `reading ${length} of ${bytes.length} bytes`;
  const { array } = hostArray(turn.session, length);
  if (dtype === BF16 && array instanceof Float32Array) return; // widened: test/ops/in_storage.test.ts
  call(turn, right, what, () => addon.readInto(handle, array));
  if (right && difference(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), bytes.subarray(0, length)) >= 0) throw new Finding(`${what}: gave other bytes than were there`);
}

function readLater(turn: Turn): void {
  const { addon, draw } = turn.session;
  const { handle, dtype, bytes } = some(turn);
  const size = BYTES[dtype] as number;
  const most = Math.floor(bytes.length / size);
  const count = draw.pick([most, most + 1, draw.below(most + 2)]);
  const what = `reading ${count} of ${most} values of dtype ${dtype} later`;
  const values = call(turn, count <= most, what, () => addon.readLater(handle, count));
  const expected = bytes.slice(0, count * size);
  if (values) turn.reads.push({ what, values, expected: dtype === BF16 ? widened(expected) : expected });
}

/** bf16 values as f32: zeros below them. */
const widened = (bytes: Uint8Array): Uint8Array => new Uint8Array(Uint32Array.from({ length: bytes.length / 2 }, (_, i) => (((bytes[2 * i + 1] as number) << 24) | ((bytes[2 * i] as number) << 16)) >>> 0).buffer);

/** Work for as long as some calls take; where it is queued, they wait behind it. Its memory is given back meanwhile. */
function work({ session: { addon, kernels, numbers, words } }: Turn): void {
  words.set([0, 0, 1, 1 << 20]);
  numbers[0] = 1;
  addon.call(kernels.findIndex(({ name }) => name === 'fill'));
  addon.release(words[0] as number);
}

function view(turn: Turn): void {
  const { addon, draw } = turn.session;
  const { handle, bytes } = some(turn);
  const length = draw.pick([bytes.length, draw.below(bytes.length + 2)]);
  const offset = someOffset(turn, bytes.length - length);
  const dtype = draw.below(BYTES.length);
  const made = call(turn, offset + length <= bytes.length, `view of ${length} bytes at ${offset} of ${bytes.length}`, () => addon.view(handle, offset, length, dtype));
  if (made !== undefined) turn.live.push({ handle: made, dtype, bytes: bytes.subarray(offset, offset + length) });
}

function release(turn: Turn): void {
  const model = some(turn);
  turn.live.splice(turn.live.indexOf(model), 1);
  if (!turn.session.addon.release(model.handle)) throw new Finding('release: a live handle is said to be stale');
  turn.stale.push(model.handle);
}

/** As release, through the array that the next call begins with; what else it names is stale or was never a handle. */
function releaseByMail(turn: Turn): void {
  const { addon, draw, released } = turn.session;
  const model = some(turn);
  turn.live.splice(turn.live.indexOf(model), 1);
  turn.stale.push(model.handle);
  for (let i = 1; i < released.length; i++) released[i] = draw.pick([0, -1, 2 ** 31 - 1, draw.pick(turn.stale)]);
  released[1 + draw.below(released.length - 1)] = model.handle;
  released[0] = draw.pick([released.length - 1, released.length, 2 ** 31 - 1]);
  addon.busy();
  if (addon.release(model.handle)) throw new Finding('a handle that was named in `released` is still live');
  released[0] = draw.pick([0, -1, -(2 ** 31)]);
}

function useStale(turn: Turn): void {
  const { addon, draw } = turn.session;
  if (turn.stale.length === 0) return;
  const handle = draw.pick(turn.stale);
  if (addon.release(handle)) throw new Finding('release: a stale handle is said to be live');
  const one = new Uint8Array(1);
  draw.oneOf<unknown>(
    () => call(turn, false, 'readInto of a stale handle', () => addon.readInto(handle, one)),
    () => call(turn, false, 'writeInto of a stale handle', () => addon.writeInto(handle, one, 0)),
    () => call(turn, false, 'readLater of a stale handle', () => addon.readLater(handle, 1)),
    () => call(turn, false, 'writeLater of a stale handle', () => addon.writeLater(handle, one, 0)),
    () => call(turn, false, 'view of a stale handle', () => addon.view(handle, 0, 1, 0)),
  );
}

function failingUpload(turn: Turn): void {
  const { addon } = turn.session;
  addon.failAllocationAt(1);
  call(turn, false, 'upload without memory', () => addon.upload(0, new Float32Array(3), 1000));
  addon.failAllocationAt(0);
}

/** Memory that is given back and taken again while work on it is under way. */
function trim({ session: { addon } }: Turn): void {
  addon.trim();
}

const STEPS = [upload, upload, write, write, write, read, readLater, view, release, releaseByMail, useStale, failingUpload, trim, work];
