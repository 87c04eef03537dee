import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { distinctNames } from '../../ts/report/run_record';
import { differenceTable, flatten, thinned, waitShare } from '../../ts/report/curves';
import { escapeHtml, htmlTable } from '../../ts/report/page';
import { EventReporter } from '../../ts/report/tensorboard';
import type { Reporter } from '../../ts/train/trainer';
import type { UpdateRecord } from '../../ts/train/metrics';
import { parseRecipe } from '../../ts/train/recipe';
import { simmim } from '../cli/run_cli';

const dir = mkdtempSync(join(tmpdir(), 'simmim-report-'));
const [one, all] = [join(dir, 'one'), join(dir, 'all')];
const file = join(dir, 'pages/report.html');
let made: Awaited<ReturnType<typeof simmim>>;
const SMALL = ['model.imageSize=32', 'model.patchSize=4', 'model.embedDim=8', 'model.depths=[1]', 'model.heads=[2]', 'model.windowSize=4', 'masking.patchSize=8', 'train.batchSize=8', 'train.epochs=2', 'data.samplesPerEpoch=16', 'data.workers=0', 'validation.images=4', 'validation.everyEpochs=1', 'schedule.warmupEpochs=0'];

beforeAll(async () => {
  for (const [folder, extra] of [[one, []], [all, ['--set', 'loss.maskedOnly=false', '--tensorboard']]] as const) {
    const run = await simmim('pretrain', '--recipe', 'demo', '--out', folder, ...SMALL.flatMap((s) => ['--set', s]), ...extra);
    expect(run.errors).toEqual([]);
  }
  made = await simmim('report', one, all, '--out', file, '--count', '3');
}, 60_000);
afterAll(() => rmSync(dir, { recursive: true }));

/** Throws unless every element is closed in its turn; returns how often each is there. */
function elements(html: string): Record<string, number> {
  const counts: Record<string, number> = {};
  const open: string[] = [];
  for (const [, close, name = '', rest = ''] of html.replace(/<!doctype html>/, '').replace(/<style>[^<]*<\/style>/, '').matchAll(/<(\/?)([a-z][a-z0-9]*)((?:"[^"]*"|[^>"])*)>/g)) {
    if (close) expect(open.pop()).toBe(name);
    else {
      counts[name] = (counts[name] ?? 0) + 1;
      if (!rest.endsWith('/') && !['meta', 'link', 'img'].includes(name)) open.push(name);
    }
  }
  expect(open).toEqual([]);
  return counts;
}

/** Nothing on the page is fetched or run. */
function selfContained(html: string): void {
  expect(html).not.toMatch(/<script|<iframe|@import|url\(|\son\w+=/i);
  for (const [, link = ''] of html.matchAll(/(?:src|href)="([^"]*)"/g)) expect(link).toMatch(/^(data:|#s\d)/);
  expect(html.replaceAll('xmlns="http://www.w3.org/2000/svg"', '')).not.toMatch(/https?:\/\//);
}

test('a report of two runs: well-formed, self-contained, every curve and figure there', async () => {
  expect([made.code, made.errors, made.out]).toEqual([0, [], `wrote ${file}\n`]);
  const html = readFileSync(file, 'utf8');
  selfContained(html);
  const counts = elements(html);
  expect(counts).toMatchObject({ svg: 7, section: 4, figure: 5, h1: 1 });
  for (const title of ['Masked loss in training', 'Masked loss on held-out pictures', 'Learning rate', 'Gradient norm before clipping', 'Throughput', 'Memory of the process', 'Waiting for data', 'Runs side by side: hidden patches, and all patches', 'one: three kinds of mask', 'all: mask patch sizes', 'all: all patches (loss on all)', '16 px, masked', 'the whole middle']) expect(html).toContain(title);
  expect(html).toContain('<tr><td>loss.maskedOnly</td><td>true</td><td>false</td></tr>');
  // 3 pictures: side by side 2 + 2 + 2; three kinds of mask 9; sizes 4, 8 and 16 of 32 px 1 + 2 * 3, of two runs.
  expect(counts.img).toBe(3 * (6 + 2 * (9 + 7)));
  const [, first = ''] = /src="data:image\/png;base64,([^"]*)"/.exec(html) ?? [];
  expect(await sharp(Buffer.from(first, 'base64')).metadata()).toMatchObject({ width: 32, height: 32, format: 'png' });
}, 60_000);

/** A Chromium on the PATH, or null: the tests above hold what can be held without one. */
const chromium = ['chromium', 'chromium-browser', 'google-chrome'].find((name) => spawnSync('which', [name]).status === 0) ?? null;

