import { SimmimError } from '../errors';

/** What a pickle may hold here. `bigint` only for integers beyond 2^53. Tuples and lists are both arrays. */
export type PickleValue = null | boolean | number | bigint | string | Uint8Array | PickleValue[] | PickleDict | PickleSet | PickleGlobal | object;

/** A Python dict, or an object of an allowed class that is one in Python (`OrderedDict`, yacs `CfgNode`, argparse `Namespace`). */
export class PickleDict {
  readonly items = new Map<PickleValue, PickleValue>();
  /** The object's `__dict__`, for classes that have attributes beside their items. */
  readonly attributes = new Map<string, PickleValue>();
  constructor(readonly className: string) {}
}

/** A Python set. */
export class PickleSet {
  readonly items = new Set<PickleValue>();
}

/** A reference to an allowed global: a name, never the thing itself. */
export class PickleGlobal {
  constructor(readonly name: string) {}
}

/** An object of an allowed class that takes a state (numpy's types and arrays). */
export abstract class PickleObject {
  /** Takes what `__setstate__` would; throws `corrupt` for anything else. */
  abstract setState(state: PickleValue): void;
  /** Plain JSON of it. */
  abstract describe(): unknown;
}

/** What the caller allows beyond plain containers. Both throw for anything they do not know. */
export interface PickleHandlers {
  /** Called for a global that is not a container class; returns the value of `name(...args)`. */
  reduce(name: string, args: PickleValue[]): PickleValue;
  /** True for globals that {@link reduce} knows or that may be passed as arguments. */
  allows(name: string): boolean;
  /** Resolves a persistent id. */
  persistent(id: PickleValue): PickleValue;
}

const OP = 'pickle';
const DICT_CLASSES = new Set(['collections.OrderedDict', 'collections.defaultdict', 'yacs.config.CfgNode', 'argparse.Namespace', 'builtins.dict']);
const SET_CLASS = 'builtins.set';
/** What a defaultdict may make its values with: names that are never called. */
const FACTORIES = new Set(['builtins.list', 'builtins.int', 'builtins.float']);
const MARK = Symbol('mark');
const MAX_STACK = 10_000_000;

/**
 * Reads one pickle (protocols 0 framing excluded; 2 to 5) without the power to run code: only container
 * opcodes, numbers, strings and the globals the handlers allow. Anything else throws `unsupported`,
 * naming the opcode or global. Memory is linear in the bytes read; nothing recurses.
 */
export class Unpickler {
  private at: number;
  private readonly view: DataView;
  private readonly stack: (PickleValue | typeof MARK)[] = [];
  private readonly memo = new Map<number, PickleValue>();
  /** Items copied from one container to another: bounded, or a list copied again and again would grow without end. */
  private copied = 0;

  constructor(private readonly bytes: Uint8Array, private readonly handlers: PickleHandlers, start = 0, private readonly file = 'pickle') {
    this.at = start;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Position after the last byte read: where a following pickle starts. */
  get position(): number {
    return this.at;
  }

  /** Runs to the STOP opcode and returns the value on the stack. */
  load(): PickleValue {
    for (;;) {
      const code = this.byte();
      if (code === 0x2e) return this.pop();
      const step = OPCODES.get(code);
      if (!step) throw this.error('unsupported', `opcode 0x${code.toString(16).padStart(2, '0')} at byte ${this.at - 1} is not one that saved weights use`);
      step(this);
      if (this.stack.length > MAX_STACK) throw this.error('corrupt', `more than ${MAX_STACK} values on the stack`);
    }
  }

  error(code: 'corrupt' | 'unsupported', why: string): SimmimError {
    return new SimmimError(code, OP, `${this.file}: ${why}`);
  }

  // ---- reading

  private need(count: number): number {
    const from = this.at;
    if (count < 0 || from + count > this.bytes.length) throw this.error('corrupt', `needs ${count} bytes at byte ${from} of ${this.bytes.length}: truncated`);
    this.at += count;
    return from;
  }
  byte(): number {
    return this.view.getUint8(this.need(1));
  }
  uint16(): number {
    return this.view.getUint16(this.need(2), true);
  }
  uint32(): number {
    return this.view.getUint32(this.need(4), true);
  }
  int32(): number {
    return this.view.getInt32(this.need(4), true);
  }
  uint64(): number {
    const value = this.view.getBigUint64(this.need(8), true);
    return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
  }
  float64(): number {
    return this.view.getFloat64(this.need(8), false);
  }
  text(length: number): string {
    const from = this.need(length);
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + from, length).toString('utf8');
  }
  raw(length: number): Uint8Array {
    const from = this.need(length);
    return this.bytes.slice(from, from + length);
  }
  line(): string {
    const limit = Math.min(this.bytes.length, this.at + 4096);
    const end = this.bytes.subarray(this.at, limit).indexOf(10);
    if (end < 0) throw this.error('corrupt', `no end of line after byte ${this.at}`);
    const text = this.text(end);
    this.at += 1;
    return text;
  }
  /** Two's complement little-endian, `length` bytes. */
  long(length: number): number | bigint {
    if (length > 1024) throw this.error('unsupported', `an integer of ${length} bytes`);
    let value = 0n;
    const from = this.need(length);
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.bytes[from + i] as number);
    if (length > 0) value = BigInt.asIntN(length * 8, value);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  // ---- stack and memo

