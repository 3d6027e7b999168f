/**
 * The durable outbox: what `outbox.ts` and `schedule.ts` decide, carried out on `Files`.
 *
 * One promise is owned here: `put` resolves after the frame is durable, and what was put stays on
 * disk, live or among the dead letters, until the server has acknowledged it or an operator has
 * purged it. An acknowledgement needs no sync: if a crash forgets it, the same bytes go out again
 * and the server answers with the first outcome.
 */

import { Courier, type CourierClient, type Mailbox } from './courier.js';
import { configError, isFractalLBAError, OutboxError } from './errors.js';
import type { OutboxEvent } from './hooks.js';
import { DeadFile, LogFile, settleNames } from './journal.js';
import {
  DEAD_LOG,
  type DeadLetter,
  type Entry,
  encodeFrame,
  entryOf,
  FILE_BYTES,
  firstIdOf,
  halfRequeued,
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
  recoverFiles,
} from './outbox.js';
import type { Members } from './scanner.js';
import { type Bury, type Due, type Group, Schedule, type Verdict, WIDTH_MAX } from './schedule.js';
import { Space } from './space.js';
import {
  acquireLock,
  type Files,
  type Owner,
  releaseLock,
  renameDurably,
  type TicksOf,
  unlinkDurably,
} from './store.js';

/** Default of how many entries, dead letters included, an outbox holds before it is full. */
const MAX_ENTRIES = 100_000;

/**
 * Default of how many bytes of live frames, dead letters included, an outbox holds.
 *
 * The directory may take twice as much and two files more, until garbage is collected.
 */
const MAX_BYTES = 2 ** 30;

/**
 * Default age, from `sent_at`, at which an entry becomes a dead letter; below the shortest time for
 * which a server remembers ids.
 */
const MAX_AGE_MS = 13 * 86_400_000;

/** What a `put` frame is taken to need beside its body when the limits are checked. */
const PUT_OVERHEAD_BYTES = 512;

/** Limits and habits of an outbox. */
export interface OutboxOptions {
  /** Entries, dead letters included, before the outbox is full; 100,000. */
  readonly maxEntries?: number | undefined;
  /** Bytes of entries, dead letters included, before the outbox is full; 1 GiB. */
  readonly maxBytes?: number | undefined;
  /** Age, from `sent_at`, at which an entry becomes a dead letter; 13 days. */
  readonly maxAgeMs?: number | undefined;
  /** Whether a client sends waiting entries by itself, or in `flush` alone; true. */
  readonly background?: boolean | undefined;
}

/** What an outbox holds. */
export interface OutboxStats {
  readonly entries: number;
  readonly inFlight: number;
  readonly dead: number;
  readonly bytes: number;
  /** Absent if there is no entry. */
  readonly oldestSentAtMs?: number | undefined;
  /** Keys and tenants that the server refuses. */
  readonly blocked: readonly Group[];
  readonly corruptFiles: readonly string[];
  readonly unreadableFrames: number;
}

/** Keep signed records until the server has acknowledged them. One client uses an outbox. */
export class Outbox implements Mailbox {
  readonly background: boolean;
  readonly #files: Files;
  readonly #owner: Owner;
  readonly #maxEntries: number;
  readonly #maxBytes: number;
  readonly #maxAgeMs: number;
  readonly #log: LogFile;
  readonly #dead: DeadFile;
  readonly #space: Space;
  readonly #schedule = new Schedule(WIDTH_MAX);
  readonly #corrupt: string[] = [];
  #entries = new Map<string, Entry>();
  #unreadable = 0;
  #nextId = 1n;
  #isClosed = false;
  #events: OutboxEvent[] = [];
  #tell: ((event: OutboxEvent) => void) | undefined;
  #wake: (() => void) | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** Use `openOutbox`. */
  constructor(files: Files, owner: Owner, options: OutboxOptions, fileBytes: number) {
    const { maxEntries = MAX_ENTRIES, maxBytes = MAX_BYTES, maxAgeMs = MAX_AGE_MS } = options;
    for (const [name, value] of Object.entries({ maxEntries, maxBytes, maxAgeMs })) {
      if (!(typeof value === 'number' && value > 0))
        throw configError(name, 'a number above 0', value);
    }
    this.background = options.background ?? true;
    this.#files = files;
    this.#owner = owner;
    this.#maxEntries = maxEntries;
    this.#maxBytes = maxBytes;
    this.#maxAgeMs = maxAgeMs;
    this.#log = new LogFile(files);
    this.#dead = new DeadFile(files, fileBytes);
    this.#space = new Space(fileBytes);
  }

