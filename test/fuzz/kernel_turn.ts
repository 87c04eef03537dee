import type { SimmimError } from '../../ts/errors';
import { BYTES, bytesOf, type Call, describeCall, type Field, isOutput, isWritten, type TensorArgument } from './calls';
import { mutated } from './mutate';
import { attempt, difference, expectSame, Finding, MOST_EXTRA_BYTES, type Session } from './session';

/** Above this an output is not made: as on a machine that has no more. */
const MOST_OUTPUT_BYTES = 8 << 20;

/** Uploads the tensors of a call that are not `given` and writes its arguments into the mailbox; returns the handles of its tensors by argument. */
export function writeCall({ addon, words, numbers }: Session, call: Call, given: ReadonlyMap<number, number> = new Map()): Map<number, number> {
  const handles = new Map(given);
  call.arguments.forEach((argument, i) => {
    if (argument.type !== 'tensor' || !('own' in argument.owner) || given.has(i)) return;
    const dtype = BYTES[argument.dtype] === undefined ? 0 : argument.dtype;
    handles.set(i, addon.upload(dtype, argument.owner.own, Math.floor(argument.owner.own.length / (BYTES[dtype] as number))));
  });
  const handleOf = ({ owner }: TensorArgument, i: number): number => ('handle' in owner ? owner.handle : (handles.get('argument' in owner ? owner.argument : i) ?? 0));
  words.fill(0);
  numbers.fill(0);
  let word = 0;
  let number = 0;
  call.arguments.forEach((argument, i) => {
    if (argument.type === 'number') numbers[number++] = argument.value;
    else if (argument.type === 'list') {
      numbers[number++] = argument.length;
      for (const value of argument.values) numbers[number++] = value;
    } else {
      words.set([handleOf(argument, i), argument.dtype, argument.shape.length, ...argument.shape], word);
      word += 3 + argument.shape.length;
    }
  });
  return handles;
}

/** A tensor as the addon finds it in the mailbox, whatever the call was meant to be. */
interface Seen {
  place: number;
  role: Field['role'];
  handle: number;
  dtype: number;
  shape: number[];
}
export function seenTensors({ words, kernels }: Session, call: Call): Seen[] {
  const out: Seen[] = [];
  let place = 0;
  for (const { type, role } of kernels[call.kernel]?.fields ?? []) {
    if (type !== 'tensor') continue;
    const [handle, dtype, rank] = words.subarray(place, place + 3) as unknown as [number, number, number];
    if (!(rank >= 0 && rank <= 8)) break;
    out.push({ place, role, handle, dtype, shape: Array.from(words.subarray(place + 3, place + 3 + rank)) });
    place += 3 + rank;
  }
  return out;
}

export function readBytes({ addon }: Session, handle: number, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  addon.readInto(handle, out);
  return out;
}

type Outcome = { error: SimmimError } | { outputs: Uint8Array[] };

