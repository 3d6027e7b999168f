/**
 * A directory in memory that fails or stops at the k-th call and forgets what was not synced.
 *
 * Content is durable after `fsync`, a name after `fsyncDir`. `crash` gives the directory as a
 * machine would find it after a power failure.
 */

import type { Files } from '../src/store.js';

/** How old everything is when the machine is back. */
const REBOOT_MS = 60_000;

export type How = '' | 'fail' | 'full' | 'stop' | 'torn';
export type Image = 'synced' | 'all' | 'names' | 'last';

export const IMAGES: readonly Image[] = ['synced', 'all', 'names', 'last'];

/** Give an error of the system. */
export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: scripted`), { code });
}

/** One file: what a reader sees, and what a power failure leaves of it. */
interface Inode {
  data: Uint8Array;
  durable: Uint8Array;
  ageMs: number;
}

/**
 * Count the calls that change something; at call number `at` do what `how` says.
 *
 * `how` is "fail" (an I/O error, once), "full" (no space, once), "stop" (the machine is gone,
 * before the call), "torn" (a write gets half way, then the machine is gone) or "" (never).
 */
export class FaultFiles implements Files {
  readonly inodes = new Map<string, Inode>();
  readonly log: string[] = [];
  #durableNames = new Map<string, Inode>();
  #unsynced: { name: string; inode: Inode | undefined; old: string | undefined }[] = [];
  readonly #handles = new Map<number, Inode>();
  #nextHandle = 100;
  at: number;
  how: How;
  gone = false;
  calls = 0;
  /** Is called with the name of a call before it is made. */
  before: (call: string, name: string) => void = () => {};
  /** Is waited for before a sync is made. */
  gate: Promise<void> | undefined;

  constructor(at = 0, how: How = '') {
    this.at = at;
    this.how = how;
  }

  /**
   * Give what is there after the machine comes back.
   *
   * `image` is "synced" (nothing else), "all" (everything had reached the disk in time), "names"
   * (names had, content had not) or "last" (of the names only the last change had).
   */
  crash(image: Image): FaultFiles {
    const after = new FaultFiles();
    const isStrict = image === 'synced' || image === 'last';
    const names = new Map(isStrict ? this.#durableNames : this.inodes);
    const last = this.#unsynced.at(-1);
    if (image === 'last' && last) {
      names.delete(last.old ?? last.name);
      if (last.inode) names.set(last.name, last.inode);
      else names.delete(last.name);
    }
    for (const [name, { data, durable }] of names) {
      after.place(name, image === 'all' ? data : durable, REBOOT_MS);
    }
    return after;
  }

  /** Place a durable file. */
  place(name: string, data: Uint8Array, ageMs = 0): void {
    const inode = { data: data.slice(), durable: data.slice(), ageMs };
    this.inodes.set(name, inode);
    this.#durableNames.set(name, inode);
  }

  /** Give a directory with the same files, and another fault. */
  copy(at = 0, how: How = ''): FaultFiles {
    const other = new FaultFiles(at, how);
    for (const [name, { data, ageMs }] of this.inodes) other.place(name, data, ageMs);
    return other;
  }

  /** Count the handles that nobody closed. */
  get openHandles(): number {
    return this.#handles.size;
  }

  // --- the interface ---------------------------------------------------------------------------

  names(): string[] {
    this.#check();
    return [...this.inodes.keys()];
  }

  read(name: string): Uint8Array {
    this.before('read', name);
    return this.#of(name).data.slice();
  }

  readAt(name: string, offset: number, length: number): Uint8Array {
    return this.#of(name).data.slice(offset, offset + length);
  }

  ageMs(name: string): number {
    this.before('ageMs', name);
    return this.#of(name).ageMs;
  }

  create(name: string): number {
    this.before('create', name);
    this.#check();
    if (this.inodes.has(name)) throw systemError('EEXIST');
    this.#step('create', name);
    const inode = { data: new Uint8Array(), durable: new Uint8Array(), ageMs: 0 };
    this.inodes.set(name, inode);
    this.#unsynced.push({ name, inode, old: undefined });
    return this.#handle(inode);
  }

  open(name: string): number {
    const inode = this.#of(name);
    this.#step('open', name);
    return this.#handle(inode);
  }

  pwrite(handle: number, data: Uint8Array, offset: number): void {
    const inode = this.#inode(handle);
    try {
      this.#step('pwrite', data.length);
    } catch (error) {
      const isPartial = this.how !== 'stop' && this.calls === this.at;
      // As far as there was space, or time.
      if (isPartial) write(inode, data.subarray(0, data.length >> 1), offset);
      throw error;
    }
    write(inode, data, offset);
  }

  truncate(handle: number, size: number): void {
    const inode = this.#inode(handle);
    this.#step('truncate', size);
    inode.data = inode.data.slice(0, size);
  }

  async fsync(handle: number): Promise<void> {
    const inode = this.#inode(handle);
    this.before('fsync', '');
    await this.gate;
    // What is written from here on is not part of this sync.
    const data = inode.data.slice();
    this.#step('fsync', handle);
    inode.durable = data;
  }

  close(handle: number): void {
    this.#check();
    this.#handles.delete(handle);
  }

  async fsyncDir(): Promise<void> {
    this.#step('fsyncDir', '');
    this.#durableNames = new Map(this.inodes);
    this.#unsynced = [];
  }

  rename(old: string, name: string): void {
    this.before('rename', old);
    const inode = this.#of(old);
    this.#step('rename', `${old} ${name}`);
    this.inodes.delete(old);
    this.inodes.set(name, inode);
    this.#unsynced.push({ name, inode, old });
  }

  unlink(name: string): void {
    this.#of(name);
    this.#step('unlink', name);
    this.inodes.delete(name);
    this.#unsynced.push({ name, inode: undefined, old: undefined });
  }

  // --- inside ----------------------------------------------------------------------------------

  #of(name: string): Inode {
    this.#check();
    const inode = this.inodes.get(name);
    if (!inode) throw systemError('ENOENT');
    return inode;
  }

  #inode(handle: number): Inode {
    const inode = this.#handles.get(handle);
    if (!inode) throw systemError('EBADF');
    return inode;
  }

  #handle(inode: Inode): number {
    this.#handles.set(++this.#nextHandle, inode);
    return this.#nextHandle;
  }

  #check(): void {
    if (this.gone) throw systemError('the machine has stopped');
  }

  /** Count a call and fail it if it is its turn. */
  #step(call: string, what: string | number): void {
    this.#check();
    this.log.push(`${++this.calls} ${call} ${what}`);
    if (this.calls !== this.at) return;
    if (this.how === 'fail') throw systemError('EIO');
    if (this.how === 'full' && /create|pwrite/.test(call)) throw systemError('ENOSPC');
    if (this.how === 'stop' || this.how === 'torn') {
      this.gone = true;
      this.#check();
    }
  }
}

function write(inode: Inode, data: Uint8Array, offset: number): void {
  const end = Math.max(inode.data.length, offset + data.length);
  const grown = new Uint8Array(end);
  grown.set(inode.data);
  grown.set(data, offset);
  inode.data = grown;
}
