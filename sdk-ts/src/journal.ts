/**
 * Append frames durably: the current log file of the outbox, and its dead-letter file.
 *
 * Both track their own end and write there. A full disk refuses the frame and changes nothing; any
 * other error closes the outbox for good, because after a failed sync nobody knows what is on disk
 * and only a fresh recovery can tell.
 */

import { errorFor } from './codes.js';
import { isFractalLBAError, OutboxError } from './errors.js';
import {
  DEAD_LOG,
  type DeadLetter,
  deadFrame,
  encodeFrame,
  type Place,
  readDeadLetter,
  readFrame,
} from './outbox.js';
import { type Files, hasCode, renameDurably, unlinkDurably, writeNew } from './store.js';

const DEAD_TEMPORARY = 'dead.tmp';

/** Do what takes space: a full disk is `outbox_full`. */
async function spend<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!hasCode(error, 'ENOSPC', 'EDQUOT')) throw error;
    throw new OutboxError('outbox_full', 'the disk is full', { cause: error });
  }
}

/** Write at the end of a file. What a full disk took of it is cut off again. */
async function write(files: Files, handle: number, data: Uint8Array, at: number): Promise<void> {
  try {
    await spend(() => files.pwrite(handle, data, at));
  } catch (error) {
    if (isFractalLBAError(error)) files.truncate(handle, at);
    throw error;
  }
}

/** Create a file whose name is durable. */
async function create(files: Files, name: string): Promise<number> {
  const handle = await spend(() => files.create(name));
  try {
    await files.fsyncDir();
  } catch (error) {
    files.close(handle);
    throw error;
  }
  return handle;
}

/**
 * Append to the current log file, with one sync for all who wait (group commit).
 *
 * All but `sync` is called by one at a time.
 */
export class LogFile {
  readonly #files: Files;
  #handle: number | undefined;
  #offset = 0;
  #written = 0;
  #synced = 0;
  #syncing: Promise<void> | undefined;
  #failure: unknown;
  name = '';

  constructor(files: Files) {
    this.#files = files;
  }

  /** Go on in a new file; all of the old one is durable. */
  async create(name: string): Promise<void> {
    const handle = await this.guarded(async () => {
      const created = await create(this.#files, name);
      this.stop();
      return created;
    });
    this.#handle = handle;
    this.#offset = 0;
    this.name = name;
  }

  /** Go on in an existing file behind its first `size` bytes. */
  resume(name: string, size: number, cut: boolean): Promise<void> {
    this.name = name;
    this.#offset = size;
    return this.guarded(async () => {
      const handle = this.#files.open(name);
      this.#handle = handle;
      if (cut) {
        this.#files.truncate(handle, size);
        await this.#files.fsync(handle);
      }
    });
  }

  /** Write at the end, not yet durable; give the place. */
  async append(data: Uint8Array): Promise<Place> {
    const { length } = data;
    const offset = this.#offset;
    await this.guarded(() => write(this.#files, this.checkOpen(), data, offset));
    this.#offset += length;
    this.#written += length;
    return { offset, length };
  }

  /** Wait until all that was appended so far is durable. */
  async sync(): Promise<void> {
    const wanted = this.#written;
    while (this.#synced < wanted) {
      this.#syncing ??= this.#syncOnce();
      await this.#syncing;
    }
  }

  /** Do that now, or throw if the outbox is closed. */
  async syncNow(): Promise<void> {
    this.checkOpen();
    await this.sync();
  }

  async #syncOnce(): Promise<void> {
    const target = this.#written;
    try {
      await this.guarded(() => this.#files.fsync(this.checkOpen()));
      this.#synced = target;
    } finally {
      this.#syncing = undefined;
    }
  }

  /** Close the current file, of which nothing waits for a sync. */
  stop(): void {
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle !== undefined) this.#files.close(handle);
  }

  /** Close the outbox for good if the file system fails in this work. */
  async guarded<T>(work: () => T | Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (isFractalLBAError(error)) throw error;
      this.#failure = error;
      throw this.#failed();
    }
  }

  /** Whether anything can still be appended. */
  get isUsable(): boolean {
    return !this.#failure && this.#handle !== undefined;
  }

  /** Give the handle; throws `outbox_corrupt` if nothing can be appended any more. */
  checkOpen(): number {
    if (this.#failure || this.#handle === undefined) throw this.#failed();
    return this.#handle;
  }

  #failed(): OutboxError {
    const cause = this.#failure;
    const how = cause ? `failed and is closed until it is opened anew: ${cause}` : 'is closed';
    return new OutboxError('outbox_corrupt', `the outbox ${how}`, { cause });
  }
}

/**
 * Keep letters that will not be sent again, each until it is requeued or purged.
 *
 * Each change is durable when the promise resolves. The caller closes the outbox if one fails.
 */
export class DeadFile {
  readonly #files: Files;
  readonly #fileBytes: number;
  readonly places = new Map<string, Place>();
  #handle: number | undefined;
  #size = 0;
  liveBytes = 0;