/** Runs a call and checks whatever holds of every call: inputs keep their bytes, nothing is left behind, memory is in proportion. */
function runOnce(session: Session, call: Call, failAt: number): Outcome {
  const { addon, kernels, words } = session;
  const what = (): string => describeCall(call, kernels[call.kernel]);
  const start = addon.stats();
  const uploads = writeCall(session, call);
  const seen = seenTensors(session, call);
  const wanted = seen.filter(({ role, handle }) => isOutput(role) && handle === 0);
  const large = wanted.reduce((sum, tensor) => sum + Math.abs(bytesOf(tensor)), 0) > MOST_OUTPUT_BYTES;
  const before = addon.stats();
  addon.resetPeak();
  addon.failAllocationAt(large ? 1 : failAt);
  const answer = attempt(session, what, () => addon.call(call.kernel));
  addon.failAllocationAt(0);
  const peak = addon.stats().peak - before.live;
  if (peak > MOST_EXTRA_BYTES + MOST_OUTPUT_BYTES) throw new Finding(`${what()}: took ${peak} bytes`);
  const made = wanted.map((tensor) => ({ ...tensor, handle: words[tensor.place] as number })).filter(({ handle }) => handle !== 0);
  if ('error' in answer) {
    if (made.length > 0) throw new Finding(`${what()}: outputs are left of a call that failed`);
    if (answer.error.code === 'out_of_memory' && !large && failAt === 0) throw new Finding(`${what()}: ${answer.error.message}`);
    const { name } = kernels[call.kernel] ?? { name: 'call' };
    if (answer.error.op !== name) throw new Finding(`${what()}: the error names ${answer.error.op}`);
  }
  // Values of a queued call's inputs are judged when it runs: reading its results says what was wrong.
  const read = attempt(session, what, () => made.map((tensor) => readBytes(session, tensor.handle, bytesOf(tensor))));
  const written = new Set(seen.flatMap(({ role, handle }) => (isWritten(role) ? [handle] : [])));
  for (const [i, handle] of uploads) {
    if (!written.has(handle)) checkUnchanged(session, handle, call.arguments[i] as TensorArgument, () => `${what()}: argument ${i}, which it only reads,`);
  }
  for (const handle of [...made.map((tensor) => tensor.handle), ...uploads.values()]) addon.release(handle);
  expectSame(session, what, start);
  return 'error' in answer ? answer : 'error' in read ? read : { outputs: read.result };
}

function checkUnchanged(session: Session, handle: number, { owner, dtype }: TensorArgument, what: () => string): void {
  if (!('own' in owner)) return;
  const own = owner.own.subarray(0, owner.own.length - (owner.own.length % (BYTES[dtype] ?? 4)));
  const at = difference(readBytes(session, handle, own.length), own);
  if (at >= 0) throw new Finding(`${what()} changed at byte ${at}`);
}

/** Kernels of whose results one says how much of the others counts. */
export const PARTLY_DEFINED = new Set(['jpeg_decode', 'sparse_fill_rows', 'unique']);

/** A call that is right but for what was broken: an error, or a result, and then the same one with other threads. */
export function kernelTurn(session: Session): void {
  const { addon, calls, kernels, draw } = session;
  const stale = addon.allocate(0, 4);
  addon.release(stale);
  const call = mutated(draw.pick(calls), kernels, draw, stale);
  const failAt = draw.chance(0.03) ? 1 + draw.below(6) : 0;
  addon.setIsa(draw.pick(addon.info().isaLevels));
  const first = runOnce(session, call, failAt);
  const foreign = call.arguments.some((a) => a.type === 'tensor' && 'handle' in a.owner && a.owner.handle > 0); // may come to be a live one
  if ('error' in first || foreign || !draw.chance(0.2) || PARTLY_DEFINED.has(kernels[call.kernel]?.name ?? '')) return;
  addon.setThreads(draw.pick([1, 2, 3, 5]));
  const second = runOnce(session, call, 0);
  const what = describeCall(call, kernels[call.kernel]);
  if ('error' in second) throw new Finding(`${what}: refused the second time: ${second.error.message}`);
  first.outputs.forEach((bytes, i) => {
    const at = difference(bytes, second.outputs[i] as Uint8Array);
    if (at >= 0) throw new Finding(`${what}: byte ${at} of output ${i} is ${bytes[at]}, then ${second.outputs[i]?.[at]}: it depends on threads or on what its memory held`);
  });
}

/** The calls as they were recorded: all are served. */
export function checkCorpus(session: Session): void {
  const silent = session.kernels.filter((_, id) => !session.calls.some(({ kernel }) => kernel === id));
  if (silent.length > 0) throw new Finding(`no call of ${silent.map(({ name }) => name).join(', ')} to start from`);
  for (const call of session.calls) {
    const outcome = runOnce(session, call, 0);
    if ('error' in outcome) throw new Finding(`${describeCall(call, session.kernels[call.kernel])}: a right call is refused: ${outcome.error.message}`);
  }
}