  push(value: PickleValue | typeof MARK): void {
    this.stack.push(value);
  }
  pop(): PickleValue {
    const value = this.stack.pop();
    if (value === undefined || value === MARK) throw this.error('corrupt', `a value is missing on the stack at byte ${this.at - 1}`);
    return value;
  }
  top(): PickleValue {
    const value = this.stack[this.stack.length - 1];
    if (value === undefined || value === MARK) throw this.error('corrupt', `a value is missing on the stack at byte ${this.at - 1}`);
    return value;
  }
  popToMark(): PickleValue[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) throw this.error('corrupt', `a mark is missing on the stack at byte ${this.at - 1}`);
    return this.stack.splice(mark).slice(1) as PickleValue[];
  }
  discard(): void {
    if (this.stack.pop() === undefined) throw this.error('corrupt', `a value is missing on the stack at byte ${this.at - 1}`);
  }
  get(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.error('corrupt', `memo entry ${index} was never stored`);
    this.push(value);
  }
  put(index: number): void {
    this.memo.set(index, this.top());
  }
  memoize(): void {
    this.put(this.memo.size);
  }

  // ---- containers and objects

  append(values: PickleValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.error('corrupt', 'appends to something that is not a list');
    for (const value of values) list.push(value);
  }
  setItems(values: PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof PickleDict)) throw this.error('corrupt', 'sets an item of something that is not a dict');
    if (values.length % 2 !== 0) throw this.error('corrupt', 'a dict key has no value');
    for (let i = 0; i < values.length; i += 2) dict.items.set(this.key(values[i] as PickleValue), values[i + 1] as PickleValue);
  }
  addItems(values: PickleValue[]): void {
    const set = this.top();
    if (!(set instanceof PickleSet)) throw this.error('corrupt', 'adds to something that is not a set');
    for (const value of values) set.items.add(this.key(value));
  }
  private key(value: PickleValue): PickleValue {
    if (value instanceof PickleDict || value instanceof PickleSet) throw this.error('corrupt', 'a dict is used as a key');
    return value;
  }

  global(module: string, name: string): void {
    // Python 2 called the module __builtin__.
    const full = `${module === '__builtin__' ? 'builtins' : module}.${name}`;
    if (!DICT_CLASSES.has(full) && full !== SET_CLASS && !FACTORIES.has(full) && !this.handlers.allows(full)) {
      throw this.error('unsupported', `it names the global '${full}', which saved weights have no need of; nothing was run. Re-save the weights as safetensors`);
    }
    this.push(new PickleGlobal(full));
  }
  stackGlobal(): void {
    const name = this.pop();
    const module = this.pop();
    if (typeof name !== 'string' || typeof module !== 'string') throw this.error('corrupt', 'a global is not named by two strings');
    this.global(module, name);
  }
  call(): void {
    const args = this.pop();
    const target = this.pop();
    if (!(target instanceof PickleGlobal)) throw this.error('corrupt', 'calls something that is not a global');
    if (!Array.isArray(args)) throw this.error('corrupt', `arguments of ${target.name} are not a tuple`);
    if (DICT_CLASSES.has(target.name)) this.push(this.newDict(target.name, args));
    else if (target.name === SET_CLASS) this.push(this.newSet(args));
    else this.push(this.handlers.reduce(target.name, args));
  }
  private newDict(className: string, args: PickleValue[]): PickleDict {
    const dict = new PickleDict(className);
    if (className === 'collections.defaultdict') return dict; // its items follow; its argument only makes values that are missing
    if (Array.isArray(args[0])) this.spend(args[0].length);
    // OrderedDict of Python 2 pickles its items as a list of pairs.
    if (args.length === 1 && Array.isArray(args[0])) {
      for (const pair of args[0]) {
        if (!Array.isArray(pair) || pair.length !== 2) throw this.error('corrupt', `items of ${className} are not pairs`);
        dict.items.set(this.key(pair[0] as PickleValue), pair[1] as PickleValue);
      }
    } else if (args.length > 0) throw this.error('unsupported', `${className} with ${args.length} arguments`);
    return dict;
  }
  private spend(items: number): void {
    this.copied += items;
    if (this.copied > this.bytes.length) throw this.error('corrupt', 'copies the same items over and over');
  }
  private newSet(args: PickleValue[]): PickleSet {
    const set = new PickleSet();
    if (args.length > 1 || (args.length === 1 && !Array.isArray(args[0]))) throw this.error('corrupt', 'set takes one list');
    const values = (args[0] as PickleValue[] | undefined) ?? [];
    this.spend(values.length);
    for (const value of values) set.items.add(this.key(value));
    return set;
  }
  build(): void {
    const state = this.pop();
    const target = this.top();
    if (target instanceof PickleObject) return target.setState(state);
    if (!(target instanceof PickleDict)) throw this.error('unsupported', 'sets the state of something that is not a dict');
    if (!(state instanceof PickleDict)) throw this.error('unsupported', `state of ${target.className} is not a dict`);
    this.spend(state.items.size);
    for (const [key, value] of state.items) {
      if (typeof key !== 'string') throw this.error('corrupt', `${target.className} has an attribute whose name is not a string`);
      target.attributes.set(key, value);
    }
  }
  persistent(): void {
    this.push(this.handlers.persistent(this.pop()));
  }
}

