/**
 * Keep an outbox in a directory, under Node, Deno and Bun: the entry `./outbox-node`.
 *
 *     const outbox = await openOutbox('/var/lib/producer/outbox');
 *     const client = new FractalLBAClient({ endpoints, signer, tenant, outbox });
 *
 * This is the only file that imports `node:`. On Linux it reads /proc, to know whether the owner of
 * a lock lives; Deno lets only programs with `--allow-all` do that.
 */

import {
  closeSync,
  fsync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import process from 'node:process';
import { configError } from './errors.js';
import type { OutboxOptions } from './outbox.js';
import { type Outbox, openFiles } from './spool.js';
import { type Files, hasCode, type Owner } from './store.js';

export type { DeadLetter, Letter, OutboxOptions, OutboxStats } from './outbox.js';
export type { Group } from './schedule.js';
export type { Outbox } from './spool.js';

/** Windows has no modes, and cannot sync a directory. */
const isWindows = process.platform === 'win32';

/**
 * Open or create the outbox in a directory, and recover what a crash left there.
 *
 * The directory must be open to its owner alone; it is created with mode 0700. Throws OutboxError
 * `outbox_locked` if a live process has it, and `outbox_corrupt` if it cannot be read or written at
 * all; damaged files are set aside, counted in `stats()`, and told to the first client.
 */
export async function openOutbox(directory: string, options?: OutboxOptions): Promise<Outbox> {
  return openFiles(() => directoryFiles(directory), thisProcess, startTicksOf, options);
}

/** Give a directory of mode 0700 with files of mode 0600. */
export function directoryFiles(directory: string): Files {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (!isWindows && statSync(directory).mode & 0o077) {
    throw configError('outbox', 'a directory open to its owner alone (chmod 700)', directory);
  }
  const path = (name: string): string => `${directory}/${name}`;
  const sync = (handle: number): Promise<void> =>
    new Promise((resolve, reject) => {
      fsync(handle, (error) => (error ? reject(error) : resolve()));
    });
  return {
    names: () => readdirSync(directory),
    // Plain bytes: a Buffer turns into text in its own way.
    read: (name) => new Uint8Array(readFileSync(path(name))),
    readAt: (name, offset, length) => {
      const handle = openSync(path(name), 'r');
      try {
        const data = new Uint8Array(length);
        return data.subarray(0, readSync(handle, data, 0, length, offset));
      } finally {
        closeSync(handle);
      }
    },
    ageMs: (name) => Date.now() - statSync(path(name)).mtimeMs,
    create: (name) => openSync(path(name), 'wx+', 0o600),
    open: (name) => openSync(path(name), 'r+'),
    pwrite: (handle, data, offset) => {
      for (let at = 0; at < data.length; ) {
        at += writeSync(handle, data, at, data.length - at, offset + at);
      }
    },
    truncate: ftruncateSync,
    fsync: sync,
    close: closeSync,
    fsyncDir: async () => {
      if (isWindows) return;
      const handle = openSync(directory, 'r');
      await sync(handle).finally(() => closeSync(handle));
    },
    rename: (old, name) => renameSync(path(old), path(name)),
    unlink: (name) => unlinkSync(path(name)),
  };
}

// --- processes -------------------------------------------------------------------------------

/**
 * Read a file of the system; undefined where there is none.
 *
 * What may not be read throws: it must not be taken for a process that is gone.
 */
function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** Say when a process started (0 where the system does not tell), undefined if it is gone. */
export function startTicksOf(pid: number, proc = '/proc'): number | undefined {
  const text = textOf(`${proc}/${pid}/stat`);
  if (text === undefined) {
    return textOf(`${proc}/self/stat`) === undefined && answersSignal(pid) ? 0 : undefined;
  }
  // The name of the program, in parentheses, may hold blanks and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  // A zombie is gone: nobody has waited for it yet.
  return /[ZX]/.test(fields[0] as string) ? undefined : +(fields[19] as string);
}

function answersSignal(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return !hasCode(error, 'ESRCH');
  }
}

/** Describe this process as the owner of a lock. */
export function thisProcess(): Owner {
  const { pid } = process;
  const boot = textOf('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
  return { pid, boot_id: boot, start_ticks: startTicksOf(pid) ?? 0, host: hostname() };
}
