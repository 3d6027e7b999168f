/** What the tests of the outbox share: letters, owners, and an outbox with small files. */

import { type Letter, logName, type OutboxOptions } from '../src/outbox.js';
import type { Bury } from '../src/schedule.js';
import { type Outbox, openFiles } from '../src/spool.js';
import type { Files, Owner } from '../src/store.js';

export const NOW_MS = 1_767_225_600_000;

/** Files of four entries, so that a short scenario rotates, removes and carries. */
export const SMALL_FILE_BYTES = 1_500;

export const CONFLICT: Bury = {
  what: 'bury',
  status: 409,
  code: 'pcs_id_conflict',
  reason: 'other content',
  response: '{}',
};

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const bytesOf = (text: string): Uint8Array => encoder.encode(text);
export const textOf = (bytes: Uint8Array): string => decoder.decode(bytes);

export function letterNo(number: number): Letter {
  const key = number.toString(16).padStart(64, '0');
  const body = bytesOf(`{"n":${number},"x":"${'y'.repeat(number % 7)}"}`);
  return { id: '', pcsId: key, key, kid: `k${number % 2}`, tenant: 'acme', atMs: NOW_MS, body };
}

export const numberOf = ({ key }: { readonly key: string }): number => Number.parseInt(key, 16);

export const idNo = (number: number): string => number.toString(16).padStart(16, '0');

export const logNo = (number: number): string => logName(BigInt(number));

/** Name a process of another boot each time, as after a power failure. */
export function ownerOf(boot: number): Owner {
  return { pid: 1000, boot_id: `boot-${boot}`, start_ticks: 1, host: 'host' };
}

/** Open an outbox with small files, beside which all other processes live. */
export function openBox(files: Files, boot: number, options: OutboxOptions = {}): Promise<Outbox> {
  return openFiles(
    () => files,
    () => ownerOf(boot),
    () => 1,
    options,
    SMALL_FILE_BYTES,
  );
}

/** Give the code of the error with which some work fails; undefined if it does not. */
export async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work;
  } catch (error) {
    return (error as { code?: string }).code ?? `${error}`;
  }
  return undefined;
}
