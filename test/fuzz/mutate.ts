import { type Argument, BYTES, bytesOf, type Call, isOutput, type Kernel, type ListArgument, type NumberArgument, type TensorArgument } from './calls';
import { type Draw, HUGE_SIZES, ODD_NUMBERS, SMALL_SIZES } from './draw';

/** Storages grow to at most this. */
const MOST_BYTES = 1 << 20;

/** A right call with one thing or a few broken; now and then none, or sizes changed so that it stays right. */
export function mutated(call: Call, kernels: readonly Kernel[], draw: Draw, stale: number): Call {
  const out = structuredClone(call);
  const kernel = kernels[call.kernel] as Kernel;
  if (draw.chance(0.4)) resizeTogether(out, draw);
  for (let changes = draw.pick([0, 1, 1, 1, 1, 2, 3]); changes > 0; changes--) draw.pick(CHANGES)({ out, kernel, draw, stale });
  if (draw.chance(0.01)) out.kernel = draw.pick([draw.below(kernels.length), kernels.length, 0xffff, -1]);
  return out;
}

interface Change {
  out: Call;
  kernel: Kernel;
  draw: Draw;
  stale: number;
}

const tensorsOf = (call: Call): TensorArgument[] => call.arguments.filter((a): a is TensorArgument => a.type === 'tensor');
const listsOf = (call: Call): ListArgument[] => call.arguments.filter((a): a is ListArgument => a.type === 'list');
const numbersOf = (call: Call): NumberArgument[] => call.arguments.filter((a): a is NumberArgument => a.type === 'number');

/** Gives a tensor of its own as many bytes as its shape asks for, repeating the values that it has. */
function fit(tensor: TensorArgument): void {
  const bytes = bytesOf(tensor);
  if (!('own' in tensor.owner) || !(bytes >= 0 && bytes <= MOST_BYTES)) return;
  const { own } = tensor.owner;
  const grown = new Uint8Array(bytes);
  for (let at = 0; own.length > 0 && at < bytes; at += own.length) grown.set(own.subarray(0, Math.min(own.length, bytes - at)), at);
  tensor.owner.own = grown;
}

/** Every dimension of one size becomes another size, and often the parameters that are equal to it. */
function resizeTogether(call: Call, draw: Draw): void {
  const tensors = tensorsOf(call);
  const from = draw.pick(tensors.flatMap((t) => t.shape).concat(1));
  const to = draw.pick(SMALL_SIZES);
  for (const tensor of tensors) {
    tensor.shape = tensor.shape.map((d) => (d === from ? to : d));
    fit(tensor);
  }
  if (draw.chance(0.5)) return;
  for (const list of listsOf(call)) list.values = list.values.map((v) => (v === from ? to : v));
  for (const parameter of numbersOf(call)) if (parameter.value === from) parameter.value = to;
}

function someTensor({ out, draw }: Change): TensorArgument | undefined {
  const tensors = tensorsOf(out);
  return tensors.length > 0 ? draw.pick(tensors) : undefined;
}

function changeDimension(change: Change): void {
  const tensor = someTensor(change);
  if (!tensor) return;
  const { draw } = change;
  const at = draw.below(tensor.shape.length);
  const old = tensor.shape[at] ?? 1;
  tensor.shape[at] = draw.oneOf<number>(() => old + 1, () => old - 1, () => 2 * old, () => draw.pick(SMALL_SIZES), () => draw.pick(HUGE_SIZES));
  if (draw.chance(0.8)) fit(tensor);
}

function changeRank(change: Change): void {
  const tensor = someTensor(change);
  if (!tensor) return;
  const { draw } = change;
  const at = draw.below(tensor.shape.length + 1);
  if (draw.chance(0.5)) tensor.shape.splice(at, 1);
  else tensor.shape.splice(at, 0, ...Array.from({ length: draw.pick([1, 1, 1, 2, 8, 60]) }, () => draw.pick([1, 1, 0, 2, 2 ** 31 - 1])));
  if (draw.chance(0.8)) fit(tensor);
}

/** Several dimensions that overflow their product, next to one of 0 as well. */
function overflowProduct(change: Change): void {
  const tensor = someTensor(change);
  if (!tensor) return;
  const { draw } = change;
  tensor.shape = tensor.shape.map((d) => (draw.chance(0.6) ? draw.pick([2 ** 31 - 1, 2 ** 30, 65536, 3037000500 % 2 ** 31]) : draw.chance(0.3) ? 0 : d));
  fit(tensor);
}

function changeDtype(change: Change): void {
  const tensor = someTensor(change);
  if (!tensor) return;
  const { draw } = change;
  tensor.dtype = draw.chance(0.1) ? draw.pick([-1, 4, 100, 2 ** 31 - 1]) : draw.below(BYTES.length);
  fit(tensor);
}