  // --- for the caller ------------------------------------------------------------------------

  /** Count entries, dead letters and damage. */
  stats(): OutboxStats {
    let oldestSentAtMs: number | undefined;
    for (const { atMs } of this.#entries.values()) {
      oldestSentAtMs = Math.min(atMs, oldestSentAtMs ?? atMs);
    }
    return {
      entries: this.#entries.size,
      inFlight: this.#schedule.inFlight,
      dead: this.#dead.places.size,
      bytes: this.#usedBytes(),
      oldestSentAtMs,
      blocked: this.#schedule.blocked,
      corruptFiles: [...this.#corrupt],
      unreadableFrames: this.#unreadable,
    };
  }

  /** Read the dead letters, oldest first. */
  dead(): Promise<DeadLetter[]> {
    return this.#alone(() =>
      this.#log.guarded(() => [...this.#dead.places.keys()].map((id) => this.#dead.read(id))),
    );
  }

  /**
   * Send a dead letter again, the same bytes; give the id of the new entry.
   *
   * One that is older than the greatest age comes back as `outbox_expired`. Throws NotFoundError.
   */
  requeue(id: string): Promise<string> {
    return this.#alone(async () => {
      const { letter } = await this.#log.guarded(() => this.#dead.read(id));
      const entry = await this.#appendPut({ ...letter, from: id });
      try {
        await this.#dropDead(id, 'requeued');
      } catch (error) {
        await this.#letGo(entry, 'not requeued');
        throw error;
      }
      this.#schedule.add(entry, false);
      this.#note('requeued', entry.id);
      return entry.id;
    }, true);
  }

  /** Remove a dead letter for good. Throws NotFoundError. */
  purge(id: string): Promise<void> {
    return this.#alone(async () => {
      await this.#log.guarded(() => this.#dead.read(id));
      await this.#dropDead(id, 'purged');
      this.#note('purged', id);
    });
  }

  /** Make everything durable and give the directory free. Close the client first. */
  close(): Promise<void> {
    return this.#alone(async () => {
      if (this.#isClosed) return;
      this.#isClosed = true;
      try {
        if (this.#log.isUsable) await this.#log.syncNow();
      } finally {
        await this.#log.guarded(() => this.#stop());
      }
    });
  }

  // --- for the client ------------------------------------------------------------------------

  courier(client: CourierClient): Courier {
    return new Courier(client, this);
  }

  listen(tell: (event: OutboxEvent) => void, wake: () => void): void {
    this.#tell = tell;
    this.#wake = wake;
  }

  /**
   * Keep a letter; give it with its id when it is durable. `inFlight` says that the caller sends it
   * himself. Throws OutboxError `outbox_full`, `outbox_expired`, or `outbox_corrupt` if the file
   * system fails.
   */
  async put(letter: Letter, nowMs: number, inFlight: boolean): Promise<Letter> {
    const { id } = await this.#alone(() => {
      if (this.#isExpired(letter, nowMs)) {
        throw new OutboxError('outbox_expired', 'sent_at is longer ago than the greatest age');
      }
      this.#checkRoom(letter.body.length);
      return this.#appendPut(letter);
    });
    await this.#log.sync();
    // While others had their turn it may have been moved, or signed again and released.
    const entry = this.#entries.get(id);
    if (entry) this.#schedule.add(entry, inFlight);
    this.#note('queued', id);
    this.#report(!inFlight);
    return { ...letter, id };
  }

  /**
   * Take due entries into flight. What is too old goes to the dead letters instead.
   *
   * Throws OutboxError `outbox_corrupt` once the outbox is closed.
   */
  take(nowMs: number, limit: number, bytesMax: number): Promise<Due> {
    return this.#alone(async () => {
      this.#log.checkOpen();
      const letters: Letter[] = [];
      for (const entry of this.#schedule.take(nowMs, limit, bytesMax)) {
        const letter = await this.#read(entry);
        if (!letter) await this.#lose(entry);
        else if (this.#isExpired(entry, nowMs)) await this.#bury(entry, EXPIRED, nowMs);
        else letters.push(letter);
      }
      await this.#remove(this.#space.removable());
      const { inFlight } = this.#schedule;
      return { letters, nextDueMs: this.#schedule.nextDueMs(), inFlight };
    });
  }

  /** Carry out what became of an entry in flight. */
  settle(id: string, verdict: Verdict, nowMs: number, u: number): Promise<void> {
    return this.#alone(async () => {
      this.#log.checkOpen();
      const entry = this.#entries.get(id);
      if (!entry) return;
      if (verdict.what === 'acknowledge') {
        await this.#mark('ack', id, { status: `${verdict.status}` });
        this.#forget(entry);
        this.#schedule.delivered();
        this.#schedule.resume(entry);
        this.#note('acknowledged', id);
      } else if (verdict.what === 'bury') {
        this.#schedule.delivered();
        await this.#bury(entry, verdict, nowMs);
      } else if (verdict.what === 'pause') {
        this.#schedule.pause(id, verdict.group);
        this.#note('outbox_blocked', id, verdict.code);
      } else {
        this.#schedule.postpone(id, verdict, nowMs, u);
        this.#note('postponed', id);
      }
      await this.#remove(this.#space.removable());
    }, true);
  }

  hurry(): void {
    this.#schedule.hurry();
  }

  /** Read the entries that were signed with one key. */
  lettersOf(kid: string | undefined): Promise<Letter[]> {
    return this.#alone(async () => {
      const letters: Letter[] = [];
      for (const entry of this.#entries.values()) {
        const letter = entry.kid === kid && (await this.#read(entry));
        if (letter) letters.push(letter);
      }
      return letters;
    });
  }

  /** Let an entry go that another one replaced. */
  release(id: string, reason: string): Promise<void> {
    return this.#alone(async () => {
      const entry = this.#entries.get(id);
      if (entry) await this.#letGo(entry, reason);
    });
  }

  // --- inside, one at a time -----------------------------------------------------------------

  /** Do some work alone, in the order of the calls, then report: hooks may call back. */
  async #alone<T>(work: () => T | Promise<T>, wakes = false): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    try {
      return await turn;
    } finally {
      this.#report(wakes);
    }
  }

  /** Tell what was noted. What is about the outbox itself waits for the first client. */
  #report(wakes: boolean): void {
    const events = this.#events;
    this.#events = this.#tell ? [] : events.filter(({ id }) => !id);
    if (this.#tell) events.forEach(this.#tell);
    if (wakes) this.#wake?.();
  }

  #note(kind: OutboxEvent['kind'], id?: string, code?: string): void {
    this.#events.push({ type: 'outbox', kind, id, code });
  }

  #isExpired({ atMs }: { readonly atMs: number }, nowMs: number): boolean {
    return atMs + this.#maxAgeMs <= nowMs;
  }

  #usedBytes(): number {
    return this.#space.liveBytes + this.#dead.liveBytes;
  }

  #checkRoom(bodyBytes: number): void {
    if (this.#entries.size + this.#dead.places.size >= this.#maxEntries) {
      throw full(`its limit of ${this.#maxEntries} entries, dead letters included`);
    }
    if (this.#usedBytes() + bodyBytes + PUT_OVERHEAD_BYTES > this.#maxBytes) {
      throw full(`its limit of ${this.#maxBytes} bytes, dead letters included`);
    }
  }

  /** Write an entry, not yet durable, under the next id. */
  async #appendPut(letter: Letter): Promise<Entry> {
    while (this.#space.isFull(this.#log.name)) {
      await this.#log.syncNow();
      await this.#createLog();
      await this.#collect();
    }
    if (this.#nextId === LAST_ID) throw full('every id');
    const entry = await this.#writePut({ ...letter, id: idOf(this.#nextId) });
    this.#nextId++;
    this.#entries.set(entry.id, entry);
    return entry;
  }

  async #writePut(letter: Letter): Promise<Entry> {
    const place = await this.#append(putFrame(letter));
    const entry = entryOf(letter, this.#log.name, place);
    this.#space.hold(entry);
    return entry;
  }

  async #append(frame: Members): Promise<Place> {
    const place = await this.#log.append(encodeFrame(frame));
    this.#space.grow(this.#log.name, place.length);
    return place;
  }

  /** Append a mark. It may be lost: without it an entry is only sent once more. */
  async #mark(t: string, id: string, facts: Members): Promise<void> {
    await this.#append({ t, id, ...facts }).catch((error: unknown) => {
      if (!isFractalLBAError(error)) throw error;
    });
  }

  /** Read the letter of an entry; undefined if its frame rotted. */
  async #read({ file, offset, length, id }: Entry): Promise<Letter | undefined> {
    const data = await this.#log.guarded(() => this.#files.readAt(file, offset, length));
    const letter = readLetter(readFrame(data)?.value);
    return letter?.id === id ? letter : undefined;
  }

  async #bury(entry: Entry, verdict: Omit<Bury, 'what'>, nowMs: number): Promise<void> {
    const { id } = entry;
    const letter = await this.#read(entry);
    if (!letter) return this.#lose(entry);
    const { status, code, reason, response } = verdict;
    try {
      await this.#log.guarded(() => this.#dead.add({ id, letter, status, code, reason, response }));
    } catch (error) {
      // It stays an entry: better sent once more than in neither place.
      this.#schedule.postpone(id, { what: 'later', endpointDown: false }, nowMs, 1);
      this.#note('postponed', id, (error as OutboxError).code);
      return;
    }
    await this.#mark('dead', id, {});
    this.#forget(entry);
    this.#note('dead', id, code);
  }

  /**
   * Remove a dead letter. Until then it outweighs the `put` in the log, so the mark that follows
   * there must be durable before: the first one may have been forgotten by a crash.
   */
  async #dropDead(id: string, reason: string): Promise<void> {
    await this.#append({ t: 'dead', id });
    await this.#log.syncNow();
    await this.#log.guarded(() => this.#dead.drop(id, reason));
  }

  /** Give up an entry whose frame rotted under us; it is counted and reported. */
  async #lose(entry: Entry): Promise<void> {
    this.#unreadable++;
    await this.#letGo(entry, 'outbox_corrupt');
    this.#note('outbox_corrupt', entry.id, 'outbox_corrupt');
  }

  async #letGo(entry: Entry, reason: string): Promise<void> {
    await this.#mark('release', entry.id, { reason });
    this.#forget(entry);
  }

  #forget(entry: Entry): void {
    this.#entries.delete(entry.id);
    this.#space.free(entry);
    this.#schedule.drop(entry.id);
  }

  // --- files ---------------------------------------------------------------------------------

  async #createLog(): Promise<void> {
    const newest = firstIdOf(this.#log.name);
    if (newest !== undefined && newest >= this.#nextId) this.#nextId = idAfter(newest);
    await this.#log.create(logName(this.#nextId));
    this.#space.start(this.#log.name, 0);
  }

  /** Remove files in which nothing is live, oldest first; carry what holds one up. */
  async #collect(): Promise<void> {
    await this.#remove(this.#space.removable());
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
      await this.#log.guarded(() => unlinkDurably(this.#files, name));
      this.#space.forget(name);
    }
  }

  /** Write the live entries of some files again at the end, and make that durable. */
  async #carry(names: readonly string[]): Promise<void> {
    for (const entry of [...this.#entries.values()].filter(({ file }) => names.includes(file))) {
      const letter = await this.#read(entry);
      if (!letter) {
        await this.#lose(entry);
        continue;
      }
      // Counted in its new place before it is given up in the old one: the disk may be full.
      const moved = await this.#writePut(letter);
      this.#space.free(entry);
      this.#entries.set(entry.id, moved);
      this.#schedule.move(moved);
    }
    await this.#log.syncNow();
  }

  #stop(): void {
    this.#log.stop();
    this.#dead.stop();
    releaseLock(this.#files, this.#owner);
  }

  // --- recovery ------------------------------------------------------------------------------

  /** Become the owner and read what an earlier one left; called once, by `openFiles`. */
  async open(ticksOf: TicksOf): Promise<void> {
    await acquireLock(this.#files, this.#owner, ticksOf);
    try {
      await this.#recover();
    } catch (error) {
      this.#stop();
      throw error;
    }
  }

  async #recover(): Promise<void> {
    await settleNames(this.#files);
    const found = recoverFiles(this.#files.names(), (name) => this.#files.read(name));
    this.#nextId = found.nextId;
    this.#entries = found.entries;
    this.#unreadable = found.unreadable;
    this.#corrupt.push(...found.corrupt);
    if (this.#corrupt.length) this.#note('outbox_corrupt', undefined, 'outbox_corrupt');
    for (const name of found.logs) this.#space.start(name, found.sizes.get(name) as number);
    for (const entry of this.#entries.values()) this.#space.hold(entry);
    await this.#takeOver(found);
    await this.#recoverDead(found);
    for (const entry of this.#entries.values()) this.#schedule.add(entry, false);
  }

  async #takeOver({ logs, sizes, cuts, corrupt }: Recovered): Promise<void> {
    const newest = logs.at(-1) ?? '';
    const isDamaged = logs.some((name) => corrupt.has(name));
    if (newest && !isDamaged) {
      return this.#log.resume(newest, sizes.get(newest) as number, cuts.has(newest));
    }
    this.#log.name = newest;
    await this.#createLog();
    if (!isDamaged) return;
    // All that is live goes to the new file; then the old ones go, oldest first.
    await this.#carry(logs);
    for (const name of logs) {
      if (corrupt.has(name)) {
        await this.#log.guarded(() => renameDurably(this.#files, name, `${name}.corrupt`));
        this.#space.forget(name);
      } else await this.#remove([name]);
    }
  }

  async #recoverDead(found: Recovered): Promise<void> {
    const size = found.sizes.get(DEAD_LOG);
    if (size === undefined) return;
    this.#dead.load(found.dead, size);
    await this.#log.guarded(async () => {
      if (found.corrupt.has(DEAD_LOG)) {
        await this.#dead.rewrite(`dead-${idOf(this.#nextId)}.corrupt`);
      } else if (found.cuts.has(DEAD_LOG)) await this.#dead.cut();
    });
    for (const id of halfRequeued(found)) await this.#dropDead(id, 'requeued');
  }
}

const EXPIRED = {
  status: undefined,
  code: 'outbox_expired',
  reason: 'older than max_age',
  response: '',
} as const;

function full(what: string): OutboxError {
  return new OutboxError('outbox_full', `the outbox holds ${what}`);
}

/** Open the outbox in the directory that `makeFiles` gives, for the process that `here` gives. */
export async function openFiles(
  makeFiles: () => Files,
  here: () => Owner,
  ticksOf: TicksOf,
  options: OutboxOptions = {},
  fileBytes = FILE_BYTES,
): Promise<Outbox> {
  try {
    const outbox = new Outbox(makeFiles(), here(), options, fileBytes);
    await outbox.open(ticksOf);
    return outbox;
  } catch (cause) {
    if (isFractalLBAError(cause)) throw cause;
    throw new OutboxError('outbox_corrupt', `the outbox cannot be opened: ${cause}`, { cause });
  }
}
