import type * as Native from '../../ts/native';
import { elements, type TracedCall, type TracedTensor } from '../trace';

interface SchemaField {
  name: string;
  type: 'tensor' | 'ints' | 'boolean' | 'integer' | 'number';
  role: string;
}

const camel = (name: string): string => name.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());
const isOutput = (field: SchemaField): boolean => field.role.endsWith('out') && !field.role.endsWith('inout');

/** Values that every kernel takes: noise in [0, 1) (a mask: three of five hidden), position 0 for indices, 0 and 1 in turn for bytes. */
function noise(dtype: Native.StorageDType, count: number, mask: boolean): Native.HostArray {
  if (dtype === 'i32') return new Int32Array(count);
  if (dtype === 'u8') return Uint8Array.from({ length: count }, (_, i) => i & 1);
  const values = new Float32Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const uniform = state / 2 ** 32;
    values[i] = mask ? Number(uniform < 0.6) : uniform;
  }
  if (dtype === 'f32') return values;
  const bits = new Uint32Array(values.buffer);
  return Uint16Array.from({ length: count }, (_, i) => (bits[i] as number) >>> 16);
}

/**
 * A traced call, ready to run again: the kernel with tensors of the same types and shapes, full of noise, that are made here
 * and stay until dispose(); each run makes its outputs anew and gives them back. It runs at once, not in the queue. Throws for
 * a kernel that this addon does not have.
 */
export class ReplayedCall {
  private readonly inputs: Native.NativeTensor[] = [];
  private readonly outputs: Native.NativeTensor[] = [];
  private readonly args: Record<string, unknown> = {};
  private readonly call: (args: object) => void;

  constructor(private readonly native: typeof Native, traced: TracedCall) {
    const addon = native.loadAddon();
    const kernel = (JSON.parse(addon.schema()) as { name: string; fields: SchemaField[] }[]).find((k) => k.name === traced.kernel);
    if (!kernel) throw new Error(`the trace has a call of '${traced.kernel}', which this addon does not have`);
    addon.queueFrom(Infinity);
    for (const field of kernel.fields) {
      const tensor = traced.tensors[field.name];
      this.args[camel(field.name)] = field.type === 'tensor' ? (tensor ? this.tensor(field, tensor) : null) : traced.scalars[field.name];
    }
    this.call = (native.kernels as unknown as Record<string, (args: object) => void>)[camel(traced.kernel)] as (args: object) => void;
  }

  run(): null {
    this.call(this.args);
    this.release(this.outputs);
    return null;
  }

  dispose(): void {
    this.release(this.inputs);
  }

  private tensor(field: SchemaField, { dtype, dims }: TracedTensor): Native.NativeTensor {
    const tensor = { storage: { handle: 0, dtype }, shape: dims };
    if (isOutput(field)) this.outputs.push(tensor);
    else {
      const count = elements(dims);
      tensor.storage.handle = this.native.loadAddon().upload(this.native.DTYPE_NUMBER[dtype], noise(dtype, count, field.name === 'mask'), count);
      this.inputs.push(tensor);
    }
    return tensor;
  }

  private release(tensors: readonly Native.NativeTensor[]): void {
    for (const { storage } of tensors) {
      this.native.loadAddon().release(storage.handle);
      storage.handle = 0;
    }
  }
}
