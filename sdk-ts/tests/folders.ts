/** Where the package is, programs of its development, and folders that go when a test ends. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

/** The folder of the package: tests run from `build/tests`. */
export const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));

/** Make a folder that goes when the test ends. */
export function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** Run a program to its end and give what it printed; what it says on failure is in the error. */
export function run(program: string, args: readonly string[], cwd = PACKAGE): string {
  try {
    return execFileSync(program, args, { cwd, encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(' ')}\n${stdout}\n${stderr}`);
  }
}

/** Name a program of the package's development. */
export function tool(name: string): string {
  return join(PACKAGE, 'node_modules', '.bin', name);
}
