import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** One answer of a bench server; `error` instead of figures when the rival cannot do it. */
export interface Answer {
  seconds?: number[];
  /** Of these, what JavaScript took of the process's main thread. */
  host?: number[];
  value?: number | null;
  peakBytes?: number;
  error?: string;
  [extra: string]: unknown;
}

/** A contestant: a long-lived process of its own that answers JSON lines. */
export class Server {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly answers: ((answer: Answer) => void)[] = [];
  private complaint = '';
  private listener: ((line: string) => void) | undefined;

  constructor(readonly name: string, command: string, args: string[], env: NodeJS.ProcessEnv = {}) {
    this.child = spawn(command, args, { env: { ...process.env, ...env } });
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      if (line.startsWith('{')) this.answers.shift()?.(JSON.parse(line) as Answer);
    });
    createInterface({ input: this.child.stderr }).on('line', (line) => {
      this.complaint = `${this.complaint}${line}\n`.slice(-2000);
      this.listener?.(line);
    });
    const gone = (why: string): void => {
      for (const answer of this.answers.splice(0)) answer({ error: `${why} ${this.complaint}` });
    };
    this.child.on('error', (error) => gone(error.message));
    this.child.on('exit', (code) => gone(`${name} ended with ${code}`));
  }

  ask(request: object): Promise<Answer> {
    return new Promise((resolve) => {
      if (this.child.exitCode !== null) return resolve({ error: `${this.name} has ended: ${this.complaint}` });
      this.answers.push(resolve);
      this.child.stdin.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Hears every line of standard error, such as those of SIMMIM_TRACE. */
  onComplaint(listener: (line: string) => void): void {
    this.listener = listener;
  }

  close(): void {
    this.child.kill();
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);
}

/** Figures of one contestant in one case. */
export interface Result {
  name: string;
  median: number;
  fastest: number;
  samples: number;
  /** Median seconds that JavaScript took. */
  host?: number;
  peakBytes?: number;
  value?: number | null;
  error?: string;
}

/**
 * How many runs of this length a contestant makes in a round that is to be filled: from 5 on (the first one finds what the
 * others left of the caches and cores) up to 200.
 */
const repeatsOf = (seconds: number, fill: number): number => (fill > 0 ? Math.max(5, Math.min(200, Math.ceil(fill / seconds))) : 1);

/**
 * Rounds in which every contestant runs in turn, so that a busy machine disturbs all alike. Each has been set up and has
 * run twice before, not counted: the first run allocates, and a trainer records its step in the second. Short runs are
 * repeated until even the fastest contestant's round takes `fill` seconds, and that once more before, not counted: V8 compiles
 * what has run often, and users call such an op thousands of times. Returns medians per contestant, in order, and the value of
 * the first run.
 */
export async function interleave(servers: readonly Server[], setup: (server: Server) => object, rounds: number, fill = 0): Promise<Result[]> {
  const errors = new Map<Server, string>();
  const values = new Map<Server, number | null | undefined>();
  let repeats = 1;
  for (const server of servers) {
    const ready = await server.ask(setup(server));
    const first = ready.error ? ready : await server.ask({ cmd: 'run', repeats: 1 });
    const second = first.error ? first : await server.ask({ cmd: 'run', repeats: 1 });
    if (second.error) errors.set(server, second.error);
    values.set(server, first.value);
    repeats = Math.max(repeats, ...(second.seconds ?? []).map((s) => repeatsOf(s, fill)));
  }
  if (repeats > 1) for (const server of servers) if (!errors.has(server)) await server.ask({ cmd: 'run', repeats });
  const seconds = new Map<Server, number[]>(servers.map((s) => [s, []]));
  const hosts = new Map<Server, number[]>(servers.map((s) => [s, []]));
  const peaks = new Map<Server, number>();
  for (let round = 0; round < rounds; round++)
    for (const server of servers) {
      if (errors.has(server)) continue;
      const answer = await server.ask({ cmd: 'run', repeats });
      if (answer.error) errors.set(server, answer.error);
      seconds.get(server)?.push(...(answer.seconds ?? []));
      hosts.get(server)?.push(...(answer.host ?? []));
      if (answer.peakBytes) peaks.set(server, answer.peakBytes);
    }
  return servers.map((server) => {
    const samples = seconds.get(server) ?? [];
    const none = samples.length === 0;
    const host = hosts.get(server) ?? [];
    return { name: server.name, median: none ? NaN : median(samples), fastest: none ? NaN : Math.min(...samples), samples: samples.length, ...(host.length > 0 ? { host: median(host) } : {}), peakBytes: peaks.get(server), value: values.get(server), error: errors.get(server) };
  });
}

/** A Markdown table; the first row is the head. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]): string => `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  const [head, ...body] = rows;
  return [line(head ?? []), `| ${widths.map((w) => '-'.repeat(w)).join(' | ')} |`, ...body.map(line)].join('\n');
}
