/** Count bytes per log file of an outbox, and decide rotation, removal and carrying forward. */

import type { Entry } from './outbox.js';

interface Used {
  /** Bytes of the file. */
  size: number;
  /** Live entries. */
  entries: number;
}

/** The log files of an outbox, oldest first; the last one is being written. */
export class Space {
  readonly #files = new Map<string, Used>();
  readonly #fileBytes: number;
  /** Bytes of live entries, in all files. */
  liveBytes = 0;

  constructor(fileBytes: number) {
    this.#fileBytes = fileBytes;
  }

  /** Add a file; files are added oldest first. */
  start(name: string, size: number): void {
    this.#files.set(name, { size, entries: 0 });
  }

  /** Count bytes that were appended. */
  grow(name: string, bytes: number): void {
    this.#of(name).size += bytes;
  }

  /** Count a live entry in its file. */
  hold({ file, length }: Entry): void {
    this.#count(file, length, 1);
  }

  /** Count an entry as no longer live. */
  free({ file, length }: Entry): void {
    this.#count(file, -length, -1);
  }

  /** Remove a file from the books once it is gone. */
  forget(name: string): void {
    this.#files.delete(name);
  }

  /** Say whether a file must get a successor before the next `put`. */
  isFull(name: string): boolean {
    return this.#of(name).size >= this.#fileBytes;
  }

  /** Name the oldest files as long as nothing in them is live; never the last one. */
  removable(): string[] {
    const names = [...this.#files.keys()];
    const held = names.findIndex((name) => this.#of(name).entries);
    return names.slice(0, held < 0 ? -1 : held);
  }

  /**
   * Name the oldest file if garbage outweighs what is live by more than two files.
   *
   * Its live entries are then written again at the end, so that one entry that waits for days does
   * not keep everything that was written after it.
   */
  toCarry(): string | undefined {
    let total = 0;
    for (const { size } of this.#files.values()) total += size;
    const isLight = total <= 2 * this.liveBytes + 2 * this.#fileBytes;
    const [oldest] = this.#files.keys();
    return isLight || this.#files.size < 2 ? undefined : oldest;
  }

  #of(name: string): Used {
    return this.#files.get(name) as Used;
  }

  #count(name: string, length: number, entries: number): void {
    this.#of(name).entries += entries;
    this.liveBytes += length;
  }
}