/** float32 to bfloat16 and back, in one tensor or in all. */
function changePrecision(change: Change): void {
  const { out, kernel, draw } = change;
  const all = draw.chance(0.6);
  out.arguments.forEach((argument, i) => {
    if (argument.type !== 'tensor' || !(argument.dtype === 0 || argument.dtype === 3) || !(all || draw.chance(0.3))) return;
    if (all && !(kernel.fields[i]?.dtypes ?? []).includes('bf16')) return;
    argument.dtype = 3 - argument.dtype;
    fit(argument);
  });
}

function changeOwner(change: Change): void {
  const tensor = someTensor(change);
  if (!tensor) return;
  const { out, draw, stale } = change;
  tensor.owner = draw.oneOf<TensorArgument['owner']>(
    () => ({ handle: draw.pick([0, -1, stale, stale + 1, 12345, -7, 2 ** 31 - 1, -(2 ** 31), (1 << 22) | 1]) }),
    () => ({ argument: draw.below(out.arguments.length) }),
    () => ({ made: true }),
    () => ({ own: draw.bytes(draw.pick([0, 1, 3, 4, 64])) as Uint8Array<ArrayBuffer> }),
  );
}

function changeNumber({ out, kernel, draw }: Change): void {
  const numbers = out.arguments.flatMap((a, i) => (a.type === 'number' ? [{ parameter: a, name: kernel.fields[i]?.name }] : []));
  if (numbers.length === 0) return;
  const { parameter, name } = draw.pick(numbers);
  parameter.value = name === 'op' && draw.chance(0.9) ? draw.below(40) : draw.oneOf<number>(() => draw.pick(ODD_NUMBERS), () => parameter.value + draw.pick([1, -1]), () => draw.below(20));
}

function changeList({ out, draw }: Change): void {
  const lists = listsOf(out);
  if (lists.length === 0) return;
  const list = draw.pick(lists);
  const at = draw.below(list.values.length);
  draw.oneOf(
    () => void (list.values[at] = draw.pick(ODD_NUMBERS)),
    () => void (list.values[at] = (list.values[at] ?? 0) + draw.pick([1, -1, 16])),
    () => void list.values.splice(at, 1),
    () => void list.values.splice(at, 0, draw.pick(SMALL_SIZES)),
  );
  list.length = draw.chance(0.1) ? draw.pick([-1, 25, 1e9, 0.5, NaN, Infinity]) : list.values.length;
}

const ODD_FLOATS = [0, -0, NaN, Infinity, -Infinity, 1e-45, 3.4e38, -3.4e38, 0.5, 1, -1, 1e9, 2147483648] as const;
const ODD_INTEGERS = [0, 1, -1, 2, 3, 64, 2 ** 31 - 1, -(2 ** 31), 65536] as const;

/** Values where others were expected: indices outside, NaN, infinities, or any bits at all. */
function changeValues(change: Change): void {
  const tensor = someTensor(change);
  if (!tensor || !('own' in tensor.owner)) return;
  const { draw } = change;
  spoil(tensor.owner.own, tensor.dtype, draw);
}

/** Changes one, some or all of the values of a storage. */
export function spoil(bytes: Uint8Array, dtype: number, draw: Draw): void {
  const size = BYTES[dtype] ?? 1;
  const count = Math.floor(bytes.length / size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const many = draw.pick([1, 1, 3, count]);
  for (let n = 0; n < Math.min(many, count); n++) {
    const at = (many === count ? n : draw.below(count)) * size;
    if (draw.chance(0.2) || size < 4) bytes.set(draw.bytes(size), at);
    else if (dtype === 0) view.setFloat32(at, draw.pick(ODD_FLOATS), true);
    else view.setInt32(at, draw.pick(ODD_INTEGERS), true);
  }
}

/** One argument too few or too many, or two in each other's place. */
function changeOrder({ out, draw }: Change): void {
  const { length } = out.arguments;
  const [a, b] = [draw.below(length), draw.below(length)];
  draw.oneOf(
    () => void out.arguments.splice(a, 1),
    () => void out.arguments.splice(a, 0, structuredClone(out.arguments[b] as Argument)),
    () => void ([out.arguments[a], out.arguments[b]] = [out.arguments[b] as Argument, out.arguments[a] as Argument]),
  );
}

/** The result goes into memory that is there already. */
function presetOutput({ out, kernel, draw }: Change): void {
  out.arguments.forEach((argument, i) => {
    const role = kernel.fields[i]?.role;
    if (argument.type !== 'tensor' || !role || !isOutput(role) || !('made' in argument.owner) || !draw.chance(0.5)) return;
    argument.owner = { own: new Uint8Array(4) };
    fit(argument);
  });
}

const CHANGES = [
  changeDimension, changeDimension, changeDimension, changeRank, overflowProduct, changeDtype, changePrecision, changeOwner, changeOwner, changeNumber, changeNumber, changeNumber,
  changeList, changeList, changeList, changeValues, changeValues, changeValues, changeOrder, presetOutput,
];