test.skipIf(chromium === null)('a browser opens it without a word on its console, and finds every part (left out where there is no Chromium)', () => {
  const open = (page: string) => spawnSync(chromium ?? '', ['--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', `--user-data-dir=${join(dir, 'browser')}`, '--virtual-time-budget=2000', '--dump-dom', `file://${page}`], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  const loud = join(dir, 'loud.html');
  writeFileSync(loud, '<!doctype html><script>console.error("heard")</script>');
  expect(open(loud).stderr).toMatch(/CONSOLE.*heard/); // so silence means something
  const { stdout, stderr } = open(file);
  expect(stderr).not.toContain('CONSOLE');
  expect(stdout.match(/<svg/g)).toHaveLength(7);
  expect(stdout.match(/<figure/g)).toHaveLength(5);
}, 120_000);

test('without pictures no model is loaded; a run whose pictures are gone says so and keeps its curves', async () => {
  await simmim('report', one, '--no-pictures');
  const html = readFileSync(join(one, 'report.html'), 'utf8');
  selfContained(html);
  expect(elements(html)).toMatchObject({ svg: 7, section: 2 });
  const moved = join(dir, 'moved');
  mkdirSync(moved);
  for (const name of ['recipe.yaml', 'log.jsonl']) writeFileSync(join(moved, name), readFileSync(join(one, name)));
  const { out } = await simmim('report', moved, '--out', join(dir, 'moved.html'));
  expect(out).toContain('note: moved: no reconstructions: ');
  expect(elements(readFileSync(join(dir, 'moved.html'), 'utf8')).svg).toBe(7);
});

test('probes appear as curves over layers and epochs, and as a table', async () => {
  const probe = { encoder: 'x', digest: '', train: { source: '', pictures: 9 }, validation: { source: '', pictures: 4 }, classes: ['a', 'b'], pooling: 'mean', broken: [] };
  const result = (method: string, label: string, top1: number, curve?: number[]): object => ({ method, layer: { name: label, label, channels: 4 }, top1, top5: null, right: '1100', ...(curve ? { curve } : {}) });
  mkdirSync(join(one, 'probe'));
  writeFileSync(join(one, 'probe/probe.json'), JSON.stringify({ ...probe, results: [result('logistic', 'block 1', 50), result('logistic', 'norm', 62.5), result('linear', 'norm', 60, [40, 60])], baseline: { ...probe, results: [result('logistic', 'block 1', 25), result('logistic', 'norm', 31.25)] } }));
  await simmim('report', one, '--no-pictures', '--out', join(dir, 'probe.html'));
  const html = readFileSync(join(dir, 'probe.html'), 'utf8');
  elements(html);
  for (const part of ['Frozen features', 'Logistic regression', "Linear probe (MAE&#39;s): epochs".replace('&#39;', "'"), 'one: random start', '<td>one</td><td>logistic</td><td>norm</td><td class="n">62.50</td><td></td><td class="n">31.25</td>']) expect(html).toContain(part);
  writeFileSync(join(one, 'probe/probe.json'), '{');
  expect((await simmim('report', one, '--no-pictures')).errors[0]).toMatch(/probe.json' is not what 'simmim probe' writes/);
  rmSync(join(one, 'probe'), { recursive: true });
});

/** Tags, steps and values of an event file, and at which steps a session starts: the parts of event.proto that are written. */
function readEvents(file: string): { tag: string; step: number; value: number }[] {
  const bytes = readFileSync(file);
  const found: { tag: string; step: number; value: number }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    const message = fields(bytes.subarray(at + 12, at + 12 + length));
    at += 16 + length;
    const step = Number(message.get(2) ?? 0);
    if (message.has(7)) found.push({ tag: 'session', step, value: Number(fields(message.get(7) as Buffer).get(1)) });
    if (!message.has(5)) continue;
    const value = fields(fields(message.get(5) as Buffer).get(1) as Buffer);
    found.push({ tag: String(value.get(1)), step, value: (value.get(2) as Buffer).readFloatLE(0) });
  }
  return found;
}

function fields(bytes: Buffer): Map<number, number | Buffer> {
  const found = new Map<number, number | Buffer>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const wire = key & 7;
    if (wire === 0) found.set(key >> 3, varint());
    else {
      const size = wire === 1 ? 8 : wire === 5 ? 4 : varint();
      found.set(key >> 3, bytes.subarray(at, at + size));
      at += size;
    }
  }
  return found;
}