  constructor(files: Files, fileBytes: number) {
    this.#files = files;
    this.#fileBytes = fileBytes;
  }

  /** Take what recovery found; `size` is where the next frame goes. */
  load(places: ReadonlyMap<string, Place>, size: number): void {
    this.#size = size;
    for (const [id, place] of places) this.#hold(id, place);
  }

  /** Drop a torn tail. */
  async cut(): Promise<void> {
    const handle = await this.#open();
    this.#files.truncate(handle, this.#size);
    await this.#files.fsync(handle);
  }

  /** Keep a letter. */
  async add(letter: DeadLetter): Promise<void> {
    this.#hold(letter.id, await this.#append(encodeFrame(deadFrame(letter))));
  }

  /** Read one letter. */
  read(id: string): DeadLetter {
    const place = this.places.get(id);
    if (!place) throw errorFor('not_found', `the outbox has no dead letter ${id}`);
    const found = readFrame(this.#bytes(place));
    const letter = found && readDeadLetter(found.value);
    if (!letter) throw new OutboxError('outbox_corrupt', `the dead letter ${id} cannot be read`);
    return letter;
  }

  /** Forget a letter; collect garbage when it outweighs what is kept by a file. */
  async drop(id: string, reason: string): Promise<void> {
    await this.#append(encodeFrame({ t: 'release', id, reason }));
    this.liveBytes -= this.places.get(id)?.length ?? 0;
    this.places.delete(id);
    if (this.#size <= 2 * this.liveBytes + this.#fileBytes) return;
    // On a full disk the letter has gone all the same, and the garbage can wait.
    await this.rewrite().catch((error: unknown) => {
      if (!isFractalLBAError(error)) throw error;
    });
  }

  /**
   * Write the letters to a new file and put it in the place of the old one, which is kept under the
   * name `aside`, if there is one. Between the two renames there is no dead-letter file, and
   * `settleNames` finishes the second one.
   */
  async rewrite(aside?: string): Promise<void> {
    const frames = [...this.places].map(([id, place]) => [id, this.#bytes(place)] as const);
    this.stop();
    const text = new Uint8Array(frames.reduce((size, [, data]) => size + data.length, 0));
    const places = new Map<string, Place>();
    let offset = 0;
    for (const [id, data] of frames) {
      text.set(data, offset);
      places.set(id, { offset, length: data.length });
      offset += data.length;
    }
    const files = this.#files;
    // Its name is durable before the old file loses its own.
    const handle = await create(files, DEAD_TEMPORARY);
    await spend(() => writeNew(files, DEAD_TEMPORARY, handle, text));
    if (aside) await renameDurably(files, DEAD_LOG, aside);
    this.#size = offset;
    for (const [id, place] of places) this.places.set(id, place);
    await renameDurably(files, DEAD_TEMPORARY, DEAD_LOG);
  }

  /** Close the file. */
  stop(): void {
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle !== undefined) this.#files.close(handle);
  }

  #hold(id: string, place: Place): void {
    this.places.set(id, place);
    this.liveBytes += place.length;
  }

  #bytes({ offset, length }: Place): Uint8Array {
    return this.#files.readAt(DEAD_LOG, offset, length);
  }

  async #append(data: Uint8Array): Promise<Place> {
    const handle = await this.#open();
    const { length } = data;
    const offset = this.#size;
    await write(this.#files, handle, data, offset);
    await this.#files.fsync(handle);
    this.#size += length;
    return { offset, length };
  }

  async #open(): Promise<number> {
    const isThere = this.#handle !== undefined || this.#files.names().includes(DEAD_LOG);
    this.#handle ??= isThere ? this.#files.open(DEAD_LOG) : await create(this.#files, DEAD_LOG);
    return this.#handle;
  }
}

/** Finish or undo a rewrite of the dead-letter file that a crash interrupted. */
export async function settleNames(files: Files): Promise<void> {
  const names = files.names();
  if (!names.includes(DEAD_TEMPORARY)) return;
  if (names.includes(DEAD_LOG)) await unlinkDurably(files, DEAD_TEMPORARY);
  else await renameDurably(files, DEAD_TEMPORARY, DEAD_LOG);
}
