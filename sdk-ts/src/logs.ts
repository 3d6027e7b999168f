/**
 * Own the log files of an outbox: which entries are live, where they lie, and when files come and
 * go. What is appended here is durable only after `log.sync`.
 *
 * All of it is called by one at a time (`Outbox`).
 */

import { isFractalLBAError, OutboxError } from './errors.js';
import { LogFile } from './journal.js';
import {
  type Entry,
  encodeFrame,
  entryOf,
  firstIdOf,
  idAfter,
  idOf,
  LAST_ID,
  type Letter,
  logName,
  type Place,
  putFrame,
  type Recovered,
  readFrame,
  readLetter,
} from './outbox.js';
import type { Position } from './outcome.js';
import type { Members } from './scanner.js';
import { Space } from './space.js';
import { type Files, renameDurably, unlinkDurably } from './store.js';

/** Hear what becomes of entries on the way. */
export interface LogsListener {
  /** It lies elsewhere now. */
  moved(entry: Entry): void;
  /** Its frame cannot be read any more, and it is no longer live. */
  lost(entry: Entry): void;
}

/** The live entries of an outbox and the files in which they lie. */
export class Logs {
  readonly log: LogFile;
  readonly #files: Files;
  readonly #space: Space;
  readonly #listener: LogsListener;
  #nextId = 1n;
  entries = new Map<string, Entry>();

  constructor(files: Files, fileBytes: number, listener: LogsListener) {
    this.log = new LogFile(files);
    this.#files = files;
    this.#space = new Space(fileBytes);
    this.#listener = listener;
  }

  /** Count the bytes of live entries. */
  get liveBytes(): number {
    return this.#space.liveBytes;
  }

  /** Write an entry under the next id. */
  async put(letter: Letter): Promise<Entry> {
    while (this.#space.isFull(this.log.name)) {
      await this.log.syncNow();
      await this.#create();
      await this.#collect();
    }
    if (this.#nextId === LAST_ID) {
      throw new OutboxError('outbox_full', 'the outbox has given out every id');
    }
    const entry = await this.#write({ ...letter, id: idOf(this.#nextId) });
    this.#nextId++;
    this.entries.set(entry.id, entry);
    return entry;
  }

  /** Write a frame at the end. */
  async append(frame: Members): Promise<Place> {
    const place = await this.log.append(encodeFrame(frame));
    this.#space.grow(this.log.name, place.length);
    return place;
  }

  /** Write a mark. It may be lost: without it the entry is only sent once more. */
  async #mark(entry: Entry, t: string, facts: Members): Promise<void> {
    await this.append({ t, id: entry.id, ...facts }).catch((error: unknown) => {
      if (!isFractalLBAError(error)) throw error;
    });
  }

  /** Note that an entry is held at a position, or without one that it is held no more. */
  async hold(entry: Entry, hold?: Position): Promise<Entry> {
    const held = { ...entry, hold };
    this.entries.set(entry.id, held);
    if (hold) {
      const { region, placement, regionEpoch, seq } = hold;
      const position = `${region}/${placement}/${regionEpoch}/${seq}`;
      await this.#mark(entry, 'hold', { position });
    }
    return held;
  }

  /** Let an entry go with a mark. */
  async release(entry: Entry, t: string, facts: Members = {}): Promise<void> {
    await this.#mark(entry, t, facts);
    this.entries.delete(entry.id);
    this.#space.free(entry);
  }

  /** Read the letter of an entry; undefined if its frame rotted: the entry is given up then. */
  async read(entry: Entry): Promise<Letter | undefined> {
    const { file, offset, length, id } = entry;
    const data = await this.log.guarded(() => this.#files.readAt(file, offset, length));
    const letter = readLetter(readFrame(data)?.value);
    if (letter?.id === id) return letter;
    await this.release(entry, 'release', { reason: 'outbox_corrupt' });
    this.#listener.lost(entry);
    return undefined;
  }

  /** Remove the oldest files as long as nothing in them is live. */
  removeDone(): Promise<void> {
    return this.#remove(this.#space.removable());
  }

  /** Take over what recovery found in the log files. */
  async recover(found: Recovered): Promise<void> {
    const { logs, sizes, cuts, corrupt } = found;
    this.#nextId = found.nextId;
    this.entries = found.entries;
    for (const name of logs) this.#space.start(name, sizes.get(name) as number);
    for (const entry of this.entries.values()) this.#space.hold(entry);
    const newest = logs.at(-1) ?? '';
    const isDamaged = logs.some((name) => corrupt.has(name));
    if (newest && !isDamaged) {
      return this.log.resume(newest, sizes.get(newest) as number, cuts.has(newest));
    }
    this.log.name = newest;
    await this.#create();
    if (!isDamaged) return;
    // All that is live goes to the new file; then the old ones go, oldest first.
    await this.#carry(logs);
    for (const name of logs) {
      if (corrupt.has(name)) {
        await this.log.guarded(() => renameDurably(this.#files, name, `${name}.corrupt`));
        this.#space.forget(name);
      } else await this.#remove([name]);
    }
  }

  /** Name what a recovery sets aside beside the logs, never twice the same. */
  get nextName(): string {
    return idOf(this.#nextId);
  }

  async #write(letter: Letter): Promise<Entry> {
    const place = await this.append(putFrame(letter));
    const entry = entryOf(letter, this.log.name, place);
    this.#space.hold(entry);
    return entry;
  }

  async #create(): Promise<void> {
    const newest = firstIdOf(this.log.name);
    if (newest !== undefined && newest >= this.#nextId) this.#nextId = idAfter(newest);
    await this.log.create(logName(this.#nextId));
    this.#space.start(this.log.name, 0);
  }

  /** Remove files in which nothing is live, oldest first; carry what holds one up. */
  async #collect(): Promise<void> {
    await this.removeDone();
    for (let name = this.#space.toCarry(); name; name = this.#space.toCarry()) {
      await this.#carry([name]);
      await this.#remove([name]);
    }
  }

  /**
   * Remove files, oldest first; each is gone for good before the next one goes.
   *
   * A younger file may hold what became of the entries in an older one.
   */
  async #remove(names: readonly string[]): Promise<void> {
    for (const name of names) {
      await this.log.guarded(() => unlinkDurably(this.#files, name));
      this.#space.forget(name);
    }
  }

  /** Write the live entries of some files again at the end, and make that durable. */
  async #carry(names: readonly string[]): Promise<void> {
    for (const entry of [...this.entries.values()].filter(({ file }) => names.includes(file))) {
      const letter = await this.read(entry);
      if (!letter) continue;
      // Counted in its new place before it is given up in the old one: the disk may be full.
      const moved = await this.#write(letter);
      this.#space.free(entry);
      // The file that goes may hold its mark.
      this.#listener.moved(await this.hold(moved, entry.hold));
    }
    await this.log.syncNow();
  }
}