test('TensorBoard: from the log afterwards, and beside it while training', async () => {
  const folder = join(dir, 'board');
  const { out } = await simmim('report', one, all, '--tensorboard', folder);
  expect(out).toContain(`tensorboard --logdir ${folder}`);
  const events = (path: string): string => join(path, readdirSync(path).find((f) => f.startsWith('events.out.tfevents')) ?? '');
  const log = readFileSync(join(all, 'log.jsonl'), 'utf8').trim().split('\n').map((l) => JSON.parse(l) as { kind: string; step: number; loss: number });
  for (const path of [join(folder, 'all'), join(all, 'tensorboard')]) {
    const found = readEvents(events(path));
    expect(found.filter((e) => e.tag === 'train/loss').map((e) => [e.step, e.value])).toEqual(log.filter((r) => r.kind === 'update').map((r) => [r.step, Math.fround(r.loss)]));
    expect(found.filter((e) => e.tag === 'validation/loss').map((e) => [e.step, e.value])).toEqual(log.filter((r) => r.kind === 'validation').map((r) => [r.step, Math.fround(r.loss)]));
    expect(found.some((e) => e.tag === 'session')).toBe(false);
    expect(new Set(found.map((e) => e.tag))).toEqual(new Set(['train/loss', 'train/lr', 'train/gradient_norm', 'speed/images_per_second', 'speed/data_seconds', 'memory/resident_bytes', 'epoch', 'validation/loss', 'validation/constant_loss']));
  }
});

test('a run that continues takes back what the earlier event file says beyond its checkpoint', () => {
  const noted: string[] = [];
  const inner: Reporter = { update: () => undefined, validation: () => undefined, checkpoint: (folder) => void noted.push(folder), note: (sentence) => void noted.push(sentence) };
  const reporter = new EventReporter(inner, join(dir, 'continued'), 5);
  reporter.note('a');
  reporter.checkpoint('b');
  reporter.close();
  const [file = ''] = readdirSync(join(dir, 'continued'));
  expect(readEvents(join(dir, 'continued', file))).toEqual([{ tag: 'session', step: 6, value: 1 }]);
  expect(noted).toEqual(['a', 'b']);
});

test('names, thinning, tables', () => {
  expect(distinctNames(['/a/b/run', '/a/c/run', '/x'])).toEqual(['b/run', 'c/run', 'x']);
  const updates = Array.from({ length: 900 }, (_, i): UpdateRecord => ({ kind: 'update', step: i + 1, epoch: 0, loss: i, lr: 0, gradientNorm: 0, imagesPerSecond: 10, dataSeconds: 0.5, memory: 1 }));
  expect(thinned(updates, (r) => r.loss)).toHaveLength(300);
  expect(thinned(updates, (r) => r.loss)[1]).toEqual({ x: 6, y: 4 });
  expect(waitShare(updates, 20)).toBeCloseTo(0.25, 12); // half a second of each two
  const run = (recipe: object) => ({ name: JSON.stringify(recipe), folder: '', recipe: parseRecipe(recipe), updates: [], validations: [], evaluation: null, probe: null });
  expect(differenceTable([run({}), run({ train: { seed: 1 } })]).rows).toEqual([['train.seed', '0', '1']]);
  expect([...flatten({ a: { b: [1, 2] }, c: null })]).toEqual([['a.b', '[1,2]'], ['c', 'null']]);
  expect(htmlTable({ headings: ['<x>'], rows: [['1 %'], [null]] })).toContain('<th>&#60;x&#62;</th>');
  expect(escapeHtml('a"<\u0001')).toBe('a&#34;&#60;');
});

test('preview shows crops and masks of several epochs', async () => {
  const { errors } = await simmim('preview', '--recipe', 'demo', '--count', '2', '--draws', '2', '--out', join(dir, 'seen/p.html'), ...SMALL.flatMap((s) => ['--set', s]));
  expect(errors).toEqual([]);
  const html = readFileSync(join(dir, 'seen/p.html'), 'utf8');
  selfContained(html);
  expect(elements(html)).toMatchObject({ img: 8, tr: 3 });
  const { data, info } = await sharp(join(dir, 'seen/p.png')).raw().toBuffer({ resolveWithObject: true });
  expect([info.width, info.height]).toEqual([4 + 4 * 164, 4 + 2 * 164]);
  // Column 2 is column 1 with whole cells of 8 px (40 shown) grey.
  const at = (x: number, y: number): number[] => [...data.subarray((y * info.width + x) * info.channels, (y * info.width + x) * info.channels + 3)];
  let hidden = 0;
  for (let cell = 0; cell < 16; cell++) {
    const [x, y] = [4 + 20 + 40 * (cell % 4), 4 + 20 + 40 * Math.floor(cell / 4)];
    const masked = at(x + 164, y);
    if (masked.join() === '128,128,128') hidden++;
    else expect(masked).toEqual(at(x, y));
  }
  expect(hidden).toBe(10); // ceil(16 * 0.6)
  expect((await simmim('preview')).errors[0]).toContain('give --recipe NAME');
});

test.each([
  [['report'], "missing required argument 'runs'"],
  [['report', join(dir, 'nowhere')], "report: no folder '"],
  [['report', dir], 'is not the folder of a run: it has no recipe.yaml'],
])('refused in one sentence: %j', async (args, sentence) => {
  const { code, errors } = await simmim(...args);
  expect(code).toBe(1);
  expect(errors).toEqual([expect.stringContaining(sentence)]);
});
