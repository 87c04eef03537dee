import { DTYPES } from '../../ts/native';

/** A kernel as the schema of the addon describes it. */
export interface Kernel {
  name: string;
  fields: Field[];
}
export interface Field {
  name: string;
  type: 'tensor' | 'ints' | 'boolean' | 'integer' | 'number';
  role: 'in' | 'optional_in' | 'out' | 'optional_out' | 'inout' | 'optional_inout' | 'parameter';
  dtypes?: string[];
}

/** Whose memory a tensor argument names: its own upload, none yet, a handle as it stands, or that of another argument. */
export type Owner = { own: Uint8Array<ArrayBuffer> } | { made: true } | { handle: number } | { argument: number };
export interface TensorArgument {
  type: 'tensor';
  owner: Owner;
  dtype: number;
  shape: number[];
}
export interface ListArgument {
  type: 'list';
  length: number;
  values: number[];
}
export interface NumberArgument {
  type: 'number';
  value: number;
}
export type Argument = TensorArgument | ListArgument | NumberArgument;

/** A call of a kernel as plain data: what the mailbox holds, and what the tensors do. */
export interface Call {
  kernel: number;
  arguments: Argument[];
}

export const isOutput = (role: Field['role']): boolean => role === 'out' || role === 'optional_out';
export const isWritten = (role: Field['role']): boolean => isOutput(role) || role === 'inout' || role === 'optional_inout';
export const BYTES = [4, 4, 1, 2] as const;
export const bytesOf = ({ dtype, shape }: { dtype: number; shape: readonly number[] }): number => shape.reduce((a, b) => a * b, BYTES[dtype] ?? 1);

/** One line, without the values of large tensors. */
export function describeCall(call: Call, kernel: Kernel | undefined): string {
  const parts = call.arguments.map((argument, i) => {
    const name = kernel?.fields[i]?.name ?? `argument ${i}`;
    if (argument.type === 'number') return `${name}=${Object.is(argument.value, -0) ? '-0' : argument.value}`;
    if (argument.type === 'list') return `${name}=(${argument.values.join(',')})${argument.length === argument.values.length ? '' : ` said to have ${argument.length}`}`;
    return `${name}=${DTYPES[argument.dtype] ?? argument.dtype}[${argument.shape.join(',')}]${describeOwner(argument)}`;
  });
  return `${kernel?.name ?? call.kernel} ${parts.join(' ')}`;
}

function describeOwner({ owner, dtype, shape }: TensorArgument): string {
  if ('made' in owner) return '';
  if ('handle' in owner) return ` of handle ${owner.handle}`;
  if ('argument' in owner) return ` in the memory of argument ${owner.argument}`;
  const size = owner.own.length === bytesOf({ dtype, shape }) ? '' : ` in ${owner.own.length} bytes`;
  return owner.own.length <= 64 ? `${size} ${Buffer.from(owner.own).toString('hex')}` : size;
}
