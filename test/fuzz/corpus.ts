import * as tf from '@tensorflow/tfjs-core';
import sharp from 'sharp';
import { readJpegHeader } from '../../ts/data/jpeg_header';
import { NativeImages } from '../../ts/data/native_image';
import { normalisationTable } from '../../ts/data/resample';
import { IMAGENET } from '../../ts/image_statistics';
import { mailbox } from '../../ts/native';
import * as ops from '../../ts/ops';
import { KERNEL_CALLS } from '../backend/kernel_calls';
import { evaluateBf16 } from '../helpers/check_bf16';
import { evaluate } from '../helpers/check_op';
import type { OpSpec } from '../helpers/op_cases';
import { accumulateSpec } from '../ops/accumulate.cases';
import { adamwSpec } from '../ops/adamw.cases';
import { attentionSpec } from '../ops/attention.cases';
import { dropPathSpec } from '../ops/drop_path.cases';
import { gradClipSpec, gradNormSpec } from '../ops/grad_norm.cases';
import { layerNormSpec } from '../ops/layer_norm.cases';
import { linearSpec } from '../ops/linear.cases';
import { maskTokensSpec } from '../ops/mask_tokens.cases';
import { maskedLossSpec } from '../ops/masked_loss.cases';
import { mlpSpec } from '../ops/mlp.cases';
import { patchEmbedSpec } from '../ops/patch_embed.cases';
import { pixelShuffleSpec } from '../ops/pixel_shuffle.cases';
import { randomMaskSpec } from '../ops/random_mask.cases';
import { randomValuesSpec } from '../ops/random_values.cases';
import { windowAttentionSpec } from '../ops/window_attention.cases';
import { type Argument, bytesOf, type Call, isOutput, type Kernel, type TensorArgument } from './calls';

/** Bytes of tensors above which a call is too slow to be repeated thousands of times. */
const MOST_BYTES = 1 << 18;
const MOST_PER_KERNEL = 24;

/** Right calls of every kernel: what the backend and the ops put into the mailbox for their tests' cases. */
export async function recordCorpus(): Promise<{ kernels: Kernel[]; calls: Call[] }> {
  const { addon } = mailbox();
  const kernels = JSON.parse(addon.schema()) as Kernel[];
  const recorded: Call[] = [];
  const original = addon.call;
  addon.call = (id: number): void => {
    const call = readMailbox(id, kernels[id] as Kernel);
    original(id);
    if (bytesOfCall(call) <= MOST_BYTES) recorded.push(call); // where it is not refused
  };
  try {
    for (const call of Object.values(KERNEL_CALLS)) tf.tidy(() => { call(); return undefined as never; });
    for (const spec of SPECS) runCases(spec);
    await decodeAndResample();
  } finally {
    addon.call = original;
  }
  return { kernels, calls: chosen(recorded) };
}

const SPECS = [
  accumulateSpec, adamwSpec, attentionSpec, dropPathSpec, gradClipSpec, gradNormSpec, layerNormSpec, linearSpec, maskTokensSpec, maskedLossSpec, mlpSpec, patchEmbedSpec,
  pixelShuffleSpec, randomMaskSpec, randomValuesSpec, windowAttentionSpec,
] as unknown as OpSpec<unknown>[];

function runCases(spec: OpSpec<unknown>): void {
  for (const opCase of spec.cases) {
    evaluate(tf, ops, spec, opCase);
    for (const half of spec.bf16 ?? []) evaluateBf16(tf, ops, spec, opCase, half);
  }
}

/** The two kernels of the loader, which no op calls. */
async function decodeAndResample(): Promise<void> {
  const native = new NativeImages(normalisationTable(IMAGENET));
  const data = Uint8Array.from({ length: 24 * 20 * 3 }, (_, i) => (i * 37) % 256);
  for (const chromaSubsampling of ['4:2:0', '4:4:4']) {
    const bytes = await sharp(data, { raw: { width: 24, height: 20, channels: 3 } }).jpeg({ chromaSubsampling }).toBuffer();
    const header = readJpegHeader(bytes);
    const pixels = header && native.decodeJpeg(bytes, header, { top: 2, left: 1, height: 17, width: 20 });
    if (!pixels) throw new Error('the decoder declines a JPEG of sharp');
    for (const interpolation of ['bilinear', 'bicubic'] as const) {
      native.resample(pixels, { box: { top: 3, left: 2, height: 12, width: 15 }, resized: [10, 9], window: { top: 1, left: 0, height: 8, width: 9 }, flip: interpolation === 'bicubic', interpolation }, new Float32Array(3 * 8 * 9));
    }
    native.release(pixels);
  }
  native.dispose();
}

/** The call that the mailbox holds, with the values of its tensors. */
function readMailbox(id: number, kernel: Kernel): Call {
  const { addon, words, numbers } = mailbox();
  let word = 0;
  let number = 0;
  const argumentOf = ({ type, role }: Kernel['fields'][number]): Argument => {
    if (type === 'ints') {
      const length = numbers[number] as number;
      const values = Array.from(numbers.subarray(number + 1, number + 1 + length));
      number += 1 + length;
      return { type: 'list', length, values };
    }
    if (type !== 'tensor') return { type: 'number', value: numbers[number++] as number };
    const [handle, dtype, rank] = words.subarray(word, word + 3) as unknown as [number, number, number];
    const shape = Array.from(words.subarray(word + 3, word + 3 + rank));
    word += 3 + rank;
    const made = isOutput(role) && handle === 0;
    if (made || handle === -1) return { type: 'tensor', owner: made ? { made } : { handle }, dtype, shape };
    const own = new Uint8Array(bytesOf({ dtype, shape }));
    addon.readInto(handle, own);
    return { type: 'tensor', owner: { own }, dtype, shape };
  };
  return { kernel: id, arguments: kernel.fields.map(argumentOf) };
}

const tensors = (call: Call): TensorArgument[] => call.arguments.filter((argument) => argument.type === 'tensor');
const bytesOfCall = (call: Call): number => tensors(call).reduce((sum, tensor) => sum + bytesOf(tensor), 0);

/** Of each kernel the smallest calls that differ in more than sizes. */
function chosen(recorded: Call[]): Call[] {
  const kinds = new Map<string, number>();
  const perKernel = new Map<number, number>();
  return recorded
    .sort((a, b) => bytesOfCall(a) - bytesOfCall(b))
    .filter((call) => {
      const kind = JSON.stringify([call.kernel, call.arguments.map((a) => (a.type === 'tensor' ? [a.dtype, a.shape.length, Object.keys(a.owner)] : a.type === 'list' ? a.length : Math.sign(a.value)))]);
      const [alike, all] = [kinds.get(kind) ?? 0, perKernel.get(call.kernel) ?? 0];
      if (alike >= 3 || all >= MOST_PER_KERNEL) return false;
      kinds.set(kind, alike + 1);
      perKernel.set(call.kernel, all + 1);
      return true;
    });
}
