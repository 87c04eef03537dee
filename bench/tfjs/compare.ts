import { cpus } from 'node:os';
import { join } from 'node:path';
import { type Answer, geometricMean, median, Server, table } from '../harness';
import { type Size, SIZES, TFJS_OPS, type TfjsOp } from './ops';

export interface CompareOptions {
  /** Names of ops, all when not given. */
  ops?: string[];
  sizes: string[];
  rivals: string[];
  threads: number;
  rounds: number;
  /** Folder of bench/. */
  folder: string;
}

/** Figures of one op and size: median seconds a call by contestant, and what went wrong with those that have none. */
interface Row {
  op: string;
  size: Size;
  seconds: Record<string, number>;
  fastest: Record<string, number>;
  notes: Record<string, string>;
}

const OURS = 'simmim-cpu';
/** Rivals that the bars name, and how much slower than them an op may be on medium and large sizes. */
const BARS: Record<string, { mean: number }> = { wasm: { mean: 4 }, 'tf-eager': { mean: 1.5 } };
const ALLOWED = 1.05;

function contestant(name: string, folder: string): Server {
  if (!name.startsWith('tf-')) return new Server(name, process.execPath, [join(__dirname, 'rivals/tfjs_server.js'), name], { UV_THREADPOOL_SIZE: '1' });
  return new Server(name, process.env.SIMMIM_PYTHON ?? 'python3', [join(folder, 'rivals/tensorflow_server.py'), name.slice(3)], { CUDA_VISIBLE_DEVICES: '-1' });
}

function request(op: TfjsOp, size: Size, threads: number): object {
  return { cmd: 'setup', op: op.name, size, threads, shapes: op.shapes[size], range: op.range, ids: op.ids && [op.ids.input, op.ids.below[size]] };
}

/** Whether two checksums [weighted sum, sum of magnitudes] can be of one result in float32. */
function agree([a, scale]: [number, number], [b]: [number, number]): boolean {
  return Math.abs(a - b) <= 3e-5 * scale + 1e-6;
}

/** Sets every contestant up, holds their results against each other, then times them in turns. */
async function compareOne(servers: Server[], op: TfjsOp, size: Size, options: CompareOptions): Promise<Row> {
  const row: Row = { op: op.name, size, seconds: {}, fastest: {}, notes: {} };
  const answers = new Map<Server, Answer>();
  for (const server of servers) answers.set(server, await server.ask(request(op, size, options.threads)));
  const [ours] = servers as [Server];
  const own = answers.get(ours) as Answer;
  if (own.error) throw new Error(`${op.name} ${size}: ${own.error}`);
  for (const server of servers) {
    const answer = answers.get(server) as Answer;
    if (answer.error) row.notes[server.name] = answer.error;
    else if (!agree(own.value as unknown as [number, number], answer.value as unknown as [number, number])) row.notes[server.name] = 'gives another result';
  }
  if (servers.length > 1 && Object.values(row.notes).filter((note) => note === 'gives another result').length === servers.length - 1) throw new Error(`${op.name} ${size}: nobody agrees with ${OURS}`);
  const samples = new Map(servers.map((server) => [server, [] as number[]]));
  for (let round = 0; round < options.rounds; round++)
    for (const server of servers) {
      if (answers.get(server)?.error || (answers.get(server)?.slow && round > 0)) continue;
      samples.get(server)?.push(...((await server.ask({ cmd: 'run' })).seconds ?? []));
    }
  for (const [server, list] of samples) {
    if (list.length === 0) continue;
    row.seconds[server.name] = median(list);
    row.fastest[server.name] = Math.min(...list);
  }
  return row;
}

const ratio = (row: Row, rival: string): number => (row.seconds[rival] ?? NaN) / (row.seconds[OURS] as number);
const micro = (seconds: number | undefined): string => (seconds === undefined ? '-' : (seconds * 1e6).toPrecision(3));

function opTable(rows: Row[], rivals: string[]): string {
  return table([
    ['op', 'size', `${OURS} us`, ...rivals.map((r) => `${r} us`), ...rivals.map((r) => `x ${r}`)],
    ...rows.map((row) => [row.op, row.size, micro(row.seconds[OURS]), ...rivals.map((r) => (row.seconds[r] === undefined ? (row.notes[r] ?? '-').slice(0, 40) : micro(row.seconds[r]))), ...rivals.map((r) => (row.seconds[r] === undefined ? '-' : ratio(row, r).toFixed(2)))]),
  ]);
}

/** Geometric means by size, and the cases where a bar is not met. */
function summary(rows: Row[], rivals: string[]): string {
  const means = table([['geometric mean of', ...SIZES.filter((s) => rows.some((row) => row.size === s)), 'all'], ...rivals.map((rival) => {
    const of = (some: Row[]): string => {
      const ratios = some.map((row) => ratio(row, rival)).filter(Number.isFinite);
      return ratios.length > 0 ? `${geometricMean(ratios).toFixed(2)}x` : '-';
    };
    return [`time of ${rival} / time of ${OURS}`, ...SIZES.filter((s) => rows.some((row) => row.size === s)).map((s) => of(rows.filter((row) => row.size === s))), of(rows)];
  })]);
  const missed = rivals.filter((r) => r in BARS).flatMap((rival) => {
    const slower = rows.filter((row) => row.size !== 'small' && ratio(row, rival) * ALLOWED < 1).map((row) => `${row.op} ${row.size} (${ratio(row, rival).toFixed(2)}x)`);
    const ratios = rows.filter((row) => row.size !== 'small').map((row) => ratio(row, rival)).filter(Number.isFinite);
    const mean = ratios.length > 0 ? geometricMean(ratios) : NaN;
    const bar = BARS[rival]?.mean as number;
    return [`- ${rival}, medium and large: mean ${mean.toFixed(2)}x (bar ${bar}x${mean >= bar ? '' : ', NOT met'}); more than 5 % slower in ${slower.length === 0 ? 'no case' : slower.join(', ')}`];
  });
  return `${means}\n\n${missed.join('\n')}`;
}

/** Every op in every size beside the other backends; prints as it goes. Returns the rows and the Markdown of it all. */
export async function compare(options: CompareOptions): Promise<{ rows: Row[]; markdown: string }> {
  const rows: Row[] = [];
  const servers = [OURS, ...options.rivals].map((name) => contestant(name, options.folder));
  try {
    for (const size of SIZES.filter((s) => options.sizes.includes(s)))
      for (const op of TFJS_OPS.filter(({ name }) => !options.ops || options.ops.includes(name))) {
        const row = await compareOne(servers, op, size, options);
        rows.push(row);
        console.log(`${op.name}, ${size}: ${micro(row.seconds[OURS])} us; ${options.rivals.map((r) => `${r} ${row.seconds[r] === undefined ? row.notes[r] : `${ratio(row, r).toFixed(2)}x (fastest ${((row.fastest[r] as number) / (row.fastest[OURS] as number)).toFixed(2)}x)`}`).join(', ')}`);
      }
  } finally {
    servers.forEach((server) => server.close());
  }
  const head = `${cpus()[0]?.model.trim()}, ${options.threads} threads, Node ${process.version}; medians of ${options.rounds} interleaved rounds, microseconds a call; ratios above 1: ${OURS} is faster.`;
  return { rows, markdown: `${head}\n\n${summary(rows, options.rivals)}\n\n${opTable(rows, options.rivals)}\n` };
}
