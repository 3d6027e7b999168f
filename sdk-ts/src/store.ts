/**
 * Say what an outbox asks of a file system, and own the rule of the owner lock: one live process
 * owns an outbox directory at a time (spec/formats.md 11.11).
 *
 * `Files` is all that is asked, so that a test can fail or stop it at any call. What is written,
 * and in which order, is in `journal.ts` and `spool.ts`.
 */

import { OutboxError } from './errors.js';
import { parseValue } from './scanner.js';
import { sha256 } from './sha256.js';
import { utf8 } from './utf8.js';

const LOCK_NAME = 'outbox.lock';

/** A lock file that cannot be read counts as stale once it is older than this. */
const LOCK_SETTLE_MS = 10_000;

/**
 * One flat directory. Names are file names in it, handles are numbers.
 *
 * Errors have the codes of the system: EEXIST where `create` finds a file, ENOENT where another
 * call finds none, ENOSPC or EDQUOT where the disk is full. Only a sync may take long; it is
 * awaited and blocks nobody.
 */
export interface Files {
  names(): string[];
  read(name: string): Uint8Array;
  /** Give less than `length` bytes at the end of the file. */
  readAt(name: string, offset: number, length: number): Uint8Array;
  /** How long ago a file was written. */
  ageMs(name: string): number;
  create(name: string): number;
  open(name: string): number;
  pwrite(handle: number, data: Uint8Array, offset: number): void;
  truncate(handle: number, size: number): void;
  fsync(handle: number): Promise<void>;
  close(handle: number): void;
  /** Make creations, renames and removals durable. */
  fsyncDir(): Promise<void>;
  rename(old: string, name: string): void;
  unlink(name: string): void;
}

/** Say whether an error of the system has one of these codes. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes((error as { code?: string }).code ?? '');
}

/** Fill a file that was just created and close it; a file that cannot be filled goes. */
export async function writeNew(
  files: Files,
  name: string,
  handle: number,
  data: Uint8Array,
): Promise<void> {
  try {
    files.pwrite(handle, data, 0);
    await files.fsync(handle);
  } catch (error) {
    files.unlink(name);
    throw error;
  } finally {
    files.close(handle);
  }
}

/** Rename a file for good. */
export async function renameDurably(files: Files, old: string, name: string): Promise<void> {
  files.rename(old, name);
  await files.fsyncDir();
}

/** Remove a file for good. */
export async function unlinkDurably(files: Files, name: string): Promise<void> {
  files.unlink(name);
  await files.fsyncDir();
}

// --- the owner lock --------------------------------------------------------------------------

/** Who holds the directory: a process of one boot of one host. */
export interface Owner {
  readonly pid: number;
  /** Empty where the system has none. */
  readonly boot_id: string;
  readonly start_ticks: number;
  readonly host: string;
}

/** Say when a process started (0 where the system does not tell), undefined if it is gone. */
export type TicksOf = (pid: number) => number | undefined;

function textOf(owner: Owner): Uint8Array {
  return utf8(JSON.stringify(owner));
}

/** Read a lock file, or give undefined if it cannot be read. */
function ownerOf(text: Uint8Array): Owner | undefined {
  try {
    const owner = parseValue(text) as Owner;
    const { pid, boot_id, start_ticks, host } = owner;
    const isNumbers = Number.isSafeInteger(pid) && Number.isSafeInteger(start_ticks);
    return isNumbers && typeof boot_id === 'string' && typeof host === 'string' ? owner : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Say whether the holder of a lock is gone, seen from the process `here`.
 *
 * A lock of another host is never stale: nothing here can tell.
 */
export function isStale(
  holder: Owner | undefined,
  here: Owner,
  startTicks: number | undefined,
  ageMs: number,
): boolean {
  if (!holder) return ageMs > LOCK_SETTLE_MS;
  if (holder.host !== here.host) return false;
  return holder.boot_id !== here.boot_id || holder.start_ticks !== startTicks;
}

/**
 * Become the one owner of the directory; throws `outbox_locked`.
 *
 * A stale lock is replaced through a claim: a second file, created exclusively and named by the
 * text of the lock it replaces, which is then renamed over the lock. Two processes that find the
 * same stale lock want the same claim, and only one gets it. Names need no sync: a lock that a
 * power failure forgets was that of another boot.
 */
export async function acquireLock(files: Files, here: Owner, ticksOf: TicksOf): Promise<void> {
  let seen = new Map<string, Uint8Array>();
  let name = LOCK_NAME;
  for (;;) {
    const handle = orUndefined('EEXIST', () => files.create(name));
    if (handle === undefined) {
      const text = orUndefined('ENOENT', () => refuseLive(files, name, here, ticksOf));
      if (text) seen.set(name, text);
      else seen = new Map();
      name = text ? `${LOCK_NAME}.${hex(sha256(text)).slice(0, 16)}` : LOCK_NAME;
      continue;
    }
    await writeNew(files, name, handle, textOf(here));
    if (name === LOCK_NAME) return;
    if ([...seen].every(([each, text]) => isSame(files, each, text))) {
      files.rename(name, LOCK_NAME);
      for (const each of seen.keys()) if (each !== LOCK_NAME) files.unlink(each);
      return;
    }
    files.unlink(name);
    seen = new Map();
    name = LOCK_NAME;
  }
}

/** Do what may fail with one code of the system; give undefined then. */
function orUndefined<T>(code: string, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (hasCode(error, code)) return undefined;
    throw error;
  }
}

/** Give the text of a lock that is stale. */
function refuseLive(files: Files, name: string, here: Owner, ticksOf: TicksOf): Uint8Array {
  const text = files.read(name);
  const ageMs = files.ageMs(name);
  const holder = ownerOf(text);
  if (isStale(holder, here, holder && ticksOf(holder.pid), ageMs)) return text;
  const who = holder ? `process ${holder.pid} on ${holder.host}` : 'an unreadable lock';
  throw new OutboxError(
    'outbox_locked',
    `the outbox belongs to ${who}; if that is gone for good, remove ${name}`,
  );
}

function isSame(files: Files, name: string, text: Uint8Array): boolean {
  return orUndefined('ENOENT', () => `${files.read(name)}`) === `${text}`;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Remove the lock, if it is still this process's own. */
export function releaseLock(files: Files, here: Owner): void {
  if (isSame(files, LOCK_NAME, textOf(here))) files.unlink(LOCK_NAME);
}
