import { vi } from 'vitest';
import { main } from '../../ts/cli/main';

/** Runs the command line here; returns its exit code, its output and its complaints. */
export async function simmim(...args: string[]): Promise<{ code: number; out: string; errors: string[] }> {
  const errors: string[] = [];
  let out = '';
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  try {
    return { code: await main(args, (line) => errors.push(line)), out, errors };
  } finally {
    spy.mockRestore();
  }
}
