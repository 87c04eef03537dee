/** The list of a folder's tar shards that `packDataset` writes: what makes a missing, cut or swapped shard a clear sentence. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SimmimError } from '../errors';

/** The file beside the shards. */
export const SHARD_INDEX = 'shards.json';

export interface ShardRecord {
  file: string;
  bytes: number;
  pictures: number;
  sha256: string;
}

const OP = 'dataset';

/** The records of a folder of shards; null where there is no list (shards of another tool). Throws corrupt for an unreadable one. */
export function readShardIndex(folder: string): ShardRecord[] | null {
  const file = join(folder, SHARD_INDEX);
  if (!existsSync(file)) return null;
  try {
    const { format, shards } = JSON.parse(readFileSync(file, 'utf8')) as { format?: unknown; shards?: ShardRecord[] };
    if (format !== 1 || !Array.isArray(shards) || !shards.every((s) => typeof s.file === 'string' && Number.isSafeInteger(s.bytes) && typeof s.sha256 === 'string')) throw new Error('it is no list of shards of format 1');
    return shards;
  } catch (error) {
    throw new SimmimError('corrupt', OP, `'${file}' cannot be understood: ${(error as Error).message}`);
  }
}

/** Throws when the shards found in a folder are not those of its list, or have another size. */
export function checkShardSizes(folder: string, found: readonly string[], records: readonly ShardRecord[]): void {
  const names = new Set(found.map((file) => basename(file)));
  const missing = records.find(({ file }) => !names.has(file));
  if (missing) throw new SimmimError('not_found', OP, `shard '${missing.file}' of '${folder}' is missing: ${SHARD_INDEX} lists ${records.length} shards, ${names.size} are there`);
  const listed = new Map(records.map((r) => [r.file, r]));
  for (const file of found) {
    const record = listed.get(basename(file));
    if (!record) throw new SimmimError('corrupt', OP, `shard '${basename(file)}' of '${folder}' is not in its ${SHARD_INDEX}: it belongs to another pack`);
    const { size } = statSync(file);
    if (size !== record.bytes) throw new SimmimError('corrupt', OP, `shard '${record.file}' of '${folder}' has ${size} bytes, expected ${record.bytes}: it was cut off or replaced`);
  }
}

/** Reads every shard of a folder and compares it with its checksum. Returns the damaged ones' names; null where there is no list. */
export async function damagedShards(folder: string): Promise<string[] | null> {
  const records = readShardIndex(folder);
  if (!records) return null;
  const damaged: string[] = [];
  for (const { file, sha256 } of records) {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(join(folder, file))) hash.update(chunk as Buffer);
    if (hash.digest('hex') !== sha256) damaged.push(file);
  }
  return damaged;
}
