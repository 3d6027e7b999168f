/** Find the published vectors, and other people's, from where the tests are built. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of the repository: tests run from `sdk-ts/build/tests`. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
export const THIRD_PARTY = join(ROOT, 'golden', 'third_party');
const VECTORS = join(ROOT, 'golden', 'vectors');

/** What an operation gets; its own entry knows the members. */
// biome-ignore lint/suspicious/noExplicitAny: the vectors say what stands here, not a type
export type Args = Readonly<Record<string, any>>;
export type Answer = Readonly<Record<string, unknown>>;
export type Entry = (args: Args) => Answer | Promise<Answer>;

export interface Case {
  readonly id: string;
  readonly flags: readonly string[];
  readonly args: Args;
  readonly result: 'valid' | 'invalid' | 'acceptable';
  readonly expect: Record<string, unknown>;
}

export interface Suite {
  readonly name: string;
  readonly op: string;
  readonly flags: Readonly<Record<string, { readonly axis?: string }>>;
  readonly cases: readonly Case[];
}

/** Read every published suite. */
export function suites(): Suite[] {
  return readdirSync(VECTORS).flatMap((folder) =>
    readdirSync(join(VECTORS, folder)).map((file): Suite => {
      const read = JSON.parse(readFileSync(join(VECTORS, folder, file), 'utf8'));
      return { ...read, name: `${folder}/${file}` };
    }),
  );
}

/** Read one published suite. */
export function suite(name: string): Suite {
  const found = suites().find((each) => each.name === name);
  if (!found) throw new Error(`no suite ${name}`);
  return found;
}