type Step = (u: Unpickler) => void;
const tuple = (count: number): Step => (u) => {
  const items: PickleValue[] = [];
  for (let i = 0; i < count; i++) items.unshift(u.pop());
  u.push(items);
};

/** Every opcode that is understood, by its byte (names as in Python's pickletools). */
const OPCODES = new Map<number, Step>([
  [0x80, (u) => { const protocol = u.byte(); if (protocol > 5) throw u.error('unsupported', `pickle protocol ${protocol}; 2 to 5 are read`); }], // PROTO
  [0x95, (u) => void u.uint64()], // FRAME
  [0x28, (u) => u.push(MARK)], // MARK
  [0x30, (u) => u.discard()], // POP
  [0x31, (u) => void u.popToMark()], // POP_MARK
  [0x32, (u) => u.push(u.top())], // DUP
  [0x4e, (u) => u.push(null)], // NONE
  [0x88, (u) => u.push(true)], // NEWTRUE
  [0x89, (u) => u.push(false)], // NEWFALSE
  [0x4a, (u) => u.push(u.int32())], // BININT
  [0x4b, (u) => u.push(u.byte())], // BININT1
  [0x4d, (u) => u.push(u.uint16())], // BININT2
  [0x8a, (u) => u.push(u.long(u.byte()))], // LONG1
  [0x8b, (u) => u.push(u.long(u.int32()))], // LONG4
  [0x47, (u) => u.push(u.float64())], // BINFLOAT
  [0x58, (u) => u.push(u.text(u.uint32()))], // BINUNICODE
  [0x8c, (u) => u.push(u.text(u.byte()))], // SHORT_BINUNICODE
  [0x8d, (u) => u.push(u.text(u.uint64()))], // BINUNICODE8
  [0x54, (u) => u.push(u.text(u.int32()))], // BINSTRING: str of Python 2
  [0x55, (u) => u.push(u.text(u.byte()))], // SHORT_BINSTRING
  [0x42, (u) => u.push(u.raw(u.uint32()))], // BINBYTES
  [0x43, (u) => u.push(u.raw(u.byte()))], // SHORT_BINBYTES
  [0x8e, (u) => u.push(u.raw(u.uint64()))], // BINBYTES8
  [0x5d, (u) => u.push([])], // EMPTY_LIST
  [0x6c, (u) => u.push(u.popToMark())], // LIST
  [0x61, (u) => { const value = u.pop(); u.append([value]); }], // APPEND
  [0x65, (u) => { const values = u.popToMark(); u.append(values); }], // APPENDS
  [0x29, (u) => u.push([])], // EMPTY_TUPLE
  [0x74, (u) => u.push(u.popToMark())], // TUPLE
  [0x85, tuple(1)], // TUPLE1
  [0x86, tuple(2)], // TUPLE2
  [0x87, tuple(3)], // TUPLE3
  [0x7d, (u) => u.push(new PickleDict('builtins.dict'))], // EMPTY_DICT
  [0x73, (u) => { const value = u.pop(); const key = u.pop(); u.setItems([key, value]); }], // SETITEM
  [0x75, (u) => { const values = u.popToMark(); u.setItems(values); }], // SETITEMS
  [0x8f, (u) => u.push(new PickleSet())], // EMPTY_SET
  [0x90, (u) => { const values = u.popToMark(); u.addItems(values); }], // ADDITEMS
  [0x63, (u) => { const module = u.line(); u.global(module, u.line()); }], // GLOBAL
  [0x93, (u) => u.stackGlobal()], // STACK_GLOBAL
  [0x68, (u) => u.get(u.byte())], // BINGET
  [0x6a, (u) => u.get(u.uint32())], // LONG_BINGET
  [0x71, (u) => u.put(u.byte())], // BINPUT
  [0x72, (u) => u.put(u.uint32())], // LONG_BINPUT
  [0x94, (u) => u.memoize()], // MEMOIZE
  [0x52, (u) => u.call()], // REDUCE
  [0x81, (u) => u.call()], // NEWOBJ: cls.__new__(cls, *args), the same for the classes allowed here
  [0x62, (u) => u.build()], // BUILD
  [0x51, (u) => u.persistent()], // BINPERSID
]);
