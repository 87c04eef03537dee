import type { SimmimError } from '../../ts/errors';
import { type Call, describeCall, isOutput, isWritten, type TensorArgument } from './calls';
import { mutated, spoil } from './mutate';
import { attempt, difference, expectSame, Finding, refusal, type Session } from './session';
import { PARTLY_DEFINED, readBytes, seenTensors, writeCall } from './kernel_turn';

interface Recorded {
  program: number;
  /** Uploads made before the recording, by handle. */
  inputs: Map<number, TensorArgument>;
  /** What the recording left in its outputs; null where it also changes what it reads. */
  outputs: Map<number, Uint8Array>;
  repeats: boolean;
}

/** Records a few calls, right ones or broken, and replays them: with the same bits, and with any values in their inputs. */
export async function programTurn(session: Session): Promise<void> {
  const { addon, draw } = session;
  const before = addon.stats();
  const recorded = record(session);
  if (recorded) {
    await replays(session, recorded);
    for (const handle of recorded.inputs.keys()) addon.release(handle);
    if (draw.chance(0.5)) for (const handle of recorded.outputs.keys()) addon.release(handle);
    addon.disposeProgram(recorded.program);
    for (const handle of recorded.outputs.keys()) addon.release(handle);
    if (!('error' in attempt(session, () => 'replaySync of a disposed program', () => addon.replaySync(recorded.program)))) throw new Finding('a disposed program is replayed');
  }
  addon.beginRecording(); // arenas of programs that are gone are given back by the next recording
  addon.abortRecording();
  expectSame(session, () => 'a program', before);
}

function record(session: Session): Recorded | null {
  const { addon, calls, kernels, draw, words } = session;
  const chosen: Call[] = Array.from({ length: 1 + draw.below(3) }, () => (draw.chance(0.7) ? structuredClone(draw.pick(calls)) : mutated(draw.pick(calls), kernels, draw, 12345)));
  const small = chosen.filter((call) => call.arguments.every((a) => a.type !== 'tensor' || !('made' in a.owner) || Math.abs(a.shape.reduce((x, y) => x * y, 1)) < 1 << 20));
  const given = small.map((call) => uploads(session, call));
  const inputs = new Map(given.flatMap((map, n) => [...map].map(([i, handle]): [number, TensorArgument] => [handle, small[n]?.arguments[i] as TensorArgument])));
  const outputs = new Map<number, number>();
  let repeats = true;
  let error: SimmimError | null = null;
  attempt(session, () => 'beginRecording', () => addon.beginRecording());
  for (const [n, call] of small.entries()) {
    const handles = writeCall(session, call, given[n]);
    const seen = seenTensors(session, call);
    repeats &&= !PARTLY_DEFINED.has(kernels[call.kernel]?.name ?? '') && !seen.some(({ role, handle }) => isWritten(role) && handle > 0);
    const answer = attempt(session, () => `recording ${describeCall(call, kernels[call.kernel])}`, () => addon.call(call.kernel));
    for (const { place, role, handle, dtype, shape } of seen) if (isOutput(role) && handle === 0 && (words[place] as number) > 0) outputs.set(words[place] as number, shape.reduce((a, b) => a * b, [4, 4, 1, 2][dtype] as number));
    for (const [i, handle] of handles) if (!given[n]?.has(i)) addon.release(handle);
    if ('error' in answer) error = answer.error;
  }
  const kept = [...outputs.keys()].filter(() => draw.chance(0.9));
  for (const handle of outputs.keys()) if (!kept.includes(handle) && draw.chance(0.9)) addon.release(handle), outputs.delete(handle);
  const wrong = draw.chance(0.05);
  const answer = attempt(session, () => 'endRecording', () => addon.endRecording(wrong ? Int32Array.of(...kept, 12345) : Int32Array.from(kept)));
  if ('error' in answer) {
    addon.abortRecording();
    for (const handle of [...inputs.keys(), ...outputs.keys()]) addon.release(handle);
    if (!wrong && outputs.size === kept.length && answer.error.code !== 'not_recordable' && !error) throw new Finding(`endRecording: ${answer.error.message}`);
    return null;
  }
  return { program: answer.result, inputs, outputs: new Map([...outputs].map(([handle, bytes]) => [handle, readBytes(session, handle, bytes)])), repeats };
}

/** Inputs that lie outside the program; the others, small ones, are uploaded while it is recorded. */
function uploads({ addon, draw }: Session, call: Call): Map<number, number> {
  const out = new Map<number, number>();
  call.arguments.forEach((a, i) => {
    if (a.type === 'tensor' && 'own' in a.owner && [0, 1, 2, 3].includes(a.dtype) && (draw.chance(0.8) || a.owner.own.length > 64)) out.set(i, addon.upload(a.dtype, a.owner.own, Math.floor(a.owner.own.length / ([4, 4, 1, 2][a.dtype] as number))));
  });
  return out;
}

async function replays(session: Session, { program, inputs, outputs, repeats }: Recorded): Promise<void> {
  const { addon, draw } = session;
  const replay = async (): Promise<void> => {
    const what = (): string => addon.describeProgram(program);
    const answer = attempt<unknown>(session, what, () => (draw.chance(0.5) ? addon.replay(program) : addon.replaySync(program)));
    if ('error' in answer) throw new Finding(`${what()}: cannot be replayed: ${answer.error.message}`);
    await Promise.resolve(answer.result).catch((error: unknown) => refusal(error, what));
  };
  await replay();
  for (const [handle, bytes] of outputs) {
    if (repeats && difference(readBytes(session, handle, bytes.length), bytes) >= 0) throw new Finding(`${addon.describeProgram(program)}: a replay gives other bits`);
  }
  for (const [handle, { owner, dtype }] of inputs) {
    if (!('own' in owner) || draw.chance(0.3)) continue;
    spoil(owner.own, dtype, draw);
    addon.writeInto(handle, owner.own.subarray(0, owner.own.length - (owner.own.length % ([4, 4, 1, 2][dtype] as number))), 0);
  }
  addon.setThreads(1 + draw.below(3));
  for (let n = 0; n < 2; n++) await replay();
  const pending = addon.replay(program); // disposed of while it runs
  if (draw.chance(0.5)) await pending;
}
