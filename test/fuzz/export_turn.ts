import { SimmimError } from '../../ts/errors';
import type { Addon } from '../../ts/native';
import { type Draw, ODD_NUMBERS } from './draw';
import { attempt, expectSame, refusal, setMailbox, type Session } from './session';

type Name = keyof Addon;
/** Right arguments of a function, given a live handle and a program. */
type Arguments = (draw: Draw, handle: number, program: number, session: Session) => unknown[];

/** Every function of the addon; a missing one does not compile, one that is gone neither. */
const EXPORTS: Record<Name, Arguments> = {
  allocate: (draw) => [draw.below(4), draw.below(100), 0],
  upload: (draw) => [draw.below(4), new Float32Array(draw.below(20)), draw.below(100), 0],
  writeInto: (_, handle) => [handle, new Float32Array(2), 0],
  readInto: (_, handle) => [handle, new Float32Array(2)],
  writeLater: (_, handle) => [handle, new Float32Array(2), 0],
  readLater: (_, handle) => [handle, 2],
  busy: () => [],
  queueFrom: () => [Infinity],
  join: () => [],
  view: (_, handle) => [handle, 4, 8, 0],
  release: () => [0],
  stats: () => [0],
  trim: () => [0],
  resetPeak: () => [0],
  failAllocationAt: () => [0, 0],
  call: (draw, _, __, { kernels }) => [draw.below(kernels.length)],
  setMailbox: (_, __, ___, { words, numbers, released }) => [words, numbers, SimmimError, released],
  schema: () => [],
  beginRecording: () => [0],
  endRecording: (_, handle) => [Int32Array.of(handle)],
  abortRecording: () => [],
  replay: (_, __, program) => [program],
  replaySync: (_, __, program) => [program],
  disposeProgram: (_, __, program) => [program],
  describeProgram: (_, __, program) => [program],
  inspectPlugin: () => ['nowhere.so'],
  openDevice: () => ['nowhere.so', 0],
  synchronise: () => [0],
  info: () => [],
  setThreads: (draw) => [1 + draw.below(4)],
  setIsa: (draw, _, __, { addon }) => [draw.pick(addon.info().isaLevels)],
  setTrace: () => [false],
};

/** Bytes above which an allocation is refused, as on a machine that has no more. */
const LARGE = 8 << 20;

function detached(): Float32Array {
  const array = new Float32Array(4);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

/** Values of every kind that JavaScript has. */
function junk(draw: Draw): unknown {
  return draw.oneOf<unknown>(
    () => undefined, () => null, () => true, () => '', () => '3', () => 'avx512', () => 'x'.repeat(5000), () => '\0', () => '\ud800', () => process.execPath,
    () => draw.pick(ODD_NUMBERS), () => draw.pick(ODD_NUMBERS), () => draw.below(3000), () => 7n, () => Symbol('s'), () => [], () => [1, 2], () => ({}), () => ({ length: 4, buffer: new ArrayBuffer(16) }),
    () => ({ valueOf: () => { throw new Error('not to be asked'); } }), () => () => 3, () => class {}, () => new Date(0), () => /x/, () => new Map(), () => Promise.resolve(1),
    () => new Proxy(new Float32Array(4), {}), () => new ArrayBuffer(16), () => new SharedArrayBuffer(16), () => new DataView(new ArrayBuffer(16)),
    () => new Float32Array(0), () => new Float32Array(4), () => new Float64Array(3), () => new Uint8Array(7), () => new Uint8Array(new ArrayBuffer(9), 1, 7), () => new Int32Array(2), () => new BigInt64Array(2),
    () => new Int32Array(new SharedArrayBuffer(64)), () => new Float64Array(new SharedArrayBuffer(8)), detached,
    () => new Float32Array(new (ArrayBuffer as new (length: number, options: object) => ArrayBuffer)(16, { maxByteLength: 64 })), // one that can grow
  );
}

/** One function of the addon with arguments of wrong types, too few or too many: a result or a SimmimError. */
export async function exportTurn(session: Session): Promise<void> {
  const { addon, draw } = session;
  const known = new Set(Object.keys(EXPORTS));
  const strange = Object.keys(addon).filter((name) => !known.has(name));
  if (strange.length > 0) throw new Error(`test/fuzz knows nothing of ${strange.join(', ')}`);
  const { threads, isa } = addon.info();
  const before = addon.stats();
  const handle = addon.upload(0, new Float32Array(4), 4);
  const program = recordFill(session);
  const name = draw.pick(Object.keys(EXPORTS) as Name[]);
  const values = EXPORTS[name](draw, handle, program, session);
  for (let changes = draw.pick([0, 1, 1, 1, 2]); changes > 0; changes--) change(values, draw);
  const result = await answered(session, name, values);
  // Whatever it was, the addon is brought back to where it was.
  setMailbox(session);
  addon.queueFrom(session.queueFrom);
  addon.failAllocationAt(0);
  addon.abortRecording();
  addon.setTrace(false);
  addon.setThreads(threads);
  addon.setIsa(isa);
  if (['allocate', 'upload', 'view'].includes(name) && typeof result === 'number') addon.release(result);
  addon.release(handle);
  if (name !== 'disposeProgram' || result instanceof SimmimError) addon.disposeProgram(program);
  expectSame(session, () => `${name} with ${values.length} arguments`, before);
}

function change(values: unknown[], draw: Draw): void {
  const at = draw.below(values.length);
  draw.oneOf<unknown>(() => (values[at] = junk(draw)), () => (values[at] = junk(draw)), () => values.push(junk(draw)), () => values.splice(at, 1));
}

async function answered(session: Session, name: Name, values: unknown[]): Promise<unknown> {
  const { addon } = session;
  const what = (): string => `${name}(${values.map(described).join(', ')})`;
  const [first, second, third] = values;
  const count = name === 'allocate' ? second : name === 'upload' ? third : 0;
  if (typeof count === 'number' && count * 4 > LARGE) addon.failAllocationAt(1);
  if (name === 'setThreads' && typeof first === 'number' && first > 8) return undefined; // right, and slow
  const answer = attempt<unknown>(session, what, () => (addon[name] as (...all: unknown[]) => unknown)(...values));
  if ('error' in answer) return answer.error;
  try {
    return await answer.result;
  } catch (error) {
    return refusal(error, what);
  }
}

function described(value: unknown): string {
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 20));
  return typeof value === 'function' || (typeof value === 'object' && value !== null) ? Object.prototype.toString.call(value) : String(value);
}

/** A program that fills a tensor, which it keeps. */
function recordFill({ addon, words, numbers, kernels }: Session): number {
  addon.beginRecording();
  words.set([0, 0, 1, 4]);
  numbers[0] = 3;
  addon.call(kernels.findIndex(({ name }) => name === 'fill'));
  const made = words[0] as number;
  const program = addon.endRecording(Int32Array.of(made));
  addon.release(made);
  return program;
}
